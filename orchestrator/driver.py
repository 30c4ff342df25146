"""The driver: carries out what the scheduler decides. One process, one thread, one loop.

Order within a turn: decide, act, wait for events, and every so often make durable and look around. A result
counts from the moment its ``accept`` record is synced; the scheduler never waits for that.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from orchestrator import events as ev
from orchestrator.backlog import Workload
from orchestrator.failures import failure_groups
from orchestrator.messages import Item, WorkerSetup
from orchestrator.pools.base import Pool, PoolEvent, Shipped
from orchestrator.processes import own_import_path
from orchestrator.progress import Progress, num_over
from orchestrator.rate import Rate
from orchestrator.recorder import Recorder
from orchestrator.scheduler import Scheduler
from orchestrator.settings import Settings
from orchestrator.store.book import PENDING, Book, Reading
from orchestrator.store.control import take_requests
from orchestrator.store.journal import first_token
from orchestrator.store.layout import Layout
from orchestrator.store.space import SHORTAGES, Space
from orchestrator.store.status import write_status
from orchestrator.workload import workload_of
from sweeps.filters import parse_filter
from sweeps.manifest import Manifest

TURN_S = 0.1
"""Longest wait for events: how soon a signal or a retry that has come due is noticed."""

FLUSH_S = 0.25
"""Period of syncing the journal and of SQLite's transaction: cheap, and a crash repeats little."""

LOOK_S = 1.0
"""Period of ``status.json``, of looking for requests and of asking the pool for its capacity."""


@dataclass(frozen=True, kw_only=True)
class DriverOptions:
    """How a driver behaves, apart from what the scheduler decides."""

    sharing: bool = False
    """Let trainers that can do so share work between the runs of a batch."""
    node_spools: str = ""
    """Folder on each node for its workers' spools, whose bytes then go with the reports; empty for ours."""
    grace_s: float = 10.0
    """Time that running work gets to finish after SIGINT or SIGTERM."""
    until: float | None = None
    """Unix time by which the sweep must have stopped cleanly."""
    handle_signals: bool = True
    """Take SIGINT and SIGTERM as requests to stop; only in a main thread."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a driver's life ended."""

    expected: int
    """Runs of the manifest."""
    committed: int
    """Runs with a result, diverged ones included."""
    diverged: int
    """Runs whose loss or gradient stopped being finite."""
    failed: int
    """Runs that ended without a result, quarantined ones included."""
    cancelled: int
    """Runs that nobody wants any more."""
    new: int = 0
    """Results committed in this life."""
    busy_s: float = 0.0
    """Seconds from the first dispatch to the last durable commit."""
    interrupted: bool = False
    """Whether it was asked to stop before the end."""
    reason: str = ""
    """Why it stopped early, for people; empty otherwise."""

    @classmethod
    def of(cls, counts: dict[str, int], **more: Any) -> Summary:
        """Summarise the outcomes of a manifest's runs."""
        return cls(
            expected=sum(counts.values()),
            committed=counts["done"] + counts["diverged"],
            diverged=counts["diverged"],
            failed=counts["failed"] + counts["quarantined"],
            cancelled=counts["cancelled"],
            **more,
        )

    @property
    def runs_per_s(self) -> float:
        """Durable results per second between the first dispatch and the last commit."""
        return self.new / self.busy_s if self.busy_s > 0 else 0.0


