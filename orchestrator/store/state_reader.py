"""Reads ``state.sqlite``: the answers that need not wait for every spool to be read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from orchestrator.scheduling.retry import Failure
from orchestrator.store.layout import Layout
from orchestrator.store.run_index import CODE, FailureNote, RunIndex, journal_paths
from orchestrator.store.sqlite_path import state_path
from orchestrator.store.state import VERSION
from sweeps.manifest.manifest import Manifest

T = TypeVar("T")


class Attempt(NamedTuple):
    """One try at a run."""

    attempt: int
    """Zero-based number."""
    worker: str
    """Who was given it."""
    granted_at: float
    """When, Unix seconds."""
    ended: str | None
    """``done``, ``diverged``, ``failed`` or ``cancelled``; ``None`` when nobody heard of its end."""


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """What became of one run."""

    outcome: str
    """One of :data:`orchestrator.store.layout.OUTCOMES`."""
    error: str | None
    """Why it has no result, where it failed."""
    attempts: list[Attempt]
    """Every try, oldest first."""


def indexed_runs(layout: Layout, manifest: Manifest) -> RunIndex | None:
    """Outcomes and failures of every run, or ``None`` unless the last driver ended by itself and saw to it.

    Nothing is proven here: whether each result can still be read is what ``verify`` finds out.
    """
    return _ask(layout, manifest, lambda db: _book(db, manifest))


def history_of(layout: Layout, manifest: Manifest, index: int) -> RunHistory | None:
    """Every attempt at one run, or ``None`` without an index; what a live driver tells is a moment old."""
    return _ask(layout, manifest, lambda db: _story(db, manifest.run_ids[index]), lag=True)


def _book(db: sqlite3.Connection, manifest: Manifest) -> RunIndex:
    book, index_of = RunIndex(manifest.run_ids), manifest.index_of
    for run_id, outcome in db.execute("SELECT run_id, outcome FROM runs"):
        if (index := index_of.get(run_id)) is not None:
            book.outcome[index] = CODE[outcome]
    columns = "run_id, class, fingerprint, error, attempt, worker, finished_at"
    for run_id, *failure, attempt, worker, at in db.execute(
        f"SELECT {columns} FROM runs WHERE class IS NOT NULL ORDER BY finished_at"
    ):
        if (index := index_of.get(run_id)) is not None:
            book.notes[index] = FailureNote(Failure(*failure), attempt, worker, at)
    return book


def _story(db: sqlite3.Connection, run_id: str) -> RunHistory:
    found = db.execute("SELECT outcome, error FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    outcome, error = found or ("pending", None)
    tries = "SELECT attempt, worker, granted_at, ended FROM attempts WHERE run_id = ? ORDER BY token"
    attempts = [Attempt(*row) for row in db.execute(tries, (run_id,))]
    return RunHistory(outcome=outcome, error=error, attempts=attempts)


def _ask(
    layout: Layout, manifest: Manifest, question: Callable[[sqlite3.Connection], T], *, lag: bool = False
) -> T | None:
    """The answer of an index that belongs to this manifest and driver and, unless it may lag, is complete."""
    path = state_path(layout)
    if not path.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return question(db) if _belongs(db, layout, manifest, lag=lag) else None
    except (sqlite3.DatabaseError, KeyError):
        return None


def _belongs(db: sqlite3.Connection, layout: Layout, manifest: Manifest, *, lag: bool) -> bool:
    if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
        return False
    facts = dict(db.execute("SELECT key, value FROM meta"))
    journals = journal_paths(layout)
    return (
        bool(journals)
        and facts["manifest"] == manifest.digest
        and journals[-1] == layout.journal(facts["epoch"])
        and (lag or (facts["closed"] and journals[-1].stat().st_size == facts["journal_bytes"]))
    )
