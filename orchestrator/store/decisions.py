"""What a race has decided so far, read from the journals alone."""

from __future__ import annotations

from orchestrator.store.fencing import journal_lines
from orchestrator.store.layout import Layout
from orchestrator.store.records import DecisionRecord, ReopenRecord, record_of
from orchestrator.store.spool import SpoolHealth

_MENTIONING = (b'"kind":"decision"', b'"kind":"reopen"')


def read_decisions(layout: Layout) -> list[DecisionRecord]:
    """The decisions that stand, in the order in which they were taken: those by the newest rule, the last of
    each cell, without any whose skipped runs were wanted again.
    """
    standing: dict[tuple[str, ...], DecisionRecord] = {}
    for line in journal_lines(layout, SpoolHealth(), live=True, mentioning=_MENTIONING):
        record = record_of(line.header)
        if isinstance(record, DecisionRecord):
            standing[tuple(record.cells)] = record
        elif isinstance(record, ReopenRecord):
            wanted = set(record.runs)
            standing = {cells: d for cells, d in standing.items() if not wanted.intersection(d.runs)}
    newest = [d.rule for d in standing.values()][-1:]
    return [d for d in standing.values() if d.rule in newest]
