"""Takes into a driver's life the runs that a search proposes: records them, hands them out, writes them down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from orchestrator.driver.commit_log import CommitLog
from orchestrator.driver.searching import Searching
from orchestrator.driver.status_writer import StatusWriter
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.scheduling.workload import workload_of
from sweeps.manifest.manifest import Manifest

KEEPING_S = 1.0
"""Least time between two writings of a manifest that grows: what looks at the sweep lags behind by so much."""

KEEPING_SHARE = 0.02
"""Most of the time that goes into writing it."""


class Growing:
    """The growth of one driver's manifest."""

    def __init__(
        self,
        search: Searching,
        commits: CommitLog,
        teller: StatusWriter,
        scheduler: Scheduler,
        num_at_once: Callable[[], int],
        keep: Callable[[Manifest], None],
        took_in: Callable[[Manifest], None],
    ) -> None:
        """Begin with the runs that the search has.

        Args:
            num_at_once: runs that can be at work at once.
            keep: writes a manifest down.
            took_in: called with each manifest that has further runs.
        """
        self._search, self._commits, self._teller, self._scheduler = search, commits, teller, scheduler
        self._num_at_once, self._keep, self._took_in = num_at_once, keep, took_in
        self._manifest = search.manifest
        self._num_kept, self._keep_after_s = len(self._manifest), -math.inf

    def propose(self) -> None:
        """Take in the runs that the search proposes by what is durable."""
        if self._scheduler.draining or self._scheduler.paused:
            return
        records = self._search.next(self._num_at_once(), self._scheduler.mean_s, time.time())
        self._commits.proposed(records)
        if self._search.manifest is not self._manifest:
            self._manifest = self._search.manifest
            self._took_in(self._manifest)
            self._commits.grow(self._manifest)
            self._teller.grow(self._manifest)
            self._scheduler.grow(workload_of(self._manifest))

    def keep(self, *, now: bool = False) -> None:
        """Write down a manifest that has grown, so rarely that it takes next to no time; or ``now``."""
        began_s = time.monotonic()
        if len(self._manifest) > self._num_kept and (now or began_s >= self._keep_after_s):
            self._keep(self._manifest)
            self._num_kept = len(self._manifest)
            ended_s = time.monotonic()
            self._keep_after_s = ended_s + max(KEEPING_S, (ended_s - began_s) / KEEPING_SHARE)
