"""What a worker process does: build the trainer, run specs, spool results, report.

Bytes it owns: its spool. A result is written and synced before it is reported; short runs share one sync.
Exceptions stop at :meth:`Runtime.step`, where they become a :class:`~orchestrator.retry.Failure`; nothing
else is caught.

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.events import AttemptReport, Grant
from orchestrator.retry import INFRASTRUCTURE, classify
from orchestrator.store.spool import SpoolWriter, encode_line
from sweeps.spec import RunSpec, SpecError
from trainers.protocol import Cancelled, RunContext, Trainer, WorkerContext

FLUSH_S = 0.25
"""Longest a finished result waits to be synced and reported: shorter would sync more often than people can
see.
"""

BEAT_S = 1.0
"""Period of the heartbeats."""


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a worker process is told at birth."""

    name: str
    """Its name, unique in the sweep directory."""
    spool: Path | None
    """File for its results; ``None`` for ranks above 0."""
    checkpoints: Path
    """Folder that holds a folder of weights per run that keeps any."""
    log: Path
    """File for its standard error and stacks."""
    context: WorkerContext = dataclasses.field(default_factory=WorkerContext)
    """What the trainer is told."""
    warm_target: str = ""
    """Import path of the trainer to build before the first run."""
    ship_lines: bool = False
    """Send the spooled bytes along with the report, for a driver that does not see this node's files."""
    import_path: tuple[str, ...] = ()
    """Folders to add to the import path, so that an own trainer is found."""


class Item(NamedTuple):
    """One run as it travels to a worker."""

    grant: Grant
    """The lease."""
    run_id: str
    """Identity of the run."""
    spec: RunSpec
    """What to run."""


class Batch(NamedTuple):
    """What a worker tells of: finished attempts, and their bytes where the driver cannot see the spool."""

    reports: tuple[AttemptReport, ...]
    """One per attempt, in the order they ended."""
    lines: bytes
    """The spooled lines, or nothing."""


class Pulse(NamedTuple):
    """A heartbeat."""

    token: int
    """Lease being worked on, 0 when idle."""
    progress: int
    """Grows with the trainer's own heartbeats."""
    memory_gib: float
    """Resident memory of the process."""


class Runtime:
    """Runs items one after the other and hands finished ones to ``emit``, which may be called from two
    threads.
    """

    def __init__(self, setup: WorkerSetup, emit: Callable[[Batch], None]) -> None:
        self.setup = setup
        self._emit = emit
        self._host = socket.gethostname()
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
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

    # --- called by the pool, from any thread ------------------------------------------------------

    def add(self, items: list[Item]) -> None:
        """Queue a batch."""
        for item in items:
            self._items.put(item)

    def cancel(self, tokens: tuple[int, ...]) -> None:
        """Drop these attempts when their turn comes, or now if the trainer looks at its cancel flag."""
        self._cancelled.update(tokens)

    def stop(self) -> None:
        """Make :meth:`loop` return after the current item."""
        self._stopping = True
        self._items.put(None)

    def pulse(self) -> Pulse:
        """The present state, for a heartbeat."""
        return Pulse(self._token, self._progress, resident_gib())

    def flush(self) -> None:
        """Sync the spool and report what has finished."""
        with self._lock:
            if not self._reports:
                return
            if self._spool is not None:
                self._spool.sync()
            batch = Batch(tuple(self._reports), b"".join(self._lines))
            self._reports.clear()
            self._lines.clear()
            self._flushed_s = time.monotonic()
            self._emit(batch)

    # --- called by the working thread -------------------------------------------------------------

    def warm(self) -> None:
        """Open the spool and build the trainer that will be needed first; its errors wait for the first run."""
        for folder in self.setup.import_path:
            if folder not in sys.path:
                sys.path.append(folder)
        if self.setup.spool is not None:
            self._spool = SpoolWriter(self.setup.spool)
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
        """Take one item and finish it; false when stopped, or when there is none and ``block`` is false."""
        try:
            item = self._items.get(block)
        except queue.Empty:
            return False
        if item is None or self._stopping:
            return False
        report = self._run(item)
        with self._lock:
            self._reports.append(report)
        if self._items.empty() or time.monotonic() - self._flushed_s >= FLUSH_S:
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

    def _run(self, item: Item) -> AttemptReport:
        grant, spec = item.grant, item.spec
        started_s = time.perf_counter()

        def report(outcome: str, **more: Any) -> AttemptReport:
            wall_s = time.perf_counter() - started_s
            return AttemptReport(*grant[:3], outcome=outcome, wall_s=wall_s, finished_at=time.time(), **more)

        if grant.token in self._cancelled:
            return report("cancelled")
        self._token = grant.token
        target = spec.trainer.target
        try:
            context = RunContext(
                attempt=grant.attempt,
                checkpoint_dir=self._checkpoint_dir(item),
                heartbeat=self._beat,
                cancelled=lambda: grant.token in self._cancelled,
            )
            result = self._trainer(target).run(with_smaller_batch(spec, grant.shrink), context)
            if self._spool is None:
                return report(result.outcome)
            header = {
                "kind": "result",
                "run_id": item.run_id,
                "attempt": grant.attempt,
                "token": grant.token,
                "outcome": result.outcome,
                "worker": self.setup.name,
                "host": self._host,
                "finished_at": time.time(),
            }
            line = encode_line(header, result.to_json())
            try:
                offset = self._write(line)
            except OSError as error:  # a full or failing disk is no fault of the run
                return report("failed", failure=classify(error)._replace(kind=INFRASTRUCTURE))
            return report(result.outcome, spool=self._spool.path.name, offset=offset, length=len(line))
        except Cancelled:
            return report("cancelled")
        except (Exception, SystemExit) as error:
            # What the trainer kept warm may be half changed; the next run builds it anew.
            self._discard(target)
            return report("failed", failure=classify(error))
        finally:
            self._token = 0
            self._progress += 1
            self._cancelled.discard(grant.token)

    def _write(self, line: bytes) -> int:
        assert self._spool is not None
        with self._lock:
            offset = self._spool.append(line)
            if self.setup.ship_lines:
                self._lines.append(line)
            return offset

    def _beat(self, _: str) -> None:
        self._progress += 1

    def _checkpoint_dir(self, item: Item) -> Path | None:
        if item.spec.resources.keep_checkpoints == "none":
            return None
        return self.setup.checkpoints / item.run_id

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
    """The spec with its micro batch halved ``shrink`` times: less memory, same effective batch, same run_id."""
    if not shrink:
        return spec
    rows = spec.engine.micro_batch or spec.sampling.num_rollouts
    engine = dataclasses.replace(spec.engine, micro_batch=max(1, rows >> shrink))
    return dataclasses.replace(spec, engine=engine)


def resident_gib() -> float:
    """Resident memory of this process in GiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def worker_environment(threads: int) -> dict[str, str]:
    """Variables that must be set before a worker imports torch: one compute thread keeps results bit-for-bit
    equal.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}


def own_import_path() -> tuple[str, ...]:
    """Folders of this process's import path outside the Python installation, and the current one."""
    inside = (sys.prefix, sys.base_prefix)
    folders = [str(Path(p).resolve()) for p in sys.path if p and not p.startswith(inside)]
    return tuple(dict.fromkeys([*folders, str(Path(__file__).parent.parent), str(Path.cwd())]))
