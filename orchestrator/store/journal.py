"""The driver's own spool: what it decided, in order. Runs go by run_id, which outlives a changed grid.

Kinds of record
---------------
``epoch``    a driver began: ``epoch, host, pid, at, manifest`` (digest), ``runs``
``lease``    a batch was granted: ``worker, token`` (the first; they are consecutive), ``runs``
``accept``   results were committed: ``spool``, ``runs`` as ``[run_id, offset, length, outcome]``
``failure``  an attempt failed: ``run_id, attempt, worker, class, fingerprint, message, at``
``settle``   a run ended without a result: ``runs, outcome``
``reopen``   runs were given another chance: ``runs``; earlier failures no longer count
``void``     accepted results can no longer be read: ``runs``; a later ``accept`` counts again
``close``    the driver ended by itself: ``reason``
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from orchestrator.scheduling.events import Accept, Grant, NoteFailure
from orchestrator.store.layout import Layout
from orchestrator.store.spool import SpoolWriter, encode_line

TOKEN_BITS = 40
"""Low bits of a fencing token that count grants; the epoch lies above, so that a rebuilt driver never
reissues one.
"""


def first_token(epoch: int) -> int:
    """The smallest fencing token of a driver's life."""
    return (epoch << TOKEN_BITS) + 1


class Journal:
    """Writes one driver's journal. Records gather in memory until :meth:`sync` makes them durable."""

    def __init__(self, layout: Layout, epoch: int, run_ids: Sequence[str]) -> None:
        self._writer = SpoolWriter(layout.journal(epoch))
        self._run_ids = run_ids
        self._gathered: deque[bytes] = deque()

    @property
    def num_bytes(self) -> int:
        """Bytes written so far."""
        return self._writer.size

    def epoch(self, epoch: int, host: str, pid: int, manifest: str) -> None:
        """A driver began."""
        self._write(
            kind="epoch",
            epoch=epoch,
            host=host,
            pid=pid,
            at=time.time(),
            manifest=manifest,
            runs=len(self._run_ids),
        )

    def lease(self, worker: str, grants: Sequence[Grant]) -> None:
        """A batch was granted."""
        self._write(
            kind="lease", worker=worker, token=grants[0].token, runs=[self._run_ids[g.run] for g in grants]
        )

    def accept(self, action: Accept) -> None:
        """Results were committed."""
        self.adopt([(r.run, r.spool, r.offset, r.length, r.outcome) for r in action.reports])

    def adopt(self, results: Sequence[tuple[int, str, int, int, str]]) -> None:
        """Results that nobody had committed were: ``(run, spool, offset, length, outcome)``."""
        by_spool: dict[str, list[list[object]]] = {}
        for run, spool, offset, length, outcome in results:
            by_spool.setdefault(spool, []).append([self._run_ids[run], offset, length, outcome])
        for spool, runs in by_spool.items():
            self._write(kind="accept", spool=spool, runs=runs)

    def failure(self, action: NoteFailure, at: float) -> None:
        """An attempt failed ``at`` some Unix time."""
        self._write(
            kind="failure",
            run_id=self._run_ids[action.run],
            attempt=action.attempt,
            worker=action.worker,
            **{"class": action.failure.kind},
            fingerprint=action.failure.fingerprint,
            message=action.failure.message,
            at=at,
        )

    def settle(self, indices: Sequence[int], outcome: str) -> None:
        """Runs ended without a result."""
        self._write(kind="settle", runs=[self._run_ids[i] for i in indices], outcome=outcome)

    def reopen(self, indices: Sequence[int]) -> None:
        """Runs get another chance."""
        self._write(kind="reopen", runs=[self._run_ids[i] for i in indices])

    def void(self, indices: Sequence[int]) -> None:
        """Accepted results can no longer be read."""
        if indices:
            self._write(kind="void", runs=[self._run_ids[i] for i in indices])

    def end(self, reason: str) -> None:
        """The driver ended by itself."""
        self._write(kind="close", reason=reason)
        self.sync()
        self._writer.close()

    def sync(self) -> None:
        """Write what has gathered and force it to the disk.

        Raises:
            OSError: when the disk is full; what is not written stays for the next call.
        """
        while self._gathered:
            self._writer.append(self._gathered[0])
            self._gathered.popleft()
        self._writer.sync()

    def _write(self, **record: object) -> None:
        self._gathered.append(encode_line(record))
