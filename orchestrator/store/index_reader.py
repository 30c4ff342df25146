"""How what is known of every run is read back from the spools alone.

:func:`read_index` is the one reader of a directory's truth: the driver starts from it, and ``status`` and
``verify`` look at the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.store.digests import recorded_damage
from orchestrator.store.fencing import fences, journal_lines, spool_paths, strays
from orchestrator.store.layout import Layout, epoch_of
from orchestrator.store.outcomes import FoundResult
from orchestrator.store.records import (
    AcceptRecord,
    CloseRecord,
    DecisionRecord,
    EpochRecord,
    FailureRecord,
    JournalRecord,
    LeaseRecord,
    ManifestRecord,
    ReopenRecord,
    SettleRecord,
    StopRecord,
    VoidRecord,
    record_of,
)
from orchestrator.store.run_index import CODE, PENDING, FailureNote, RunIndex
from orchestrator.store.spool import Line, LineReader, SpoolHealth, read_spool

UNKNOWN = "unknown"
"""Kind of the record that stands where ``emsweep repair`` took out a line that could not be mended."""


@dataclass(kw_only=True)
class ReplayResult:
    """A directory's truth, and what was met on the way."""

    book: RunIndex
    """Every run."""
    epoch: int = 0
    """Epoch of the last driver; 0 when there was none."""
    health: SpoolHealth = field(default_factory=SpoolHealth)
    """Valid, corrupt and torn lines."""
    adopted: list[FoundResult] = field(default_factory=list)
    """Results that no journal mentions."""
    journalled: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the frozen files that the journals hold, by name (:mod:`.frozen`)."""
    num_superseded: int = 0
    """Valid results of runs that have another one committed."""
    num_foreign: int = 0
    """Valid results of runs that the manifest no longer holds."""
    doubly_accepted: list[int] = field(default_factory=list)
    """Runs whose commit the journals record at more than one place."""
    unreadable: list[int] = field(default_factory=list)
    """Runs whose accepted result can no longer be read."""
    missing: list[int] = field(default_factory=list)
    """Those of them that have no other result either."""
    closed: bool = False
    """Whether the last driver ended by itself."""
    journal_damage: list[tuple[str, str]] = field(default_factory=list)
    """Journals that do not hold what was written to them, each with what is wrong: a cancel may be among what
    is gone.
    """
    num_unknown: int = 0
    """Lines of journals that could not be mended; what they decided is unknown."""
    strays: list[str] = field(default_factory=list)
    """Files among the spools that are called as journals are and are none."""

    def findings(self) -> list[str]:
        """What reading brought to light, for people."""
        health, found = self.health, []
        if self.adopted:
            found.append(f"{len(self.adopted)} results that no driver had committed were found and kept")
        if health.num_torn:
            found.append(f"{health.num_torn} spools end in a torn line, which was skipped")
        if health.num_corrupt:
            name, offset = health.corrupt_at[0]
            found.append(f"{health.num_corrupt} corrupt lines were skipped, the first in {name} at {offset}")
        found += [f"journal {name} {why}" for name, why in self.journal_damage]
        if self.num_unknown:
            found.append(f"{self.num_unknown} journal lines were lost; what they decided is unknown")
        if health.num_fenced:
            found.append(f"{health.num_fenced} lines of a driver that had been replaced are void")
        if self.strays:
            found.append(f"{', '.join(self.strays)}: no journal by its name, passed over")
        if self.missing:
            found.append(
                f"{len(self.missing)} committed results can no longer be read and are computed again"
            )
        return found


def read_index(layout: Layout, run_ids: Sequence[str], *, live: bool = False) -> ReplayResult:
    """Read all journals in the order of their epochs, then all results.

    Args:
        layout: the directory.
        run_ids: the manifest's runs.
        live: a driver is at work; incomplete last lines are not counted as torn.
    """
    reading = ReplayResult(book=RunIndex(run_ids))
    journals, spools = layout.journal_paths(), spool_paths(layout)
    reading.strays = [path.name for path in strays(layout)]
    if not (journals or spools):
        return reading
    index_of = {run_id: index for index, run_id in enumerate(run_ids)}
    for line in journal_lines(layout, reading.health, live=live):
        record = record_of(line.header)
        if record is not None:
            replay_record(record, reading, index_of)
        elif line.header["kind"].strip() in ("", UNKNOWN):
            reading.num_unknown += 1
    reading.journal_damage = _journal_damage(layout, journals, reading.health)
    _confirm(layout, spools, reading, index_of, live)
    return reading


def _journal_damage(layout: Layout, journals: list[Path], health: SpoolHealth) -> list[tuple[str, str]]:
    found = {}
    for name, offset in health.corrupt_at:
        if (health.read_bytes[name] > offset or name in health.garbled) and name not in found:
            found[name] = f"has a damaged line at byte {offset:,}"
    for path in journals:
        if path.name not in found and (why := recorded_damage(layout, path)):
            found[path.name] = why
    return sorted(found.items())


def results_of(book: RunIndex, lines: LineReader) -> Iterator[tuple[int, Line]]:
    """Runs that have a result, each with its line where that can still be read."""
    for run in filter(book.committed, range(len(book))):
        if (line := lines.read(book.spools[book.spool[run]], *book.location(run))) is not None:
            yield run, line


def next_epoch(layout: Layout) -> int:
    """One more than any driver's so far."""
    return 1 + max(map(epoch_of, layout.journal_paths()), default=0)


