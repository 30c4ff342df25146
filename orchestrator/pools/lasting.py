"""A local pool for several drivers, one after the other: a worker waits between them with what it has loaded.

A driver closes its pool when it ends; here its workers are only set aside. The next one's worker of the same
shape is one of them under a new name, with a spool and a log of its own. :meth:`LastingPool.end` ends them
all, and so does the end of this process, whatever it dies of.
"""

from __future__ import annotations

import selectors
import time

from orchestrator.pools.channel import pack
from orchestrator.pools.gang import GangReports, rank_setup
from orchestrator.pools.local import LocalPool, LocalWorker
from orchestrator.scheduling.events import Shape
from orchestrator.worker.protocol import WorkerSetup

PARK_WAIT_S = 5.0
"""Time an idle worker gets to store what it has and to say that it waits, before it is ended."""


class LastingPool(LocalPool):
    """Processes on this machine that outlive a driver. Gangs, whose ranks meet anew for each, do not."""

    _parked: list[LocalWorker]

    def __init__(self, num_workers: int, threads: int = 1, num_gpus: int | None = None) -> None:
        """Offer room as :class:`~orchestrator.pools.local.LocalPool` does."""
        super().__init__(num_workers, threads, num_gpus)
        self._parked = []

    def start_worker(self, setup: WorkerSetup, shape: Shape) -> None:
        for worker in list(self._parked):
            if worker.shape == shape and worker.ranks[0].process.poll() is None:
                self._parked.remove(worker)
                self._take_up(worker, setup)
                return
        self._end_parked()  # of another shape, or gone: what they hold is needed now
        super().start_worker(setup, shape)

    def close(self) -> None:
        """Set every idle worker aside, and end those that do not come to an end."""
        asked = [w for w in self._workers.values() if w.ready and len(w.ranks) == 1 and w.stop_by_s is None]
        for worker in asked:
            self._send(worker, ("park", None))
        until_s = time.monotonic() + PARK_WAIT_S
        while time.monotonic() < until_s and any(not w.parked and w.name in self._workers for w in asked):
            self.events(0.02)
        for worker in [w for w in asked if w.parked and w.name in self._workers]:
            self._selector.unregister(worker.ranks[0].channel)
            del self._workers[worker.name]
            self._parked.append(worker)
        for worker in list(self._workers.values()):
            self._bury(worker, "closed")
        self._events.clear()

    def end(self) -> None:
        """End every worker and leave nothing behind."""
        self._end_parked()
        super().close()

    def _take_up(self, worker: LocalWorker, setup: WorkerSetup) -> None:
        worker.name, worker.reports = setup.name, GangReports(1)
        worker.ready = worker.parked = False
        self._workers[setup.name] = worker
        [rank] = worker.ranks
        self._selector.register(rank.channel, selectors.EVENT_READ, (worker, rank))
        rank.channel.send(pack(("setup", rank_setup(setup, 0, 1))))

    def _end_parked(self) -> None:
        while self._parked:
            worker = self._parked.pop()
            self._workers[worker.name] = worker
            self._selector.register(worker.ranks[0].channel, selectors.EVENT_READ, (worker, worker.ranks[0]))
            self._bury(worker, "not needed any more")
            self._events.pop()
