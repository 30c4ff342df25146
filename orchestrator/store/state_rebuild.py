"""Writes ``state.sqlite`` anew from journals and spools, where it is missing or behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from orchestrator.store import digest_writer
from orchestrator.store.attempts import AttemptBegan, AttemptOver, AttemptReader
from orchestrator.store.fencing import journal_lines
from orchestrator.store.layout import Layout, epoch_of
from orchestrator.store.records import record_of
from orchestrator.store.run_index import DIVERGED, DONE, PENDING, RunIndex
from orchestrator.store.spool import LineReader, SpoolHealth
from orchestrator.store.sqlite_path import state_path
from orchestrator.store.state import RunRow, StateWriter, remove_state
from orchestrator.store.state_reader import is_complete
from sweeps.manifest.manifest import Manifest


def opened_state(
    layout: Layout, manifest: Manifest, book: RunIndex, epoch: int, *, fill: bool
) -> StateWriter:
    """The index, to be written on by the driver of ``epoch``; with ``fill`` it is written anew first."""
    digest_writer.forget(layout, [layout.state.name])
    path = state_path(layout)
    if not fill:
        return StateWriter(path, epoch=epoch, manifest=manifest.digest)
    try:
        return _filled(layout, manifest, book, epoch)
    except sqlite3.DatabaseError:  # damaged pages, which show once they are written on
        remove_state(path)
        return _filled(layout, manifest, book, epoch)


def _filled(layout: Layout, manifest: Manifest, book: RunIndex, epoch: int) -> StateWriter:
    writer = StateWriter(state_path(layout), epoch=epoch, manifest=manifest.digest)
    writer.replace_all(run_rows(layout, book), _changes(layout))
    return writer


def bring_up_to_date(layout: Layout, manifest: Manifest, book: RunIndex) -> None:
    """Write the index anew unless it says all that the journals say; no driver is at work."""
    journals = layout.journal_paths()
    if not journals or is_complete(layout, manifest):
        return
    writer = opened_state(layout, manifest, book, epoch_of(journals[-1]), fill=True)
    close_state(layout, writer, journals[-1].stat().st_size)


def close_state(layout: Layout, writer: StateWriter, journal_bytes: int) -> None:
    """Close the index, and take down its digest: from here on it may answer."""
    writer.close(journal_bytes)
    digest_writer.record(layout, state_path(layout))


def run_rows(layout: Layout, book: RunIndex) -> Iterator[RunRow]:
    """The row of every run that is over."""
    lines = LineReader(layout.spools)
    for index, code in enumerate(book.outcome):
        if code in (DONE, DIVERGED):
            spool, location = book.spools[book.spool[index]], book.location(index)
            line = lines.read(spool, *location)
            if line is not None:
                head = line.header
                yield RunRow(
                    book.run_ids[index], book.outcome_of(index), head["attempt"], head["worker"], spool,
                    *location, head["finished_at"],
                )  # fmt: skip
        elif code != PENDING:
            yield row_without_result(book, index)
    lines.close()


def row_without_result(book: RunIndex, index: int) -> RunRow:
    """The row of a run that ended in failure, was cancelled or stopped, or is not needed."""
    outcome, note = book.outcome_of(index), book.notes.get(index)
    if note is None or outcome in ("cancelled", "skipped", "stopped"):
        return RunRow(book.run_ids[index], outcome)
    return RunRow(
        book.run_ids[index],
        outcome,
        note.attempt,
        note.worker,
        finished_at=note.at,
        failure_class=note.failure.failure_class,
        error=note.failure.message,
        fingerprint=note.failure.fingerprint,
    )


def _changes(layout: Layout) -> Iterator[AttemptBegan | AttemptOver]:
    reader = AttemptReader()
    for line in journal_lines(layout, SpoolHealth(), live=True):
        record = record_of(line.header)
        if record is not None:
            yield from reader.changes(record)
