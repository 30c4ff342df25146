"""What a worker process does: build the trainer, run specs, spool results, report.

Bytes it owns: its spool, and the file of what trainers report (:mod:`.reported`). A result is written and
synced before it is told of; short runs share one sync.
Exceptions of a trainer stop here, where they become a :class:`~orchestrator.store.outcomes.Failure`. What a
trainer may do is in :mod:`trainers.protocol`.

The pools decide how messages travel and which thread calls :meth:`Runtime.loop`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

from orchestrator.scheduling.retry import classify
from orchestrator.store.outcomes import INFRASTRUCTURE, AttemptEnd, AttemptReport, Failure
from orchestrator.store.spool import SpoolWriter, encode_line
from orchestrator.worker.failures import failure_of
from orchestrator.worker.hot_trainers import HotTrainers
from orchestrator.worker.log_bounds import keep_bounded
from orchestrator.worker.process_env import leave_if_forked, peak_resident_mib, resident_gib
from orchestrator.worker.protocol import Heartbeat, ReportBatch, Task, WorkerSetup
from orchestrator.worker.reported import WorkerReports
from orchestrator.worker.run_markers import RunMarkers
from orchestrator.worker.smaller_batch import with_smaller_batch
from sweeps.spec import RunSpec
from trainers.protocol import (
    Cancelled,
    GroupTrainer,
    Outcome,
    RunContext,
    RunResult,
    outcome_of,
    outcomes_of,
)
from trainers.reporting import reporting_to

FLUSH_S = 0.25
"""Longest a finished result waits to be synced and reported: more often than people can see is of no use."""

BEAT_S = 1.0
"""Period of the heartbeats."""


class Runtime:
    """Runs items one after the other and hands finished ones to ``emit``, which two threads may call."""

    def __init__(
        self,
        setup: WorkerSetup,
        emit: Callable[[ReportBatch], None],
        trainers: HotTrainers | None = None,
    ) -> None:
        self.setup = setup
        self._emit = emit
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._sweep_dir = setup.checkpoints.parent
        self._batches: queue.SimpleQueue[list[Task] | None] = queue.SimpleQueue()
        self._attempts: Iterator[AttemptReport] = iter(())
        self._left = 0
        self._cancelled: set[int] = set()
        self.trainers = trainers or HotTrainers(setup.context)
        self.parked = False
        """Whether its trainers stay warm for another driver once it has stopped."""
        self._spool: SpoolWriter | None = None
        self._reported = WorkerReports(setup, self._cancelled, self._progressed)
        self._lock = threading.Lock()
        self._reports: list[AttemptReport] = []
        self._lines: list[bytes] = []
        self._flushed_s = 0.0
        self._token = 0
        self._progress = 0
        self._markers = RunMarkers(setup.log)
        self._stopping = False

    # --- called by the pool, from any thread ----------------------------------------------------------

    def add(self, items: list[Task]) -> None:
        """Queue a batch."""
        self._batches.put(items)

    def cancel(self, tokens: tuple[int, ...]) -> None:
        """Drop these attempts when their turn comes, or now if the trainer looks at its cancel flag."""
        self._cancelled.update(tokens)

    def stop(self) -> None:
        """Make :meth:`loop` return after the current run."""
        self._stopping = True
        self._batches.put(None)

    def park(self) -> None:
        """Make :meth:`loop` return after the current run, and leave the trainers warm."""
        self.parked = True
        self.stop()

    def pulse(self) -> Heartbeat:
        """The present state, for a heartbeat; the log stays within its bounds meanwhile."""
        keep_bounded(self.setup.log)
        return Heartbeat(self._token, self._progress, resident_gib(), self._markers.heard())

    def flush(self) -> None:
        """Sync the spool and report what has finished."""
        with self._lock:
            reported = self._reported.shipment()
            if not (self._reports or reported):
                return
            try:
                if self._spool is not None:
                    self._spool.sync()
                batch = ReportBatch(tuple(self._reports), b"".join(self._lines), peak_resident_mib())
            except OSError as error:  # nobody knows which of these bytes are on the disk: none count
                failure = classify(error)._replace(failure_class=INFRASTRUCTURE)
                batch = ReportBatch(tuple(_as_failed(r, failure) for r in self._reports), b"")
                self._stopping = True
            self._reports.clear()
            self._lines.clear()
            self._flushed_s = time.monotonic()
            self._emit(batch._replace(reported=reported))

    # --- called by the working thread -----------------------------------------------------------------

    def warm(self) -> None:
        """Open the spool and build the trainer needed first; its errors wait for the first run."""
        for folder in self.setup.import_path:
            if folder not in sys.path:
                sys.path.append(folder)
        if self.setup.spool is not None:
            path = Path(self.setup.node_folder) / self.setup.spool
            path.parent.mkdir(parents=True, exist_ok=True)
            self._spool = SpoolWriter(path)
            facts = {"kind": "worker", "worker": self.setup.name, "host": self._host}
            self._write(encode_line({**facts, "pid": os.getpid(), "started_at": time.time()}))
        if self.setup.warm is not None:
            with contextlib.suppress(BaseException):
                self.trainers.get(self.setup.warm)

    def loop(self) -> None:
        """Work until stopped."""
        while self.step(block=True):
            pass
        self.close()

    def step(self, *, block: bool) -> bool:
        """Finish one attempt; false when stopped, or when there is none and ``block`` is false."""
        report = None if self._stopping else next(self._attempts, None)
        while report is None:
            try:
                items = self._batches.get(block)
            except queue.Empty:
                return False
            if items is None or self._stopping:
                return False
            self._attempts, self._left = self._run_all(items), len(items)
            report = next(self._attempts, None)
        with self._lock:
            self._reports.append(report)
        self._progress += 1
        self._left -= 1
        if (not self._left and self._batches.empty()) or time.monotonic() - self._flushed_s >= FLUSH_S:
            self.flush()
        return True

    def close(self) -> None:
        """Report what is left and free what is warm."""
        self.flush()
        if not self.parked:
            self.trainers.close()
        self._reported.close()
        self._markers.heard()
        if self._spool is not None:
            self._spool.close()

    def _run_all(self, items: list[Task]) -> Iterator[AttemptReport]:
        """Yield a report per item of a batch, each as soon as it has ended."""
        if self.setup.sharing and len(items) > 1 and (trainer := self._group_trainer(items)):
            yield from self._run_group(trainer, items)
            return
        for item in items:
            timer = time.perf_counter()
            if item.grant.token in self._cancelled:
                yield self._report(item, Cancelled(), timer)
                continue
            self._begin(item)
            outcome: Outcome | None
            try:
                trainer_of_item = self.trainers.get(item.spec.trainer)
                context = self._context(item)
                with reporting_to(context.report):
                    outcome = outcome_of(trainer_of_item.run(self._spec(item), context))
            except BaseException as error:  # whatever ends a run, the worker goes on
                outcome = error
            report = self._report(item, outcome, timer)
            outcome = None  # a traceback kept alive through the next run would hold this one's tensors
            if _is_trainers_fault(report):
                self.trainers.discard(item.spec.trainer.target)
            yield report

    def _group_trainer(self, items: list[Task]) -> GroupTrainer | None:
        """The batch's trainer, if it takes batches whole."""
        try:
            trainer = self.trainers.get(items[0].spec.trainer)
        except BaseException:
            return None  # the first run tells what is wrong with the trainer
        return trainer if isinstance(trainer, GroupTrainer) else None

    def _run_group(self, trainer: GroupTrainer, items: list[Task]) -> Iterator[AttemptReport]:
        """Let the trainer share work between the runs of a batch; :class:`GroupTrainer` says what comes of
        each.
        """
        timer = time.perf_counter()
        called_off = self._cancelled.intersection(item.grant.token for item in items)  # as it is now
        wanted = [item for item in items if item.grant.token not in called_off]
        for item in items:
            if item.grant.token in called_off:
                yield self._report(item, Cancelled(), timer)
        left = dict(enumerate(wanted))
        for item in reversed(wanted):
            self._begin(item)
        failed = False
        ending: BaseException | None = None
        try:
            specs, contexts = [self._spec(i) for i in wanted], [self._context(i) for i in wanted]
            outcome: Outcome | None
            for position, outcome in outcomes_of(trainer, specs, contexts) if wanted else ():
                report = self._report(left.pop(position), outcome, timer)
                outcome = None  # as above
                failed |= _is_trainers_fault(report)
                self._token = next(iter(left.values())).grant.token if left else 0
                timer = time.perf_counter()
                yield report
        except GeneratorExit:
            raise  # the worker stops
        except BaseException as error:
            ending = error
        if failed or ending is not None:
            self.trainers.discard(items[0].spec.trainer.target)
        for item in left.values():
            report = self._report(item, ending or Cancelled(), timer)
            if report.failure is not None:  # whose fault it was is a guess: it gets a second try
                report = report._replace(failure=report.failure._replace(may_pass=True))
            yield report
            ending = None

    def _report(self, item: Task, outcome: Outcome, timer: float) -> AttemptReport:
        """Spool a result, or say why there is none."""
        grant, finished_at = item.grant, time.time()
        word: AttemptEnd
        more: dict[str, Any] = {}
        leave_if_forked(self._pid, outcome)
        outcome = self._reported.ended(grant.token, outcome)
        if isinstance(outcome, RunResult):
            word = cast("AttemptEnd", outcome.outcome)
            if self._spool is not None:
                try:
                    more = self._store(item, outcome, finished_at, time.perf_counter() - timer)
                except OSError as error:  # a full or failing disk is no fault of the run
                    failure = classify(error)._replace(failure_class=INFRASTRUCTURE)
                    word, more = "failed", {"failure": failure}
                except Exception as error:  # a result that nothing can hold is the trainer's fault
                    word, more = "failed", {"failure": classify(error)}
        elif isinstance(outcome, Cancelled):
            word = "cancelled"
        else:
            word, more = "failed", {"failure": failure_of(outcome)}
        self._token = 0
        self._markers.ends(item.run_id, grant.attempt, word)
        self._cancelled.discard(grant.token)
        wall_s = time.perf_counter() - timer
        return AttemptReport(grant.run, grant.attempt, grant.token, word, wall_s, finished_at, **more)

    def _begin(self, item: Task) -> None:
        self._markers.begins(item.run_id, item.grant.attempt)
        self._token = item.grant.token

    def _store(self, item: Task, result: RunResult, finished_at: float, wall_s: float) -> dict[str, Any]:
        header = {
            "kind": "result",
            "run_id": item.run_id,
            "attempt": item.grant.attempt,
            "token": item.grant.token,
            "outcome": result.outcome,
            "worker": self.setup.name,
            "host": self._host,
            "finished_at": finished_at,
            "wall_s": round(wall_s, 6),
        }
        line = encode_line(header, result.to_json())
        assert self._spool is not None
        return {"offset": self._write(line), "length": len(line), "spool": self._spool.path.name}

    def _write(self, line: bytes) -> int:
        assert self._spool is not None
        with self._lock:
            offset = self._spool.append(line)
            if self.setup.node_folder:
                self._lines.append(line)
            return offset

    def _context(self, item: Task) -> RunContext:
        token = item.grant.token
        reports = self._reported.begun(item)
        return RunContext(
            run_id=item.run_id,
            attempt=item.grant.attempt,
            checkpoint_dir=self._checkpoint_dir(item),
            sweep_dir=self._sweep_dir,
            heartbeat=partial(self._beat, item),
            cancelled=lambda: token in self._cancelled,
            report=reports.report,
            decision=reports.decision,
        )

    def _beat(self, item: Task, words: str) -> None:
        self._progressed()
        self._markers.says(item.run_id, item.grant.attempt, words)

    def _progressed(self) -> None:
        self._progress += 1

    def _checkpoint_dir(self, item: Task) -> Path | None:
        resources = item.spec.resources
        if resources.keep_checkpoints == "none" and not resources.save_every_steps:
            return None
        return self.setup.checkpoints / item.run_id

    def _spec(self, item: Task) -> RunSpec:
        return with_smaller_batch(item.spec, item.grant.shrink)


def _is_trainers_fault(report: AttemptReport) -> bool:
    return report.failure is not None and report.failure.failure_class != INFRASTRUCTURE


def _as_failed(report: AttemptReport, failure: Failure) -> AttemptReport:
    if report.failure is not None:
        return report
    return report._replace(outcome="failed", failure=failure, spool="", offset=0, length=0)
