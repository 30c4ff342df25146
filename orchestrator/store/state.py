"""``state.sqlite``: an index of what the spools hold. WAL, one writer, batched commits.

It answers at once what the spools tell only to who reads them all: how many runs are in which state, which
failed and why, and the story of one run, attempt by attempt. Tables: ``meta(key, value)``; ``runs(run_id,
outcome, attempt, worker, spool, offset, length, finished_at, class, error, fingerprint)``, one row
per run that is over; ``attempts(token, run_id, attempt, worker, granted_at, ended)``.

Derived data: a file that is missing, damaged, of another version or behind the journal is written anew from
journals and spools (:mod:`orchestrator.store.state_rebuild`), and readers fall back to the spools unless it
has kept up with the journal to the last byte (:mod:`orchestrator.store.state_reader`).
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.store.attempts import AttemptBegan, AttemptOver
from orchestrator.store.disk_space import TOO_LARGE, is_too_large
from orchestrator.store.outcomes import AttemptEnd, Outcome

VERSION = 3
"""Of the tables, stored as SQLite's ``user_version``; 2 lacked what only later journals hold."""

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY, outcome TEXT NOT NULL, attempt INTEGER, worker TEXT, spool TEXT, offset INTEGER,
  length INTEGER, finished_at REAL, class TEXT, error TEXT, fingerprint TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
  token INTEGER PRIMARY KEY, run_id TEXT NOT NULL, attempt INTEGER, worker TEXT, granted_at REAL, ended TEXT);
PRAGMA user_version = {VERSION};
"""

_INSERT_ATTEMPT = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, NULL)"
_UPDATE_ATTEMPT = "UPDATE attempts SET ended = ? WHERE token = ?"
_INSERT_RUN = f"INSERT OR REPLACE INTO runs VALUES ({','.join('?' * 11)})"
_INSERT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"

CACHE_KIB = 4_096
"""Page cache: the upper levels of a million random run_ids; the system caches the rest of the file."""


REBUILD_ROWS = 50_000
"""Attempts gathered at a time while the file is written anew: bounds memory to about 20 MiB."""


class RunRow(NamedTuple):
    """One row of ``runs``: a run that is over."""

    run_id: str
    outcome: Outcome
    attempt: int | None = None
    worker: str | None = None
    spool: str | None = None
    offset: int | None = None
    length: int | None = None
    finished_at: float | None = None
    failure_class: str | None = None
    error: str | None = None
    fingerprint: str | None = None


class StateWriter:
    """The single writer. Rows gather in memory and are written by :meth:`flush` in one transaction."""

    def __init__(self, path: Path, *, epoch: int, manifest: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = _open(path)
        self._runs: list[RunRow] = []
        self._grants: list[AttemptBegan] = []
        self._ends: list[tuple[AttemptEnd, int]] = []
        self._forget: list[tuple[str]] = []
        self._journal_bytes = 0
        facts = [("epoch", epoch), ("manifest", manifest), ("journal_bytes", 0), ("closed", 0)]
        with self._db:
            self._db.executemany(_INSERT_META, facts)

    def about(self, manifest: str) -> None:
        """The digest of the manifest that this is the index of from now on."""
        with _as_os_error(), self._db:
            self._db.execute(_INSERT_META, ("manifest", manifest))

    def granted(self, rows: Iterable[AttemptBegan]) -> None:
        """Attempts began."""
        self._grants.extend(rows)

    def ended(self, rows: Iterable[tuple[AttemptEnd, int]]) -> None:
        """Attempts ended: how, and under which token."""
        self._ends.extend(rows)

    def settled(self, rows: Iterable[RunRow]) -> None:
        """Runs are over."""
        self._runs.extend(rows)

    def pending_again(self, run_id: str) -> None:
        """A run that was over is no longer: its result cannot be read, or it gets another chance."""
        self._forget.append((run_id,))

    def replace_all(self, rows: Iterable[RunRow], changes: Iterable[AttemptBegan | AttemptOver]) -> None:
        """Forget everything and write these runs, and the attempts that these changes make.

        Raises:
            OSError: when the disk is full or fails.
        """
        with _as_os_error(), self._db:
            self._db.execute("DELETE FROM runs")
            self._db.execute("DELETE FROM attempts")
            self._db.executemany(_INSERT_RUN, rows)
            for change in changes:
                if isinstance(change, AttemptBegan):
                    self._grants.append(change)
                else:
                    self._ends.append((change.ended, change.token))
                if len(self._grants) + len(self._ends) >= REBUILD_ROWS:
                    self._write_attempts()
            self._write_attempts()

    def _write_attempts(self) -> None:
        self._db.executemany(_INSERT_ATTEMPT, self._grants)
        self._db.executemany(_UPDATE_ATTEMPT, self._ends)
        self._grants.clear()
        self._ends.clear()

    def flush(self, journal_bytes: int) -> None:
        """Commit what has gathered: everything that the first ``journal_bytes`` of the journal say.

        Raises:
            OSError: when the disk is full or fails; the rows stay for the next call.
        """
        gathered: tuple[list[Any], ...] = (self._grants, self._ends, self._runs, self._forget)
        if journal_bytes == self._journal_bytes and not any(gathered):
            return
        with _as_os_error(), self._db:
            self._db.executemany(_INSERT_ATTEMPT, self._grants)
            self._db.executemany(_UPDATE_ATTEMPT, self._ends)
            self._db.executemany("DELETE FROM runs WHERE run_id = ?", self._forget)
            self._db.executemany(_INSERT_RUN, self._runs)
            self._db.execute(_INSERT_META, ("journal_bytes", journal_bytes))
        self._journal_bytes = journal_bytes
        for rows in gathered:
            rows.clear()

    def close(self, journal_bytes: int) -> None:
        """Commit what has gathered, note that the driver ended by itself, fold the log into the file.

        Raises:
            OSError: when the disk is full or fails.
        """
        self.flush(journal_bytes)
        with _as_os_error(), self._db:
            self._db.execute(_INSERT_META, ("closed", 1))
        with _as_os_error():
            # Closing folds the log only where nobody else has the file open, and its digest is taken next.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """SQLite's word for a disk that takes nothing."""
    try:
        yield
    except sqlite3.OperationalError as error:
        number = TOO_LARGE if is_too_large(error) else errno.ENOSPC
        raise OSError(number, f"state.sqlite: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    """Open the database, replacing a file that is not one of this version."""
    for second_try in (False, True):
        db = sqlite3.connect(path)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            known = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if known and version != VERSION:
                raise sqlite3.DatabaseError(f"version {version}")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            db.executescript(_SCHEMA)
            return db
        except sqlite3.DatabaseError as error:
            db.close()
            if second_try or isinstance(error, sqlite3.OperationalError):
                raise
            remove_state(path)
    raise AssertionError("unreachable")


def remove_state(path: Path) -> None:
    """Remove an index and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
