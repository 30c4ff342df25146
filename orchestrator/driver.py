"""The driver: carries out what the scheduler decides and makes it durable. One process, one thread, one loop.

Order within a turn: decide, act, wait for events, make durable (spool bytes of other nodes, journal, SQLite),
compact. A result counts from the moment its ``accept`` record is synced; the scheduler never waits for that.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from orchestrator import events as ev
from orchestrator.pools.base import Pool, Shipped
from orchestrator.progress import Progress
from orchestrator.scheduler import Scheduler
from orchestrator.settings import Settings
from orchestrator.store import compact
from orchestrator.store.book import CODE, DIVERGED, DONE, FailureNote, Reading
from orchestrator.store.control import take_requests
from orchestrator.store.journal import Journal, first_token
from orchestrator.store.layout import Layout
from orchestrator.store.spool import LineReader, SpoolWriter
from orchestrator.store.state import StateWriter
from orchestrator.store.status import write_status
from orchestrator.worker import Item, WorkerSetup, own_import_path
from orchestrator.workload import workload_of
from sweeps.filters import any_matches, parse_filter
from sweeps.manifest import Manifest

TURN_S = 0.1
"""Longest wait for events: how soon a signal or a retry that has come due is noticed."""

FLUSH_S = 0.25
"""Period of the journal's sync and the SQLite transaction: four fsyncs a second cost nothing, a crash repeats
little.
"""

STATUS_S = 1.0
"""Period of ``status.json``, of looking for requests and of asking the pool for its capacity."""


@dataclass(frozen=True, kw_only=True)
class DriverOptions:
    """How a driver behaves, apart from what the scheduler decides."""

    ship_lines: bool = False
    """Workers keep their spools on their own node and send the bytes along."""
    scratch: str = ""
    """Folder on each worker's node for its spool, when ``ship_lines`` is set."""
    grace_s: float = 10.0
    """Time that running work gets to finish after SIGINT or SIGTERM."""
    until: float | None = None
    """Unix time at which the sweep must have stopped cleanly."""
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
    new: int
    """Results committed in this life."""
    wall_s: float
    """Seconds from the driver's start to its end."""
    busy_s: float
    """Seconds from the first dispatch to the last durable commit."""
    interrupted: bool
    """Whether it was asked to stop before the end."""
    reason: str
    """Why it stopped early, for people; empty otherwise."""

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layout, self._manifest, self._pool = layout, manifest, pool
        self._book = reading.book
        self._options = options or DriverOptions()
        self._clock = clock
        self._started_s = clock()
        self._first_s: float | None = None
        self._last_commit_s: float | None = None
        self._num_new = 0
        self._signals = 0
        self._interrupted = False
        self._grants: dict[int, ev.Grant] = {}
        self._copies: dict[str, SpoolWriter] = {}
        self._uncompacted: list[int] = []
        self._lines = LineReader(layout.spools)
        self._progress = progress or Progress(total=len(manifest), quiet=True)
        self._journal = Journal(layout, epoch, manifest.run_ids)
        self._journal.epoch(epoch, socket.gethostname(), os.getpid(), manifest.digest)
        self._state = StateWriter(layout.state, epoch=epoch, manifest=manifest.digest)
        if reopened:
            self._journal.reopen(sorted(reopened))
        self._adopt(reading)
        compact.drop_parts(layout)
        self._parts = compact.PartWriter(layout)
        book = self._book
        self._earlier = [i for i in range(len(book)) if book.committed(i)]
        self._scheduler = Scheduler(
            workload_of(manifest),
            settled=(
                i for i, code in enumerate(book.outcome) if code or (only is not None and i not in only)
            ),
            attempts={i: n for i, n in enumerate(book.attempts) if n},
            histories=book.histories,
            settings=settings,
            capacity=pool.capacity(),
            first_token=first_token(epoch),
            name_prefix=f"e{epoch}-",
            now_s=clock(),
        )
        self._epoch = epoch

    def run(self) -> Summary:
        """Run to the end, or until asked to stop.

        Raises:
            OSError: when the directory can no longer be written; nothing committed is lost.
        """
        previous = self._install_signals()
        flushed_s = status_s = self._clock()
        try:
            with self._progress:
                while True:
                    now_s = self._clock()
                    self._act(self._scheduler.decide(now_s))
                    if self._scheduler.finished:
                        break
                    self._take(self._pool.events(TURN_S))
                    now_s = self._clock()
                    if self._signals:
                        self._drain_for_signal()
                    if now_s - flushed_s >= FLUSH_S:
                        self._flush()
                        flushed_s = now_s
                    if now_s - status_s >= STATUS_S:
                        self._housekeeping()
                        status_s = now_s
                self._flush()
            return self._finish()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    # --- acting -----------------------------------------------------------------------------------

    def _act(self, actions: Iterable[ev.Action]) -> None:
        for action in actions:
            match action:
                case ev.Accept():
                    self._accept(action)
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
                    self._note_failure(action)
                case ev.Settle():
                    self._settle(action)
                case ev.Announce():
                    self._progress.say(action.text)

    def _dispatch(self, action: ev.Dispatch) -> None:
        if self._first_s is None:
            self._first_s = self._clock()
        manifest, at = self._manifest, time.time()
        items = [Item(g, manifest.run_ids[g.index], manifest.spec(g.index)) for g in action.grants]
        self._journal.lease(action.worker, action.grants)
        self._state.granted((i.grant.token, i.run_id, i.grant.attempt, action.worker, at) for i in items)
        self._pool.dispatch(action.worker, items)

    def _setup(self, action: ev.StartWorker) -> WorkerSetup:
        layout, spec = self._layout, self._manifest.spec(action.runs_like)
        return WorkerSetup(
            name=action.worker,
            spool=layout.spool(action.worker),
            checkpoints=layout.root.resolve() / "checkpoints",
            log=layout.worker_logs / f"{action.worker}.log",
            warm_target=spec.trainer.target,
            ship_lines=self._options.ship_lines,
            import_path=own_import_path(),
        )

    def _accept(self, action: ev.Accept) -> None:
        self._journal.accept(action)
        book, run_ids = self._book, self._manifest.run_ids
        rows = []
        for r in action.reports:
            book.commit(r.index, r.outcome, r.spool, r.offset, r.length)
            rows.append(
                (
                    *(run_ids[r.index], r.outcome, r.attempt, action.worker),
                    *(r.spool, r.offset, r.length, r.finished_at, r.wall_s, None, None),
                )
            )
            self._uncompacted.append(r.index)
        self._num_new += len(rows)
        self._state.settled(rows)

    def _note_failure(self, action: ev.NoteFailure) -> None:
        failure = action.failure
        self._journal.failure(action)
        note = FailureNote(failure._replace(details=""), action.attempt, action.worker, time.time())
        self._book.notes[action.index] = note
        log = self._layout.attempt_log(self._manifest.run_ids[action.index], action.attempt)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(failure.details or failure.message + "\n")

    def _settle(self, action: ev.Settle) -> None:
        self._journal.settle([action.index], action.outcome)
        self._book.outcome[action.index] = CODE[action.outcome]
        note, run_id = self._book.notes.get(action.index), self._manifest.run_ids[action.index]
        if note is None:
            row = (run_id, action.outcome, *[None] * 9)
        else:
            failure = note.failure
            where = (note.attempt, note.worker, None, None, None, note.at, None)
            row = (run_id, action.outcome, *where, failure.message, failure.fingerprint)
        self._state.settled([row])
        if action.outcome != "cancelled" and note is not None:
            name = self._manifest.name(action.index)
            log = self._layout.attempt_log(run_id, note.attempt)
            self._progress.say(f"{action.outcome}: {name}: {note.failure.message} (see {log})")

    # --- listening --------------------------------------------------------------------------------

    def _take(self, happened: Iterable[ev.Event | Shipped]) -> None:
        now_s = self._clock()
        for event in happened:
            if isinstance(event, Shipped):
                self._store_copy(event)
                event = event.reported
            if isinstance(event, ev.Reported):
                self._state.ended((r.outcome, r.token) for r in event.reports)
            elif isinstance(event, ev.WorkerLost):
                self._copies.pop(event.worker, None)
            self._scheduler.tell(event, now_s)

    def _store_copy(self, event: Shipped) -> None:
        """Append another node's spooled bytes to our copy, at the same offsets, and sync before they count."""
        worker = event.reported.worker
        if worker not in self._copies:
            self._copies[worker] = SpoolWriter(self._layout.spool(worker))
        self._copies[worker].append(event.lines)
        self._copies[worker].sync()

    def _housekeeping(self) -> None:
        now_s = self._clock()
        for request in take_requests(self._layout):
            self._obey(request)
        self._scheduler.tell(ev.CapacityChanged(capacity=self._pool.capacity()), now_s)
        until = self._options.until
        if (
            until is not None
            and not self._scheduler.draining
            and time.time() >= until - self._options.grace_s
        ):
            self._drain("the time limit of --until has come", self._options.grace_s)
        self._progress.update(self._counts(), len(self._scheduler.fleet))
        write_status(self._layout, self._status("running"))

    def _obey(self, request: dict[str, Any]) -> None:
        now_s = self._clock()
        match request["verb"]:
            case "cancel":
                filters = [parse_filter(text) for text in request["filters"]]
                chosen = [i for i, code in enumerate(self._book.outcome) if not code]
                manifest = self._manifest
                wanted = [i for i in chosen if not filters or any_matches(filters, manifest.axis_values(i))]
                self._scheduler.tell(ev.CancelRequested(indices=tuple(wanted)), now_s)
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
        self._scheduler.tell(ev.DrainRequested(reason=reason, grace_s=grace_s), self._clock())

    # --- durability -------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._journal.sync()
        self._state.flush()
        if self._uncompacted:
            self._last_commit_s = self._clock()
            self._compact(self._uncompacted)
            self._uncompacted.clear()
        self._progress.update(self._counts(), len(self._scheduler.fleet))

    def _compact(self, indices: Iterable[int]) -> None:
        """Add committed results to the Parquet parts; one that can no longer be read is pending again."""
        for index in indices:
            line = self._lines.read(self._book.spools[self._book.spool[index]], *self._book.place(index))
            if line is not None:
                self._parts.add(index, line)
                continue
            self._book.outcome[index] = CODE["pending"]
            run_id = self._manifest.run_ids[index]
            self._progress.say(f"the result of run {run_id} can no longer be read; resume runs it again")

    def _adopt(self, reading: Reading) -> None:
        """Commit results that a dead driver never got to, and bring the index up to date."""
        by_worker: dict[str, list[ev.AttemptReport]] = {}
        for index, spool, offset, length, outcome in reading.adopted:
            report = ev.AttemptReport(index, 0, 0, outcome, 0.0, 0.0, spool, offset, length)
            by_worker.setdefault(spool.removesuffix(".jsonl"), []).append(report)
        for worker, reports in by_worker.items():
            self._journal.accept(ev.Accept(worker=worker, reports=tuple(reports)))
        self._journal.sync()
        self._state.clear()
        book = self._book
        rows = []
        for index, code in enumerate(book.outcome):
            if code in (DONE, DIVERGED):
                place = (book.spools[book.spool[index]], book.offset[index], book.length[index])
                outcome = "done" if code == DONE else "diverged"
                worker = place[0].removesuffix(".jsonl")
                rows.append((book.run_ids[index], outcome, None, worker, *place, None, None, None, None))
        self._state.settled(rows)
        self._state.flush()

    def _finish(self) -> Summary:
        summary = self._summary()
        self._pool.close()
        self._journal.end(self._scheduler.stop_reason)
        self._state.close()
        self._compact(self._earlier)
        self._lines.close()
        self._parts.write_part()
        compact.merge(self._layout, self._manifest, self._book)
        write_status(self._layout, self._status("interrupted" if self._interrupted else "finished"))
        return summary

    def _counts(self) -> dict[str, int]:
        counts = self._book.counts()
        running = self._scheduler.num_leased
        return {**counts, "pending": counts["pending"] - running, "running": running}

    def _status(self, state: str) -> dict[str, Any]:
        return {
            "state": state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "epoch": self._epoch,
            "total": len(self._manifest),
            "counts": self._counts(),
            "runs_per_s": self._progress.rate,
            "eta_s": self._progress.eta_s,
            "workers": len(self._scheduler.fleet),
        }

    def _summary(self) -> Summary:
        counts, now_s = self._book.counts(), self._clock()
        ends = (self._first_s, self._last_commit_s)
        busy_s = ends[1] - ends[0] if ends[0] is not None and ends[1] is not None else 0.0
        return Summary(
            expected=len(self._manifest),
            committed=counts["done"] + counts["diverged"],
            diverged=counts["diverged"],
            failed=counts["failed"] + counts["quarantined"],
            cancelled=counts["cancelled"],
            new=self._num_new,
            wall_s=now_s - self._started_s,
            busy_s=busy_s,
            interrupted=self._interrupted,
            reason=self._scheduler.stop_reason,
        )
