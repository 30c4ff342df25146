"""What a driver tells: people on the terminal, other processes in ``status.json``."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from itertools import islice
from typing import Any

from orchestrator.driver.deciding import Deciding
from orchestrator.driver.eta import Rate
from orchestrator.driver.nodes import NodeWatch
from orchestrator.driver.terminal import Progress, num_over
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.store.failure_groups import failure_groups
from orchestrator.store.layout import Layout
from orchestrator.store.run_index import RunIndex
from orchestrator.store.status import write_status
from sweeps.manifest.manifest import Manifest

MAX_WORDS = 50
"""Runs in progress whose newest words ``status.json`` holds: more fit no screen."""

MAX_RUNNING = 2_000
"""Runs in progress that ``status.json`` names: it is written every second, and stays below 20 KB so."""


class StatusWriter:
    """Puts a driver's state into words; the bytes it owns are those of ``status.json``."""

    def __init__(
        self,
        *,
        layout: Layout,
        manifest: Manifest,
        book: RunIndex,
        scheduler: Scheduler,
        epoch: int,
        progress: Progress,
        nodes: NodeWatch,
        deciding: Deciding,
    ) -> None:
        self._layout, self._manifest, self._book = layout, manifest, book
        self._scheduler, self._epoch, self._progress = scheduler, epoch, progress
        self._nodes, self._deciding = nodes, deciding
        self._rate = Rate()
        self._grouped: tuple[int, list[dict[str, Any]]] = (0, [])

    def grow(self, manifest: Manifest) -> None:
        """Take in further runs behind the others."""
        self._manifest = manifest
        self._progress.grow(len(manifest))

    def show(self) -> None:
        """Draw counts, rate and time left."""
        counts = self._counts()
        self._rate.update(time.monotonic(), num_over(counts))
        self._progress.show(counts, self._rate, len(self._scheduler.fleet))

    def write(self, state: str) -> None:
        """Replace ``status.json``; a disk that takes nothing is dealt with where results are written."""
        with contextlib.suppress(OSError):
            write_status(self._layout, self._status(state))

    def _counts(self) -> dict[str, int]:
        counts = self._book.counts()
        running = self._scheduler.num_leased
        return {**counts, "pending": counts["pending"] - running, "running": running}

    def _status(self, state: str) -> dict[str, Any]:
        counts = self._counts()
        eta = self._rate.eta_s(counts["pending"] + counts["running"]) or (None, None, None)
        return {
            "state": state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "epoch": self._epoch,
            "total": len(self._manifest),
            "counts": counts,
            "runs_per_s": self._rate.runs_per_s,
            "eta_s": eta[0],
            "eta_low_s": eta[1],
            "eta_high_s": eta[2],
            "workers": len(self._scheduler.fleet),
            **self._cluster(),
            **({"race": dict(race.counts())} if (race := self._deciding.race) else {}),
            **({"search": search.facts()} if (search := self._deciding.search) else {}),
            "running_runs": list(islice(self._scheduler.fleet.leased_runs(), MAX_RUNNING)),
            "words": [
                {"run_id": self._manifest.run_ids[run], "words": words}
                for run, words in islice(self._scheduler.fleet.words(), MAX_WORDS)
            ],
            "running_workers": list(islice(self._scheduler.fleet.busy_workers(), MAX_RUNNING)),
            "running_tokens": list(islice(self._scheduler.fleet.leased_tokens(), MAX_RUNNING)),
            "failures": self._failures(counts["failed"] + counts["quarantined"]),
        }

    def _cluster(self) -> dict[str, Any]:
        """The nodes, where the workers are on a cluster's, and the workers that it is asked to have room for,
        where it grows.
        """
        capacity = self._scheduler.fleet.capacity
        if not self._nodes.is_told:
            return {}
        asked = {"workers_asked": sum(self._scheduler.asked_for().values())} if capacity.grows else {}
        return {"nodes": {**self._nodes.status(), **asked}}

    def _failures(self, num_failed: int) -> list[dict[str, Any]]:
        """The failed runs in groups, put together anew only when there are more."""
        if num_failed != self._grouped[0]:
            self._grouped = num_failed, failure_groups(self._manifest, self._book)
        return self._grouped[1]
