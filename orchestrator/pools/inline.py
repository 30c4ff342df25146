"""Runs everything in the driver's own process, one run at a time: no process, no message, no cluster."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from orchestrator.pools.base import PoolEvent, batch_event, beat_event
from orchestrator.scheduling.events import Capacity, Shape, WorkerLost, WorkerReady
from orchestrator.worker.protocol import Task, WorkerSetup
from orchestrator.worker.runtime import BEAT_S, Runtime


class InlinePool:
    """A pool of one worker that works while the driver waits for events."""

    def __init__(self) -> None:
        self._runtimes: dict[str, Runtime] = {}
        self._events: list[PoolEvent] = []
        self._beat_s = time.monotonic()

    def capacity(self) -> Capacity:
        """One worker, no GPU."""
        return Capacity(slots=1)

    def ask_for(self, workers: Mapping[Shape, int]) -> None:
        """Nothing: there is this process."""

    def start_worker(self, setup: WorkerSetup, shape: Shape) -> None:
        runtime = Runtime(setup, lambda batch: self._events.append(batch_event(setup.name, batch)))
        runtime.warm()
        self._runtimes[setup.name] = runtime
        self._events.append(WorkerReady(worker=setup.name, host=socket.gethostname()))

    def stop_worker(self, name: str) -> None:
        runtime = self._runtimes.pop(name, None)
        if runtime is not None:
            runtime.close()
            self._events.append(WorkerLost(worker=name, reason="stopped"))

    def kill_worker(self, name: str, *, record_stack: bool) -> None:
        """Close the worker; nothing runs while the driver decides."""
        self.stop_worker(name)

    def dispatch(self, name: str, items: list[Task]) -> None:
        self._runtimes[name].add(items)

    def cancel(self, name: str, tokens: tuple[int, ...]) -> None:
        if name in self._runtimes:
            self._runtimes[name].cancel(tokens)

    def events(self, timeout_s: float) -> list[PoolEvent]:
        """Work for about ``timeout_s`` seconds, at least one run, and tell of it."""
        until_s = time.monotonic() + timeout_s
        for runtime in self._runtimes.values():
            while runtime.step(block=False) and time.monotonic() < until_s:
                pass
        self._beat()
        if not self._events:
            time.sleep(min(timeout_s, 0.01))
        events, self._events = self._events, []
        return events

    def _beat(self) -> None:
        """Beat without a figure of memory: it is the driver's own, and no other worker would hold less."""
        now_s = time.monotonic()
        if now_s - self._beat_s >= BEAT_S:
            self._beat_s = now_s
            for name, runtime in self._runtimes.items():
                self._events.append(beat_event(name, runtime.pulse()))

    def close(self) -> None:
        for name in list(self._runtimes):
            self.stop_worker(name)
