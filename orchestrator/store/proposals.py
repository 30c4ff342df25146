"""What a search has proposed so far, read from the journals alone."""

from __future__ import annotations

from orchestrator.store.fencing import journal_lines
from orchestrator.store.layout import Layout
from orchestrator.store.records import ProposalRecord, record_of
from orchestrator.store.spool import SpoolHealth

_MENTIONING = (b'"kind":"proposal"',)


def read_proposals(layout: Layout) -> list[ProposalRecord]:
    """Every proposal, in the order in which they were made."""
    lines = journal_lines(layout, SpoolHealth(), live=True, mentioning=_MENTIONING)
    records = (record_of(line.header) for line in lines)
    return [record for record in records if isinstance(record, ProposalRecord)]
