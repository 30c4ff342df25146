"""Writes ``logs/driver-<epoch>.log``: what the driver decided and what happened to its workers, a line each.

A line is the time (UTC, ISO 8601) and a sentence. Leases and results are not among them: the journal has
those. The file is bounded: when it is full it becomes ``driver-<epoch>.old.log``, in place of an older one.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime

from orchestrator.scheduling import events as ev
from orchestrator.store.layout import Layout

MAX_BYTES = 4 * 2**20
"""Size at which the file is put aside: some 40,000 lines, so that of a life of weeks twice that stays."""


class DriverLog:
    """One driver's log. A disk that takes nothing costs lines, never the sweep."""

    def __init__(self, layout: Layout, epoch: int, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._max_bytes = layout.driver_log(epoch), max_bytes
        self._fd = -1
        self._size = 0

    def write(self, text: str) -> None:
        """Add a line; what is not printable becomes a space."""
        words = "".join(c if c.isprintable() else " " for c in text)
        line = f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {words}\n".encode(errors="replace")
        with contextlib.suppress(OSError):
            if self._fd >= 0 and self._size + len(line) > self._max_bytes:
                self.close()
                self._path.replace(self._path.with_suffix(".old.log"))
            if self._fd < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
                self._size = 0
            self._size += os.write(self._fd, line)

    def note(self, happened: object) -> None:
        """Add a line about an action or an event, if it is one that the journal does not tell."""
        text = sentence(happened)
        if text:
            self.write(text)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def sentence(happened: object) -> str:
    """An action or event in words; empty for those that are not logged."""
    match happened:
        case ev.StartWorker(worker=worker, shape=shape):
            return (
                f"worker {worker} is started: {shape.world_size} × {shape.gpus:g} GPUs, {shape.cpus:g} cores"
            )
        case ev.StopWorker(worker=worker):
            return f"worker {worker} is ended: it is idle"
        case ev.KillWorker(worker=worker, reason=reason):
            return f"worker {worker} is replaced: {reason}"
        case ev.WorkerReady(worker=worker, host=host):
            return f"worker {worker} is up on {host}"
        case ev.WorkerLeaving(worker=worker):
            return f"worker {worker} ends with what it has begun: its machine will be taken away"
        case ev.WorkerLost(worker=worker, reason=reason):
            return f"worker {worker} is gone: {reason}"
        case ev.CancelAttempts(worker=worker, tokens=tokens):
            return f"worker {worker} is asked to drop {len(tokens)} attempts"
        case ev.NoteEnds(worker=worker, reports=reports):
            ends = ", ".join(sorted({r.outcome for r in reports}))
            return f"worker {worker} ended {len(reports)} attempts that change nothing ({ends})"
        case ev.NoteFailure(run=run, attempt=attempt, worker=worker, failure=failure):
            why = f"{failure.failure_class}: {failure.message}"
            return f"run {run}, attempt {attempt}, failed on {worker}: {why}"
        case ev.Settle(run=run, outcome=outcome):
            return f"run {run} is over: {outcome}"
        case ev.Announce(text=text):
            return text
        case ev.DrainRequested(reason=reason, grace_s=grace_s):
            return f"nothing more is handed out: {reason}; running work has {grace_s:g} s"
        case ev.CancelRequested(runs=runs):
            return f"{len(runs)} runs are no longer wanted"
    return ""
