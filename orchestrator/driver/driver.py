"""The driver: carries out what the scheduler decides. One process, one thread, one loop.

Order within a turn: decide, act, wait for events, and every so often make durable and look around. A result
counts from the moment its ``accept`` record is synced; the scheduler never waits for that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable

from orchestrator.driver.commit_log import CommitLog
from orchestrator.driver.deciding import Deciding
from orchestrator.driver.driver_log import DriverLog
from orchestrator.driver.growing import Growing
from orchestrator.driver.nodes import NodeWatch
from orchestrator.driver.options import DriverOptions
from orchestrator.driver.requests import Cap, event_of
from orchestrator.driver.room import Room
from orchestrator.driver.run_summary import Summary
from orchestrator.driver.signals import StopSignals
from orchestrator.driver.status_writer import StatusWriter
from orchestrator.driver.terminal import Progress
from orchestrator.driver.worker_setup import worker_setup
from orchestrator.pools.base import Pool, PoolEvent, Shipped
from orchestrator.scheduling import events as ev
from orchestrator.scheduling.backlog import Workload
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.scheduling.workload import pending_runs, workload_of
from orchestrator.store.control import requests_left
from orchestrator.store.disk_space import SHORTAGES, Space, require_no_limit
from orchestrator.store.index_reader import ReplayResult
from orchestrator.store.journal import first_token
from orchestrator.store.layout import Layout
from orchestrator.store.lock import DriverLock
from orchestrator.store.run_index import RunIndex
from orchestrator.worker.protocol import Task
from sweeps.manifest.manifest import Manifest
from sweeps.spec import SpecError

TURN_S = 0.1
"""Longest wait for events: how soon a signal or a retry that has come due is noticed."""

FLUSH_S = 0.25
"""Period of syncing the journal and of SQLite's transaction: cheap, and a crash repeats little."""

LOOK_S = 1.0
"""Period of ``status.json``, of looking for requests and of asking the pool for its capacity."""


