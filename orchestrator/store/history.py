"""What became of one run, told from the journals: each attempt, where it ran, how it ended, and what was
decided. The one reader of a run's story for ``status``, the log and the dashboard.

Journals are append-only files that only drivers write; reading them needs no lock, and a line that does not
mention the run is not parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.store.attempts import AttemptBegan, AttemptOver, AttemptReader
from orchestrator.store.fencing import fences, journal_lines, spool_paths
from orchestrator.store.index_reader import ReplayResult, found_result, replay_record
from orchestrator.store.layout import Layout
from orchestrator.store.liveness import live_driver
from orchestrator.store.outcomes import AttemptEnd, Failure, Outcome
from orchestrator.store.records import (
    AcceptRecord,
    EndRecord,
    EpochRecord,
    JournalRecord,
    LeaseRecord,
    ReopenRecord,
    SettleRecord,
    VoidRecord,
    record_of,
)
from orchestrator.store.run_index import PENDING, RunIndex
from orchestrator.store.spool import LineReader, SpoolHealth, read_spool


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try at a run."""

    attempt: int
    """Zero-based number."""
    token: int
    """Its lease."""
    worker: str
    """Who was given it."""
    granted_at: float | None
    """When, Unix seconds; ``None`` is unknown: format 1 did not keep it."""
    ended: AttemptEnd | None
    """``None`` when nobody heard of its end."""
    ended_at: float | None
    """When the driver heard of it, Unix seconds."""
    failure: Failure | None
    """What went wrong, where it failed."""


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """What became of one run."""

    outcome: Outcome
    error: str | None
    """Why it has no result, where it failed."""
    attempts: tuple[Attempt, ...]
    """Every try, oldest first."""
    records: tuple[JournalRecord, ...]
    """What the journals say of it, in order; of batches this run only."""


def history_of(layout: Layout, run_id: str) -> RunHistory:
    """The history of a run; one that no journal mentions is pending, without an attempt."""
    reading = ReplayResult(book=RunIndex([run_id]))
    reader, index_of = AttemptReader(), {run_id: 0}
    begun: dict[int, AttemptBegan] = {}
    over: dict[int, AttemptOver] = {}
    records = []
    for record in _records(layout, run_id):
        replay_record(record, reading, index_of)
        for change in reader.changes(record):
            if isinstance(change, AttemptOver):
                if change.token in begun:
                    over[change.token] = change
            elif change.run_id == run_id:
                begun[change.token] = change
        if not isinstance(record, EpochRecord):
            records.append(_about(record, run_id))
    _look_for_result(layout, reading, over)
    outcome, note = reading.book.outcome_of(0), reading.book.notes.get(0)
    failed = outcome in ("failed", "quarantined")
    return RunHistory(
        outcome=outcome,
        error=note.failure.message if note is not None and failed else None,
        attempts=tuple(_attempt(began, over.get(token)) for token, began in sorted(begun.items())),
        records=tuple(records),
    )


def attempt_ends(layout: Layout) -> dict[int, AttemptEnd]:
    """How each attempt of a sweep ended that a driver heard the end of, by its lease."""
    reader, ends = AttemptReader(), {}
    for line in journal_lines(layout, SpoolHealth(), live=True):
        record = record_of(line.header)
        for change in reader.changes(record) if record is not None else ():
            if isinstance(change, AttemptOver):
                ends[change.token] = change.ended
    return ends


def _records(layout: Layout, run_id: str) -> Iterator[JournalRecord]:
    """Records that mention the run, and the beginning of each journal, which says its format."""
    mentioning = (run_id.encode(), b'"kind":"epoch"')
    for line in journal_lines(layout, SpoolHealth(), live=True, mentioning=mentioning):
        record = record_of(line.header)
        if record is not None:
            yield record


def _about(record: JournalRecord, run_id: str) -> JournalRecord:
    """A record with what it says of other runs left out."""
    match record:
        case LeaseRecord():
            position = record.runs.index(run_id)
            attempts = record.attempts[position : position + 1]
            return replace(record, token=record.token + position, runs=(run_id,), attempts=attempts)
        case AcceptRecord():
            return replace(record, runs=tuple(result for result in record.runs if result.run_id == run_id))
        case EndRecord():
            return replace(record, attempts=tuple(end for end in record.attempts if end.run_id == run_id))
        case SettleRecord() | ReopenRecord() | VoidRecord():
            return replace(record, runs=(run_id,))
    return record


def _look_for_result(layout: Layout, reading: ReplayResult, over: dict[int, AttemptOver]) -> None:
    """Hold the outcome against the spools: a result that is gone counts no more, and one counts that a dead
    driver did not live to commit.
    """
    book, lines = reading.book, LineReader(layout.spools)
    if book.committed(0):
        if lines.read(book.spools[book.spool[0]], *book.location(0)) is None:
            book.outcome[0] = PENDING
        lines.close()
    if book.outcome[0] != PENDING or live_driver(layout) is not None:
        return
    limits, mentioning = fences(layout), (book.run_ids[0].encode(),)
    for path in spool_paths(layout):
        end = limits.get(path.name)
        for line in read_spool(path, SpoolHealth(), live=True, mentioning=mentioning, end=end):
            if line.header["kind"] == "result" and line.header["run_id"] == book.run_ids[0]:
                result = found_result(0, path.name, line)
                book.commit(0, result.outcome, *result[1:4])
                if result.token is not None:
                    over[result.token] = AttemptOver(result.token, result.outcome, line.header["finished_at"])
                return


def _attempt(began: AttemptBegan, over: AttemptOver | None) -> Attempt:
    return Attempt(
        attempt=began.attempt,
        token=began.token,
        worker=began.worker,
        granted_at=began.at,
        ended=over.ended if over else None,
        ended_at=over.at if over else None,
        failure=over.failure if over else None,
    )
