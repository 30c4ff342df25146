"""Which state of a sweep directory a request sees.

Only Parquet files, ``status.json`` and the journal are read, and no database is opened, so that a reader can
never be in a writer's way. A change is noticed by looking at names, sizes and times of the
files; what was computed is kept until then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from analysis.dashboard.queue_job import AskQueue, QueueJob
from analysis.data.sweep import SweepData
from orchestrator.store.layout import Layout
from orchestrator.store.liveness import live_driver
from orchestrator.store.memory import give_back
from sweeps.spec.errors import UserError

T = TypeVar("T")

CHECK_S = 0.5
"""Shortest time between two looks at the directory; a page of twenty requests then looks once."""

FOLLOW_SHARE = 0.005
"""Share of the machine that following a live sweep may take: whatever processor time this process has used
since it showed a snapshot, the next one has to wait two hundred times as long, over all cores.
"""

LONGEST_WAIT_S = 300.0
"""A page is never further behind than this, however much was looked at meanwhile."""

MAX_ANSWERS = 256
"""Computed answers kept per snapshot: panels, heatmaps and comparisons of a session."""

MAX_NARROWED = 16
"""Filtered views of the sweep kept open."""


class Unwanted(Exception):
    """Whoever asked has gone before the computation began."""


class Snapshot:
    """The files of a sweep at one moment, and what was computed from them."""

    def __init__(self, sweep: SweepData) -> None:
        self.sweep = sweep
        """For its axes and sources; queries go through :meth:`reading` and :meth:`answer`."""
        self.id = _digest(sweep)
        """Hash of what the files hold; a copy of the directory has the same."""
        self.directory = sweep.directories[0]
        """The sweep directory."""
        self.metrics = sweep.metrics
        """Names of all metrics."""
        self.metric = _main_metric(sweep, self.metrics)
        """The metric that pages are about unless another is asked for; empty where no run has a result."""
        self._lanes = {"quick": _Lane(sweep), "slow": _Lane(sweep)}
        self._answers: OrderedDict[Any, Any] = OrderedDict()
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def reading(self, filters: str = "", lane: str = "quick") -> Iterator[SweepData]:
        """The sweep, narrowed by a filter, for one thread at a time.

        Raises:
            UserError, SpecError: for a filter that means nothing here.
        """
        with self._lanes[lane].narrowed(filters) as sweep:
            yield sweep

    def answer(
        self,
        key: Any,
        compute: Callable[[SweepData], T],
        *,
        filters: str = "",
        lane: str = "slow",
        wanted: Callable[[], bool] = lambda: True,
    ) -> T:
        """What ``compute`` returns for the narrowed sweep, computed once per snapshot.

        ``quick`` answers wait for other quick ones only; an analysis of seconds takes the ``slow`` lane. When
        its turn has come, ``wanted`` says whether anybody still waits: a reader who turns pages leaves
        questions behind.

        Raises:
            UserError, SpecError: what ``compute`` raises, and for a filter that means nothing here.
            Unwanted: when nobody does.
        """
        known = self._known((key, filters))
        if known is not None:
            return known[0]
        with self.reading(filters, lane) as sweep:
            known = self._known((key, filters))  # another request may have computed it while we waited
            if known is not None:
                return known[0]
            if not wanted():
                raise Unwanted
            answer = compute(sweep)
            with self._guard:
                self._answers[key, filters] = (answer,)
                while len(self._answers) > MAX_ANSWERS:
                    self._answers.popitem(last=False)
        if lane == "slow":
            give_back()
        return answer

    def knows(self, key: Any, filters: str = "") -> bool:
        return self._known((key, filters)) is not None

    def _known(self, key: Any) -> tuple[Any] | None:
        with self._guard:
            if key in self._answers:
                self._answers.move_to_end(key)
            return self._answers.get(key)


class _Lane:
    """Sweeps that one thread uses at a time; its connections share the database of the others."""

    def __init__(self, sweep: SweepData) -> None:
        self._sweep = sweep.where()
        self._narrowed: OrderedDict[str, SweepData] = OrderedDict()
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def narrowed(self, filters: str) -> Iterator[SweepData]:
        with self._lock:
            if filters not in self._narrowed:
                self._narrowed[filters] = self._sweep.where(filters) if filters else self._sweep
                while len(self._narrowed) > MAX_NARROWED:
                    self._narrowed.popitem(last=False)
            self._narrowed.move_to_end(filters)
            yield self._narrowed[filters]


class Store:
    """A sweep directory that is looked at now and then."""

    def __init__(self, directory: Path, *, ask_queue: AskQueue | None = None) -> None:
        """Open the directory.

        Args:
            ask_queue: says what the queue tells of the sweep's job, where it was handed to one.

        Raises:
            UserError: when it is no sweep.
        """
        self.directory = directory
        self.layout = Layout(directory)
        self.job = QueueJob(directory, ask_queue)
        self._lock = threading.Lock()
        self._looked_s = -CHECK_S
        self._marks: Any = None
        self._snapshot: Snapshot | None = None
        self._shown_s = self._shown_cpu_s = 0.0
        self.current()

    def current(self, *, afresh: bool = False) -> Snapshot:
        """The newest state; with ``afresh`` whatever was looked at a moment ago is looked at again.

        Raises:
            UserError: when the directory is gone, or can no longer be read.
        """
        with self._lock:
            now_s = time.monotonic()
            if self._snapshot is None or afresh or now_s - self._looked_s >= CHECK_S:
                marks = _marks(self.layout)
                if marks != self._marks or self._snapshot is None or afresh:
                    self._shown_s, self._shown_cpu_s = time.monotonic(), time.process_time()
                    self._snapshot = _open(self.directory)
                self._marks, self._looked_s = marks, time.monotonic()
            return self._snapshot

    def follow(self) -> Snapshot:
        """The state for a page that is open and for its parts: of a sweep at work a new one only when that is
        affordable.

        Raises:
            UserError: when the directory is gone.
        """
        spent_s = time.process_time() - self._shown_cpu_s
        wait_s = min(LONGEST_WAIT_S, spent_s / (FOLLOW_SHARE * (os.cpu_count() or 1)))
        is_early = time.monotonic() - self._shown_s < wait_s
        if self._snapshot is not None and is_early and self.status() is not None:
            return self._snapshot
        return self.current()

    def status(self) -> dict[str, Any] | None:
        """What a live driver says of itself; ``None`` when none is at work, or it is silent."""
        driver = live_driver(self.layout)
        return None if driver is None or driver.is_silent else driver.status


def _main_metric(sweep: SweepData, metrics: Sequence[str]) -> str:
    """What tables are about; a sweep that records nothing but times is about the first of them."""
    try:
        return sweep.metric(None)
    except UserError:
        return next(iter(metrics), "")


def _open(directory: Path) -> Snapshot:
    """Open the files there are; a driver may be replacing parts by whole tables at this very moment."""
    for left in (2, 1, 0):
        try:
            return Snapshot(SweepData.open(directory))
        except (OSError, duckdb.Error) as error:
            if not left:
                raise UserError(f"directory {str(directory)!r}: cannot be read ({error})") from error
            time.sleep(0.2)
    raise AssertionError("unreachable")


def _marks(layout: Layout) -> list[tuple[str, int, int]]:
    """Name, size and time of every file that a snapshot is made of."""
    entries = []
    for folder, ending in ((layout.root, (".parquet", "sweep.yaml")), (layout.parts, (".parquet",))):
        try:
            with os.scandir(folder) as scan:
                files = [e for e in scan if e.name.endswith(ending) and not e.name.startswith(".")]
                entries += [(e.path, e.stat().st_size, e.stat().st_mtime_ns) for e in files]
        except OSError:
            continue
    return sorted(entries)


def _digest(sweep: SweepData) -> str:
    """Ten hex digits of a hash over the manifest's digest and every Parquet footer.

    A footer holds row counts, offsets and extremes of all columns: it changes when the contents do.
    """
    source = sweep.sources[0]
    whole = hashlib.sha256(str(source.header.get("digest", "")).encode())
    for table in sorted(source.files):
        for path in source.files[table]:
            whole.update(f"{path.name}\0".encode())
            whole.update(_footer(path))
    return whole.hexdigest()[:10]


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - length))
        return file.read(length)
