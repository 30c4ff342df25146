"""``state.sqlite``: an index of what the spools hold. WAL, one writer, batched commits.

Tables: ``meta(key, value)``; ``runs(run_id, outcome, attempt, worker, spool, offset, length, finished_at,
wall_s, error, fingerprint)``, one row per run that is over; ``attempts(token, run_id, attempt, worker,
granted_at, ended)``. Derived data: if the file is deleted or does not fit the spools, the driver writes it
anew.
"""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY, outcome TEXT NOT NULL, attempt INTEGER, worker TEXT, spool TEXT, offset INTEGER,
  length INTEGER, finished_at REAL, wall_s REAL, error TEXT, fingerprint TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
  token INTEGER PRIMARY KEY, run_id TEXT NOT NULL, attempt INTEGER, worker TEXT, granted_at REAL, ended TEXT);
"""

_INSERT_ATTEMPT = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, NULL)"
_INSERT_RUN = f"INSERT OR REPLACE INTO runs VALUES ({','.join('?' * 11)})"

CACHE_KIB = 4_096
"""Page cache: the upper levels of a million random run_ids; the system caches the rest of the file."""


class StateWriter:
    """The single writer. Rows gather in memory and are written by :meth:`flush` in one transaction."""

    def __init__(self, path: Path, *, epoch: int, manifest: str) -> None:
        self._db = _open(path)
        self._runs: list[tuple] = []
        self._grants: list[tuple] = []
        self._ends: list[tuple] = []
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [("epoch", epoch), ("manifest", manifest), ("written_at", time.time())],
            )

    def granted(self, rows: Iterable[tuple[int, str, int, str, float]]) -> None:
        """Attempts began: ``(token, run_id, attempt, worker, granted_at)``."""
        self._grants.extend(rows)

    def ended(self, rows: Iterable[tuple[str, int]]) -> None:
        """Attempts ended: ``(how, token)``."""
        self._ends.extend(rows)

    def settled(self, rows: Iterable[tuple]) -> None:
        """Runs are over; a row has the columns of ``runs``."""
        self._runs.extend(rows)

    def replace_all(self, rows: Iterable[tuple]) -> None:
        """Forget every run and write these rows."""
        with self._db:
            self._db.execute("DELETE FROM runs")
            self._db.executemany(_INSERT_RUN, rows)

    def flush(self) -> None:
        """Commit what has gathered.

        Raises:
            OSError: when the disk is full or fails; the rows stay for the next call.
        """
        if not (self._runs or self._grants or self._ends):
            return
        try:
            with self._db:
                self._db.executemany(_INSERT_ATTEMPT, self._grants)
                self._db.executemany("UPDATE attempts SET ended = ? WHERE token = ?", self._ends)
                self._db.executemany(_INSERT_RUN, self._runs)
        except sqlite3.OperationalError as error:
            raise OSError(errno.ENOSPC, f"state.sqlite: {error}") from error
        self._grants.clear()
        self._ends.clear()
        self._runs.clear()

    def close(self) -> None:
        """Commit and close; the write-ahead log is folded into the file."""
        self.flush()
        self._db.close()


def _open(path: Path) -> sqlite3.Connection:
    """Open the database, replacing a file that is not one."""
    for second_try in (False, True):
        db = sqlite3.connect(path)
        try:
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
