"""Takes into a driver's life the runs that a search proposes: records, hands out and writes them down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from orchestrator.driver.commit_log import CommitLog
from orchestrator.driver.deciding import Deciding
from orchestrator.driver.room import Room
from orchestrator.driver.status_writer import StatusWriter
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.scheduling.workload import workload_of
from sweeps.manifest.manifest import Manifest

KEEPING_S = 1.0
"""Least time between two writings of a manifest that grows: what looks at a sweep lags behind by it."""

KEEPING_SHARE = 0.02
"""Most of the time that goes into writing it."""


class Growing:
    """The growth of one driver's manifest; without a search there is none."""

    def __init__(
        self,
        manifest: Manifest,
        deciding: Deciding,
        commits: CommitLog,
        teller: StatusWriter,
        scheduler: Scheduler,
        room: Room,
        keep: Callable[[Manifest], None],
    ) -> None:
        """Begin with the runs that the search has.

        Args:
            room: of the workers.
            keep: writes a manifest down.
        """
        self._search, self._pruning = deciding.search, deciding.pruning
        self._commits, self._teller, self._scheduler = commits, teller, scheduler
        self._room, self._keep = room, keep
        self.manifest = manifest
        """All runs so far."""
        self._num_kept, self._keep_after_s = len(manifest), -math.inf

    @property
    def is_short(self) -> bool:
        """Whether workers wait for what will be proposed once results are durable."""
        return self._search is not None and self._commits.has_news and not self._scheduler.num_waiting

    @property
    def has_more(self) -> bool:
        """Whether there is more to propose at once."""
        return self._search is not None and self._search.has_more and not self._scheduler.draining

    def goes_on(self, flush: Callable[[], None]) -> bool:
        """Make durable what has ended, and have the search go on by it; whether there is more to run."""
        if self._search is None or self._scheduler.draining:
            return False
        num_before = self._scheduler.num_open
        flush()
        return self._scheduler.num_open > num_before

    def propose(self) -> None:
        """Take in the runs that the search proposes by what is durable."""
        if self._search is None or self._scheduler.draining or self._scheduler.paused:
            return
        shape = self._scheduler.workload.groups[-1].shape
        at_once = self._room.most_runs(shape, self._scheduler.settings.max_slots)
        records = self._search.next(at_once, self._scheduler.mean_s, time.time())
        self._commits.proposed(records)
        if len(self._search.manifest) > len(self.manifest):
            self.manifest = self._search.manifest
            self._commits.grow(self.manifest)
            self._teller.grow(self.manifest)
            if self._pruning is not None:
                self._pruning.grow(self.manifest)
            self._scheduler.grow(workload_of(self.manifest))

    def keep(self, *, now: bool = False) -> None:
        """Write down a manifest that has grown, so rarely that it takes next to no time; or ``now``."""
        began_s = time.monotonic()
        if len(self.manifest) > self._num_kept and (now or began_s >= self._keep_after_s):
            self._keep(self.manifest)
            self._num_kept = len(self.manifest)
            ended_s = time.monotonic()
            self._keep_after_s = ended_s + max(KEEPING_S, (ended_s - began_s) / KEEPING_SHARE)