class Driver:
    """Runs what is left of a manifest in one directory, whose lock the caller holds."""

    def __init__(
        self,
        *,
        layout: Layout,
        manifest: Manifest,
        reading: ReplayResult,
        pool: Pool,
        lock: DriverLock | None = None,
        settings: SchedulerConfig | None = None,
        options: DriverOptions | None = None,
        progress: Progress | None = None,
        reopened: Collection[int] = (),
        only: Collection[int] | None = None,
        deciding: Deciding | None = None,
        keep: Callable[[Manifest], None] = lambda _: None,
    ) -> None:
        """Begin a driver's life.

        Args:
            layout, manifest, reading: the directory, the runs, and what the directory holds of them.
            pool: where to run; the caller closes it.
            lock: of the directory, which others may take from us.
            settings: what the scheduler is told.
            options: how the driver behaves.
            progress: what people see.
            reopened: runs that get another chance, shown as pending by the reading already.
            only: the runs to run, ``None`` for all that are pending.
            deciding: by results, which runs are needed; ``None`` needs all.
            keep: writes the manifest down that further runs have made.
        """
        self._layout, self._manifest, self._pool = layout, manifest, pool
        self._options = options or DriverOptions()
        self._progress = progress or Progress(total=len(manifest), quiet=True)
        self._interrupted = False
        self._space = Space(layout.root)
        self._first_s = self._last_commit_s = math.nan
        self._deciding = deciding or Deciding()
        self._commits = CommitLog(
            layout=layout,
            manifest=manifest,
            reading=reading,
            reopened=reopened,
            lock=lock,
            say=self._progress.say,
            on_end=self._deciding.listeners,
        )
        self._room = Room(pool, self._options)
        self._log = DriverLog(layout, self._commits.epoch)
        book, until, epoch = reading.book, self._options.until, self._commits.epoch
        now_s = time.monotonic()
        settled = (i for i, code in enumerate(book.outcome) if code or (only is not None and i not in only))
        self._scheduler = Scheduler(
            self._workload(book),
            settled=settled,
            attempts=book.attempts,
            histories=book.histories,
            settings=settings,
            capacity=self._room.capacity(),
            first_token=first_token(epoch),
            name_prefix=f"e{epoch}-",
            deadline_s=math.inf if until is None else now_s + until - time.time(),
            now_s=now_s,
        )
        self._nodes = NodeWatch(self._scheduler.fleet.capacity, self._options.nodes_asked)
        self._teller = StatusWriter(
            nodes=self._nodes,
            layout=layout,
            manifest=manifest,
            book=book,
            scheduler=self._scheduler,
            epoch=epoch,
            progress=self._progress,
            deciding=self._deciding,
        )
        self._growing = Growing(
            manifest, self._deciding, self._commits, self._teller, self._scheduler, self._room, keep
        )

    def _workload(self, book: RunIndex) -> Workload:
        race, search = self._deciding.race, self._deciding.search
        rounds, shares = None if race is None else race.rounds, self._options.sharing and search is None
        to_share = pending_runs(book.outcome) if shares else None
        return workload_of(self._manifest, to_share, self._room.most_slots(), rounds)

    def run(self) -> Summary:
        """Run to the end, or until asked to stop.

        Raises:
            OSError: when the directory can no longer be written; nothing committed is lost.
        """
        num, epoch = self._scheduler.num_open, self._commits.epoch
        self._log.write(f"driver {epoch} begins: {num} of {len(self._growing.manifest)} runs are open")
        if self._nodes.is_short:
            self._say(f"{self._nodes.text()}: those that come later are used as well")
        with StopSignals() as signals:
            with self._progress:
                self._loop(signals)
            return self._finish()

    def _loop(self, signals: StopSignals) -> None:
        flushed_s = looked_s = time.monotonic()
        self._deciding.apply(self._commits, self._tell)
        while True:
            now_s = time.monotonic()
            self._act(self._scheduler.decide(now_s))
            if self._scheduler.finished and not self._growing.goes_on(self._flush_or_pause):
                return
            if self._growing.has_more:
                self._growing.propose()
            self._take(self._pool.events(0.0 if self._growing.has_more else TURN_S))
            if signals.count:
                self._drain_for_signal(again=signals.count > 1)
            if now_s - flushed_s >= FLUSH_S or self._growing.is_short:
                self._flush_or_pause()
                flushed_s = now_s
            if now_s - looked_s >= LOOK_S:
                self._look_around()
                looked_s = now_s

    # --- acting ---------------------------------------------------------------------------------------

    def _act(self, actions: Iterable[ev.Action]) -> None:
        for action in actions:
            self._log.note(action)
            match action:
                case ev.Accept():
                    self._commits.accept(action)
                case ev.Dispatch():
                    self._dispatch(action)
                case ev.StartWorker():
                    setup = worker_setup(self._layout, self._growing.manifest, action, self._options)
                    self._pool.start_worker(setup, action.shape)
                case ev.StopWorker():
                    self._pool.stop_worker(action.worker)
                case ev.KillWorker():
                    self._progress.say(f"worker {action.worker} is replaced: {action.reason}")
                    self._pool.kill_worker(action.worker, record_stack=action.record_stack)
                case ev.CancelAttempts():
                    self._pool.cancel(action.worker, action.tokens)
                case ev.NoteEnds():
                    self._commits.note_ends(action)
                case ev.NoteFailure():
                    self._commits.note_failure(action)
                case ev.Settle():
                    self._commits.settle(action)
                case ev.Announce():
                    self._progress.say(action.text)

    def _dispatch(self, action: ev.Dispatch) -> None:
        if math.isnan(self._first_s):
            self._first_s = time.monotonic()
        manifest = self._growing.manifest
        specs = manifest.specs([grant.run for grant in action.grants])
        items = [Task(g, manifest.run_ids[g.run], spec) for g, spec in zip(action.grants, specs, strict=True)]
        self._commits.granted(action.worker, items)
        self._pool.dispatch(action.worker, items)

    # --- listening ------------------------------------------------------------------------------------

    def _take(self, happened: Iterable[PoolEvent]) -> None:
        now_s = time.monotonic()
        for event in happened:
            if isinstance(event, Shipped):
                self._commits.store_copy(event)
                event = event.reported
            self._log.note(event)
            if isinstance(event, ev.WorkerLost):
                self._commits.worker_is_gone(event.worker)
            elif isinstance(event, ev.DrainRequested):
                self._interrupted = True
            elif isinstance(event, ev.Reported):
                require_no_limit(event.reports)
            self._scheduler.tell(event, now_s)

    def _look_around(self) -> None:
        self._commits.require_ours()
        self._obey_requests()
        capacity = self._room.capacity()
        self._scheduler.tell(ev.CapacityChanged(capacity=capacity), time.monotonic())
        if words := self._nodes.look(capacity):
            self._say(words)
        self._pool.ask_for(self._scheduler.asked_for())
        last = math.inf if self._options.until is None else self._options.until - self._options.grace_s
        if time.time() >= last and not self._scheduler.draining:
            self._drain("the time limit of --until has come", self._options.grace_s)
        self._growing.keep()
        self._teller.show()
        self._teller.write("paused" if self._scheduler.paused else "running")

    def _obey_requests(self) -> None:
        """Do what other processes ask for, and let them know once it is durable."""
        requests = requests_left(self._layout)
        for _, request in requests:
            try:
                match event_of(request, self._growing.manifest, self._commits.book):
                    case Cap(max_slots=max_slots, max_gpus=max_gpus):
                        self._scheduler.cap(max_slots=max_slots, max_gpus=max_gpus)
                    case "stop":
                        self._drain("asked to stop", self._options.grace_s)
                    case event:
                        self._tell(event)
            except (SpecError, KeyError, TypeError, ValueError) as error:
                self._say(f"a request was not understood and is passed over ({error!r}): {request}")
        if requests:
            self._act(self._scheduler.decide(time.monotonic()))
            self._flush_or_pause()
        for path, _ in requests:
            path.unlink(missing_ok=True)

    def _drain_for_signal(self, *, again: bool) -> None:
        if again:
            self._drain("interrupted", 0.0)
        elif not self._scheduler.draining:
            grace_s = self._options.grace_s
            self._progress.say(f"stopping: what runs has {grace_s:g} s to finish; again to stop at once")
            self._drain("interrupted", grace_s)

    def _drain(self, reason: str, grace_s: float) -> None:
        self._interrupted = True
        self._tell(ev.DrainRequested(reason=reason, grace_s=grace_s))

    def _tell(self, event: ev.Event) -> None:
        self._log.note(event)
        self._scheduler.tell(event, time.monotonic())

    def _say(self, text: str) -> None:
        self._log.write(text)
        self._progress.say(text)

    # --- making durable -------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._commits.flush():
            self._last_commit_s = time.monotonic()
        self._deciding.apply(self._commits, self._tell)
        self._growing.propose()
        self._teller.show()

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
            self._say(f"paused: {reason}; goes on by itself once there is room")
        elif self._scheduler.paused and not reason:
            self._say("there is room again: going on")
        self._scheduler.paused = bool(reason)

    def _finish(self) -> Summary:
        if self._options.until is not None and self._scheduler.num_open and not self._interrupted:
            self._drain("no further run would end before the time limit of --until", 0.0)
        self._flush_or_pause()
        self._pool.close()
        if self._deciding.race and (complaint := self._deciding.race.complaint()):
            self._say(complaint)
        why = self._scheduler.stop_reason or "nothing is left to hand out"
        self._log.write(f"driver {self._commits.epoch} ends: {why}")
        self._log.close()
        try:
            self._flush()
            self._growing.keep(now=True)
            self._commits.finish(self._scheduler.stop_reason)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            self._drain(f"the tables could not be written: {error}", 0.0)
        self._teller.write("interrupted" if self._interrupted else "finished")
        busy_s = self._last_commit_s - self._first_s
        return Summary.of(
            self._commits.book.counts(),
            new=self._commits.num_new,
            busy_s=0.0 if math.isnan(busy_s) else busy_s,
            **self._deciding.facts(),
            interrupted=self._interrupted,
            reason=self._scheduler.stop_reason,
            worker_peak_mib=self._scheduler.fleet.peak_mib,
        )
