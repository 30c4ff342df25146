"""Reads ``state.sqlite``: the answers that need not wait for every spool to be read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator.store.digests import is_intact
from orchestrator.store.layout import Layout
from orchestrator.store.outcomes import Failure, failure_class_of
from orchestrator.store.run_index import CODE, FailureNote, RunIndex
from orchestrator.store.sqlite_path import state_path
from orchestrator.store.state import VERSION
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import DamagedError

T = TypeVar("T")


def indexed_runs(layout: Layout, manifest: Manifest) -> RunIndex | None:
    """Outcomes and failures of every run, or ``None`` unless the last driver ended by itself and saw to it.

    Nothing is proven here: whether each result can still be read is what ``verify`` finds out.
    """
    return _ask(layout, manifest, lambda db: _book(db, manifest))


def is_complete(layout: Layout, manifest: Manifest) -> bool:
    """Whether the index says all that the journals say, of this manifest's runs."""
    return _ask(layout, manifest, lambda _: True) is not None


def _book(db: sqlite3.Connection, manifest: Manifest) -> RunIndex:
    book, index_of = RunIndex(manifest.run_ids), manifest.index_of
    for run_id, outcome in db.execute("SELECT run_id, outcome FROM runs"):
        if (index := index_of.get(run_id)) is not None:
            book.outcome[index] = CODE[outcome]
    columns = "run_id, class, fingerprint, error, attempt, worker, finished_at"
    for run_id, word, fingerprint, error, attempt, worker, at in db.execute(
        f"SELECT {columns} FROM runs WHERE class IS NOT NULL ORDER BY finished_at"
    ):
        if (index := index_of.get(run_id)) is not None:
            failure = Failure(failure_class_of(word), fingerprint, error)
            book.notes[index] = FailureNote(failure, attempt, worker, at)
    return book


def _ask(layout: Layout, manifest: Manifest, question: Callable[[sqlite3.Connection], T]) -> T | None:
    """The answer of an index that belongs to this manifest and driver and is complete."""
    path = state_path(layout)
    try:
        if not path.exists() or not is_intact(layout, path):
            return None
        if not all(is_intact(layout, journal) for journal in layout.journal_paths()):
            return None
        with contextlib.closing(_opened(path)) as db:
            return question(db) if _is_complete(db, layout, manifest) else None
    except (sqlite3.DatabaseError, KeyError, DamagedError, OSError):
        return None


def _opened(path: Path) -> sqlite3.Connection:
    """The database, to be read. Without a log of its own, nobody writes it and it is left untouched."""
    log = path.with_name(path.name + "-wal")
    return sqlite3.connect(f"file:{path}?mode=ro" + ("" if log.exists() else "&immutable=1"), uri=True)


def _is_complete(db: sqlite3.Connection, layout: Layout, manifest: Manifest) -> bool:
    if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
        return False
    facts = dict(db.execute("SELECT key, value FROM meta"))
    journals = layout.journal_paths()
    return (
        bool(journals)
        and facts["manifest"] == manifest.digest
        and journals[-1] == layout.journal(facts["epoch"])
        and bool(facts["closed"])
        and journals[-1].stat().st_size == facts["journal_bytes"]
    )
