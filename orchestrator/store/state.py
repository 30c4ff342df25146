"""``state.sqlite``: an index of what the spools hold. WAL, one writer, batched commits.

It answers at once what the spools tell only to who reads them all: how many runs are in which state, which
failed and why, and the story of one run, attempt by attempt. Tables: ``meta(key, value)``; ``runs(run_id,
outcome, attempt, worker, spool, offset, length, finished_at, wall_s, class, error, fingerprint)``, one row
per run that is over; ``attempts(token, run_id, attempt, worker, granted_at, ended)``.

Derived data: a file that is missing, damaged or of another version is written anew by the next driver, and
readers fall back to the spools unless it has kept up with the journal to the last byte
(:mod:`orchestrator.store.state_reader`).
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

VERSION = 2
"""Of the tables, stored as SQLite's ``user_version``."""

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY, outcome TEXT NOT NULL, attempt INTEGER, worker TEXT, spool TEXT, offset INTEGER,
  length INTEGER, finished_at REAL, wall_s REAL, class TEXT, error TEXT, fingerprint TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
  token INTEGER PRIMARY KEY, run_id TEXT NOT NULL, attempt INTEGER, worker TEXT, granted_at REAL, ended TEXT);
PRAGMA user_version = {VERSION};
"""

_INSERT_ATTEMPT = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, NULL)"
_INSERT_RUN = f"INSERT OR REPLACE INTO runs VALUES ({','.join('?' * 12)})"
_INSERT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"

CACHE_KIB = 4_096
"""Page cache: the upper levels of a million random run_ids; the system caches the rest of the file."""


class StateWriter:
    """The single writer. Rows gather in memory and are written by :meth:`flush` in one transaction."""

    def __init__(self, path: Path, *, epoch: int, manifest: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = _open(path)
        self._runs: list[tuple] = []
        self._grants: list[tuple] = []
        self._ends: list[tuple] = []
        self._forget: list[tuple] = []
        self._journal_bytes = 0
        facts = [("epoch", epoch), ("manifest", manifest), ("journal_bytes", 0), ("closed", 0)]
        with self._db:
            self._db.executemany(_INSERT_META, facts)

    def granted(self, rows: Iterable[tuple[int, str, int, str, float]]) -> None:
        """Attempts began: ``(token, run_id, attempt, worker, granted_at)``."""
        self._grants.extend(rows)

    def ended(self, rows: Iterable[tuple[str, int]]) -> None:
        """Attempts ended: ``(how, token)``."""
        self._ends.extend(rows)

    def settled(self, rows: Iterable[tuple]) -> None:
        """Runs are over; a row has the columns of ``runs``."""
        self._runs.extend(rows)

    def pending_again(self, run_id: str) -> None:
        """A result can no longer be read."""
        self._forget.append((run_id,))

    def replace_all(self, rows: Iterable[tuple]) -> None:
        """Forget every run and write these rows."""
        with self._db:
            self._db.execute("DELETE FROM runs")
            self._db.executemany(_INSERT_RUN, rows)

    def flush(self, journal_bytes: int) -> None:
        """Commit what has gathered: everything that the first ``journal_bytes`` of the journal say.

        Raises:
            OSError: when the disk is full or fails; the rows stay for the next call.
        """
        gathered = (self._grants, self._ends, self._runs, self._forget)
        if journal_bytes == self._journal_bytes and not any(gathered):
            return
        with _as_os_error(), self._db:
            self._db.executemany(_INSERT_ATTEMPT, self._grants)
            self._db.executemany("UPDATE attempts SET ended = ? WHERE token = ?", self._ends)
            self._db.executemany(_INSERT_RUN, self._runs)
            self._db.executemany("DELETE FROM runs WHERE run_id = ?", self._forget)
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
        self._db.close()


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """SQLite's word for a disk that takes nothing."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(errno.ENOSPC, f"state.sqlite: {error}") from error


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
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    raise AssertionError("unreachable")
