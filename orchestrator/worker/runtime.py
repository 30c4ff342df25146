"""What a worker process does: build the trainer, run specs, spool results, report.

Bytes it owns: its spool. A result is written and synced before it is reported; short runs share one sync.
Exceptions of a trainer stop here, where they become a :class:`~orchestrator.scheduling.retry.Failure`. A
trainer with a ``run_group(specs, contexts)`` gets each batch whole and yields ``(position, result or
exception)`` in turn.

The pools decide how messages travel and which thread calls :meth:`Runtime.loop`.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.scheduling.events import AttemptReport
from orchestrator.scheduling.retry import INFRASTRUCTURE, Failure, classify
from orchestrator.store.spool import SpoolWriter, encode_line
from orchestrator.worker.process_env import resident_gib
from orchestrator.worker.protocol import Heartbeat, ReportBatch, Task, WorkerSetup
from sweeps.spec import RunSpec, SpecError
from trainers.protocol import Cancelled, RunContext, RunResult, Trainer, WorkerContext

FLUSH_S = 0.25
"""Longest a finished result waits to be synced and reported: more often than people can see is of no use."""

BEAT_S = 1.0
"""Period of the heartbeats."""


class Runtime:
    """Runs items one after the other and hands finished ones to ``emit``, which two threads may call."""

    def __init__(self, setup: WorkerSetup, emit: Callable[[ReportBatch], None]) -> None:
        self.setup = setup
        self._emit = emit
        self._host = socket.gethostname()
        self._batches: queue.SimpleQueue[list[Task] | None] = queue.SimpleQueue()
        self._attempts: Iterator[AttemptReport] = iter(())
        self._left = 0
        self._cancelled: set[int] = set()
        self._trainers: dict[str, Trainer] = {}
        self._spool: SpoolWriter | None = None
        self._lock = threading.Lock()
        self._reports: list[AttemptReport] = []
        self._lines: list[bytes] = []
        self._flushed_s = 0.0
        self._token = 0
        self._progress = 0
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

    def pulse(self) -> Heartbeat:
        """The present state, for a heartbeat."""
        return Heartbeat(self._token, self._progress, resident_gib())

    def flush(self) -> None:
        """Sync the spool and report what has finished."""
        with self._lock:
            if not self._reports:
                return
            try:
                if self._spool is not None:
                    self._spool.sync()
                batch = ReportBatch(tuple(self._reports), b"".join(self._lines))
            except OSError as error:  # nobody knows which of these bytes are on the disk: none count
                failure = classify(error)._replace(kind=INFRASTRUCTURE)
                batch = ReportBatch(tuple(_as_failed(r, failure) for r in self._reports), b"")
                self._stopping = True
            self._reports.clear()
            self._lines.clear()
            self._flushed_s = time.monotonic()
            self._emit(batch)

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
        if self.setup.warm_target:
            try:
                self._trainer(self.setup.warm_target)
            except Exception:
                self._trainers.clear()

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
        for trainer in self._trainers.values():
            trainer.close()
        self._trainers.clear()
        if self._spool is not None:
            self._spool.close()

    def _run_all(self, items: list[Task]) -> Iterator[AttemptReport]:
        """Yield a report per item of a batch, each as soon as it has ended."""
        if self.setup.sharing and len(items) > 1 and self._shares(items[0].spec.trainer.target):
            yield from self._run_group(items)
            return
        for item in items:
            timer = time.perf_counter()
            if item.grant.token in self._cancelled:
                yield self._report(item, Cancelled(), timer)
                continue
            self._token = item.grant.token
            try:
                trainer = self._trainer(item.spec.trainer.target)
                outcome: Any = trainer.run(self._spec(item), self._context(item))
            except (Exception, SystemExit) as error:
                outcome = error
            report = self._report(item, outcome, timer)
            outcome = None  # a traceback kept alive through the next run would hold this one's tensors
            yield report

    def _shares(self, target: str) -> bool:
        try:
            return hasattr(self._trainer(target), "run_group")
        except Exception:
            return False  # the first run tells what is wrong with the trainer

    def _run_group(self, items: list[Task]) -> Iterator[AttemptReport]:
        """Let the trainer share work between the runs of a batch.

        What it raises outside a run ends the batch: the run it was at is charged, the others go back.
        """
        timer = time.perf_counter()
        wanted = [item for item in items if item.grant.token not in self._cancelled]
        for item in items:
            if item.grant.token in self._cancelled:
                yield self._report(item, Cancelled(), timer)
        left = dict(enumerate(wanted))
        failure: BaseException = RuntimeError("run_group ended without a result for each of its runs")
        try:
            if left:
                self._token = wanted[0].grant.token
                trainer: Any = self._trainer(wanted[0].spec.trainer.target)
                specs, contexts = [self._spec(i) for i in wanted], [self._context(i) for i in wanted]
                for position, outcome in trainer.run_group(specs, contexts):
                    report = self._report(left.pop(position), outcome, timer)
                    self._token = next(iter(left.values())).grant.token if left else 0
                    timer = time.perf_counter()
                    yield report
        except (Exception, SystemExit) as error:
            failure = error
        for number, item in enumerate(left.values()):
            yield self._report(item, Cancelled() if number else failure, timer)

    def _report(self, item: Task, outcome: RunResult | BaseException, timer: float) -> AttemptReport:
        """Spool a result, or say why there is none."""
        grant, more = item.grant, {}
        if isinstance(outcome, RunResult):
            word = outcome.outcome
            if self._spool is not None:
                try:
                    more = self._store(item, outcome)
                except OSError as error:  # a full or failing disk is no fault of the run
                    failure = classify(error)._replace(kind=INFRASTRUCTURE)
                    word, more = "failed", {"failure": failure}
        elif isinstance(outcome, Cancelled):
            word = "cancelled"
        else:
            # What the trainer kept warm may be half changed; the next run builds it anew.
            self._discard(item.spec.trainer.target)
            word, more = "failed", {"failure": classify(outcome)}
        self._token = 0
        self._cancelled.discard(grant.token)
        wall_s = time.perf_counter() - timer
        return AttemptReport(
            grant.run, grant.attempt, grant.token, word, wall_s=wall_s, finished_at=time.time(), **more
        )

    def _store(self, item: Task, result: RunResult) -> dict[str, Any]:
        header = {
            "kind": "result",
            "run_id": item.run_id,
            "attempt": item.grant.attempt,
            "token": item.grant.token,
            "outcome": result.outcome,
            "worker": self.setup.name,
            "host": self._host,
            "finished_at": time.time(),
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
        return RunContext(
            attempt=item.grant.attempt,
            checkpoint_dir=self._checkpoint_dir(item),
            sweep_dir=self.setup.checkpoints.parent,
            heartbeat=self._beat,
            cancelled=lambda: token in self._cancelled,
        )

    def _beat(self, _: str) -> None:
        self._progress += 1

    def _checkpoint_dir(self, item: Task) -> Path | None:
        resources = item.spec.resources
        if resources.keep_checkpoints == "none" and not resources.save_every_steps:
            return None
        return self.setup.checkpoints / item.run_id

    def _spec(self, item: Task) -> RunSpec:
        return with_smaller_batch(item.spec, item.grant.shrink)

    def _trainer(self, target: str) -> Trainer:
        if target not in self._trainers:
            self._trainers[target] = import_target(target)(self.setup.context)
        return self._trainers[target]

    def _discard(self, target: str) -> None:
        trainer = self._trainers.pop(target, None)
        if trainer is not None:
            try:
                trainer.close()
            except Exception as error:
                print(f"closing {target} after a failure: {error!r}", file=sys.stderr)


def _as_failed(report: AttemptReport, failure: Failure) -> AttemptReport:
    if report.failure is not None:
        return report
    return report._replace(outcome="failed", failure=failure, spool="", offset=0, length=0)


def import_target(target: str) -> Callable[[WorkerContext], Trainer]:
    """Import the class that a dotted path names.

    Raises:
        SpecError: when there is no such module or class.
    """
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(
            f"trainer.target={target!r}: cannot be imported ({error}); give module.Class"
        ) from error


def with_smaller_batch(spec: RunSpec, shrink: int) -> RunSpec:
    """The spec with what it computes at once, in training and in evaluation, halved ``shrink`` times.

    It needs less memory, takes the same steps and keeps its run_id.
    """
    if not shrink:
        return spec
    rows = spec.engine.micro_batch or spec.sampling.num_rollouts
    engine = dataclasses.replace(spec.engine, micro_batch=max(1, rows >> shrink))
    judged = dataclasses.replace(spec.eval, batch_items=max(1, spec.eval.batch_items >> shrink))
    return dataclasses.replace(spec, engine=engine, eval=judged)
