"""How far each journal and spool counts, and the one way to read them in order.

A driver's first record says how many bytes of every older file it has read. What an older driver or its
workers append later, because they did not notice that they were replaced, is void for every reader: it is
counted as fenced, never as a result. Journals of format 1 say nothing; there everything counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.store.layout import JOURNAL, Layout, epoch_of
from orchestrator.store.records import EpochRecord, record_of
from orchestrator.store.spool import Line, SpoolHealth, decode_line, read_spool

_WORKER = re.compile(r"e(\d+)-.*\.jsonl")
"""Names of workers' spools: the driver's life that started them comes first."""


def spool_paths(layout: Layout) -> list[Path]:
    """The workers' spools, by name."""
    found = layout.spools.glob("*.jsonl")
    return sorted(p for p in found if not p.name.startswith("driver-") and p.is_file())


def strays(layout: Layout) -> list[Path]:
    """Files that are called as journals are and are none, such as a copy."""
    return sorted(
        p for p in layout.spools.glob("driver-*") if not (JOURNAL.fullmatch(p.name) and p.is_file())
    )


def fences(layout: Layout) -> Mapping[str, int]:
    """Bytes of each file that count, by name; one that is not named counts whole."""
    epochs = [record for path in layout.journal_paths() if (record := _first_record(path)) is not None]
    limits: dict[str, int] = {}
    for path in (*layout.journal_paths(), *spool_paths(layout)):
        own = _own_epoch(path)
        later = next((e for e in epochs if own is not None and e.epoch > own and e.format >= 2), None)
        if later is not None:
            limits[path.name] = later.read.get(path.name, 0)
    return limits


def journal_lines(
    layout: Layout, health: SpoolHealth, *, live: bool = False, mentioning: Sequence[bytes] = ()
) -> Iterator[Line]:
    """The lines of all journals that count, in the order of their epochs; see :func:`read_spool`."""
    limits = fences(layout)
    for path in layout.journal_paths():
        end = limits.get(path.name)
        yield from read_spool(path, health, live=live, mentioning=mentioning, end=end)


def _own_epoch(path: Path) -> int | None:
    if JOURNAL.fullmatch(path.name):
        return epoch_of(path)
    found = _WORKER.fullmatch(path.name)
    return int(found[1]) if found else None


def _first_record(journal: Path) -> EpochRecord | None:
    with journal.open("rb") as file:
        line = decode_line(file.readline())
    record = record_of(line.header) if line is not None else None
    return record if isinstance(record, EpochRecord) else None