def replay_record(record: JournalRecord, reading: ReplayResult, index_of: Mapping[str, int]) -> None:
    """Apply one journal record to what is known so far; runs that ``index_of`` lacks are passed over."""
    book = reading.book
    match record:
        case LeaseRecord():
            attempts = book.attempts
            for run_id in record.runs:
                if (leased := index_of.get(run_id)) is not None:
                    attempts[leased] += 1
        case AcceptRecord():
            for run_id, offset, length, outcome, _ in record.runs:
                if (run := index_of.get(run_id)) is None:
                    continue
                if not book.committed(run):
                    book.commit(run, outcome, record.spool, offset, length)
                elif (book.spools[book.spool[run]], book.offset[run]) != (record.spool, offset):
                    reading.doubly_accepted.append(run)
        case FailureRecord():
            for index in _known((record.run_id,), index_of):
                note = FailureNote(record.failure, record.attempt, record.worker, record.at)
                book.note_failure(index, note)
        case SettleRecord():
            for index in _known(record.runs, index_of):
                if not book.committed(index):
                    book.outcome[index] = CODE[record.outcome]
        case ReopenRecord():
            for index in _known(record.runs, index_of):
                book.reopen(index)
        case VoidRecord():
            for index in _known(record.runs, index_of):
                if book.committed(index):
                    book.outcome[index] = PENDING
                if index in reading.doubly_accepted:
                    reading.doubly_accepted = [i for i in reading.doubly_accepted if i != index]
        case DecisionRecord():
            book.decide(record, _known(record.runs, index_of))
        case StopRecord():
            for index in _known((record.run_id,), index_of):
                book.stop(index, record)
        case ManifestRecord():
            if record.part == record.parts - 1:
                reading.journalled[record.name] = record.sha256
        case EpochRecord():
            reading.epoch, reading.closed = record.epoch, False
        case CloseRecord():
            reading.closed = True


def _known(run_ids: Iterable[str], index_of: Mapping[str, int]) -> Iterator[int]:
    return (index for run_id in run_ids if (index := index_of.get(run_id)) is not None)


def _confirm(
    layout: Layout, spools: list[Path], reading: ReplayResult, index_of: Mapping[str, int], live: bool
) -> None:
    """Read every result: confirm the accepted ones, adopt what nobody accepted, replace what was lost."""
    book = reading.book
    confirmed = bytearray(len(book))
    spare: dict[int, list[FoundResult]] = {}
    limits = fences(layout)
    for path in spools:
        name = path.name
        number = book.spool_number(name)
        for line in read_spool(path, reading.health, live=live, end=limits.get(name)):
            header = line.header
            if header["kind"] != "result":
                continue
            index = index_of.get(header["run_id"])
            if index is None:
                reading.num_foreign += 1
            elif book.committed(index) and (book.spool[index], book.offset[index]) == (number, line.offset):
                confirmed[index] = 1
            else:
                spare.setdefault(index, []).append(found_result(index, name, line))
    for index in range(len(book)):
        if book.committed(index) and not confirmed[index]:
            book.outcome[index] = PENDING
            reading.unreadable.append(index)
            if index not in spare:
                reading.missing.append(index)
    for index, results in spare.items():
        if book.outcome[index] == PENDING:
            first = results.pop(0)
            book.commit(index, first.outcome, first.spool, first.offset, first.length)
            reading.adopted.append(first)
        reading.num_superseded += len(results)


def found_result(index: int, spool: str, line: Line) -> FoundResult:
    """A ``result`` line as something to commit."""
    header = line.header
    return FoundResult(index, spool, line.offset, line.length, header["outcome"], header.get("token"))