class Driver:
    """Runs what is left of a manifest in one directory, whose lock the caller holds."""

    def __init__(
        self,
        *,
        layout: Layout,
        manifest: Manifest,
        reading: Reading,
        epoch: int,
        pool: Pool,
        settings: Settings | None = None,
        options: DriverOptions | None = None,
        progress: Progress | None = None,
        reopened: Collection[int] = (),
        only: Collection[int] | None = None,
    ) -> None:
        """Begin a driver's life.

        Args:
            layout: the directory.
            manifest: the runs.
            reading: what the directory holds.
            epoch: number of this life, one more than any before.
            pool: where to run; the caller closes it.
            settings: what the scheduler is told.
            options: how the driver behaves.
            progress: what people see.
            reopened: runs that get another chance, shown as pending by the reading already.
            only: the runs to run, ``None`` for all that are pending.
        """
        self._layout, self._manifest, self._pool = layout, manifest, pool
        self._options = options or DriverOptions()
        self._progress = progress or Progress(total=len(manifest), quiet=True)
        self._rate = Rate()
        self._epoch = epoch
        self._signals = 0
        self._interrupted = False
        self._space = Space(layout.root)
        self._grouped: tuple[int, list[dict[str, Any]]] = (0, [])
        self._first_s = self._last_commit_s = math.nan
        self._recorder = Recorder(
            layout=layout,
            manifest=manifest,
            reading=reading,
            epoch=epoch,
            reopened=reopened,
            say=self._progress.say,
        )
        book, until = reading.book, self._options.until
        now_s = time.monotonic()
        settled = (i for i, code in enumerate(book.outcome) if code or (only is not None and i not in only))
        self._scheduler = Scheduler(
            self._workload(book),
            settled=settled,
            attempts=book.attempts,
            histories=book.histories,
            settings=settings,
            capacity=pool.capacity(),
            first_token=first_token(epoch),
            name_prefix=f"e{epoch}-",
            deadline_s=math.inf if until is None else now_s + until - time.time(),
            now_s=now_s,
        )

    def _workload(self, book: Book) -> Workload:
        if not self._options.sharing:
            return workload_of(self._manifest)
        pending = np.flatnonzero(np.frombuffer(book.outcome, dtype=np.uint8) == PENDING)
        return workload_of(self._manifest, pending, self._pool.capacity().slots)

    def run(self) -> Summary:
        """Run to the end, or until asked to stop.

        Raises:
            OSError: when the directory can no longer be written; nothing committed is lost.
        """
        handlers = self._install_signals()
        flushed_s = looked_s = time.monotonic()
        try:
            with self._progress:
                while True:
                    now_s = time.monotonic()
                    self._act(self._scheduler.decide(now_s))
                    if self._scheduler.finished:
                        break
                    self._take(self._pool.events(TURN_S))
                    if self._signals:
                        self._drain_for_signal()
                    if now_s - flushed_s >= FLUSH_S:
                        self._flush_or_pause()
                        flushed_s = now_s
                    if now_s - looked_s >= LOOK_S:
                        self._look_around()
                        looked_s = now_s
            return self._finish()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    # --- acting ---------------------------------------------------------------------------------------

    def _act(self, actions: Iterable[ev.Action]) -> None:
        for action in actions:
            match action:
                case ev.Accept():
                    self._recorder.accept(action)
                case ev.Dispatch():
                    self._dispatch(action)
                case ev.StartWorker():
                    self._pool.start_worker(self._setup(action), action.shape)
                case ev.StopWorker():
                    self._pool.stop_worker(action.worker)
                case ev.KillWorker():
                    self._progress.say(f"worker {action.worker} is replaced: {action.reason}")
                    self._pool.kill_worker(action.worker, record_stack=action.record_stack)
                case ev.CancelAttempts():
                    self._pool.cancel(action.worker, action.tokens)
                case ev.NoteFailure():
                    self._recorder.note_failure(action)
                case ev.Settle():
                    self._recorder.settle(action)
                case ev.Announce():
                    self._progress.say(action.text)

    def _dispatch(self, action: ev.Dispatch) -> None:
        if math.isnan(self._first_s):
            self._first_s = time.monotonic()
        manifest = self._manifest
        items = [Item(g, manifest.run_ids[g.run], manifest.spec(g.run)) for g in action.grants]
        self._recorder.granted(action.worker, items)
        self._pool.dispatch(action.worker, items)

    def _setup(self, action: ev.StartWorker) -> WorkerSetup:
        root, name = self._layout.root.resolve(), action.worker
        spool = Layout(root).spool(name)
        if self._options.node_spools:
            spool = spool.relative_to(root)  # below the folder that each node has for it
        return WorkerSetup(
            name=name,
            spool=spool,
            node_folder=self._options.node_spools,
            checkpoints=root / "checkpoints",
            log=Layout(root).worker_logs / f"{name}.log",
            warm_target=self._manifest.spec(action.runs_like).trainer.target,
            sharing=self._options.sharing,
            import_path=own_import_path(),
        )

    # --- listening ------------------------------------------------------------------------------------

    def _take(self, happened: Iterable[PoolEvent]) -> None:
        now_s = time.monotonic()
        for event in happened:
            if isinstance(event, Shipped):
                self._recorder.store_copy(event)
                event = event.reported
            if isinstance(event, ev.Reported):
                self._recorder.ended(event.reports)
            elif isinstance(event, ev.WorkerLost):
                self._recorder.worker_is_gone(event.worker)
            elif isinstance(event, ev.DrainRequested):
                self._interrupted = True
            self._scheduler.tell(event, now_s)

    def _look_around(self) -> None:
        for request in take_requests(self._layout):
            self._obey(request)
        self._scheduler.tell(ev.CapacityChanged(capacity=self._pool.capacity()), time.monotonic())
        until = self._options.until
        if (
            until is not None
            and not self._scheduler.draining
            and time.time() >= until - self._options.grace_s
        ):
            self._drain("the time limit of --until has come", self._options.grace_s)
        self._show()
        with contextlib.suppress(OSError):  # a full disk is dealt with where results are written
            write_status(self._layout, self._status("paused" if self._scheduler.paused else "running"))

    def _obey(self, request: dict[str, Any]) -> None:
        match request["verb"]:
            case "cancel":
                chosen = parse_filter(request["filters"])
                runs = (i for i, code in enumerate(self._recorder.book.outcome) if not code)
                wanted = tuple(i for i in runs if chosen.matches(self._manifest.axis_values(i)))
                self._scheduler.tell(ev.CancelRequested(runs=wanted), time.monotonic())
            case "cap":
                self._scheduler.cap(max_slots=request["max_slots"], max_gpus=request["max_gpus"])
            case "stop":
                self._drain("asked to stop", self._options.grace_s)

    def _install_signals(self) -> dict[int, Any]:
        if not self._options.handle_signals:
            return {}

        def note(_number: int, _frame: FrameType | None) -> None:
            self._signals += 1

        return {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def _drain_for_signal(self) -> None:
        if self._signals > 1:
            self._drain("interrupted", 0.0)
        elif not self._scheduler.draining:
            grace_s = self._options.grace_s
            self._progress.say(f"stopping: what runs has {grace_s:g} s to finish; again to stop at once")
            self._drain("interrupted", grace_s)

    def _drain(self, reason: str, grace_s: float) -> None:
        self._interrupted = True
        self._scheduler.tell(ev.DrainRequested(reason=reason, grace_s=grace_s), time.monotonic())

    # --- telling --------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._recorder.flush():
            self._last_commit_s = time.monotonic()
        self._show()

    def _flush_or_pause(self) -> None:
        """Make durable what was decided; while the disk takes nothing, hand out nothing and try again."""
        try:
            self._flush()
            reason = self._space.shortage()
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            reason = str(error)
        if reason and not self._scheduler.paused:
            self._progress.say(f"paused: {reason}; goes on by itself once there is room")
        elif self._scheduler.paused and not reason:
            self._progress.say("there is room again: going on")
        self._scheduler.paused = bool(reason)

    def _show(self) -> None:
        counts = self._counts()
        self._rate.update(time.monotonic(), num_over(counts))
        self._progress.show(counts, self._rate, len(self._scheduler.fleet))

    def _counts(self) -> dict[str, int]:
        counts = self._recorder.book.counts()
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
            "failures": self._failures(counts["failed"] + counts["quarantined"]),
        }

    def _failures(self, num_failed: int) -> list[dict[str, Any]]:
        """The failed runs in groups, put together anew only when there are more."""
        if num_failed != self._grouped[0]:
            self._grouped = num_failed, failure_groups(self._manifest, self._recorder.book)
        return self._grouped[1]

    def _finish(self) -> Summary:
        if self._options.until is not None and self._scheduler.num_open and not self._interrupted:
            self._drain("no further run would end before the time limit of --until", 0.0)
        self._flush_or_pause()
        self._pool.close()
        try:
            self._flush()
            self._recorder.finish(self._scheduler.stop_reason)
            write_status(self._layout, self._status("interrupted" if self._interrupted else "finished"))
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            self._drain(f"the tables could not be written: {error}", 0.0)
        busy_s = self._last_commit_s - self._first_s
        return Summary.of(
            self._recorder.book.counts(),
            new=self._recorder.num_new,
            busy_s=0.0 if math.isnan(busy_s) else busy_s,
            interrupted=self._interrupted,
            reason=self._scheduler.stop_reason,
        )
