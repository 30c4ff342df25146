"""Worker processes on this machine, spawned afresh and spoken to over socket pairs. No Ray, and no port but
the one at which the ranks of a gang meet. What a process leaves in its temporary folder goes with it, and so
do the processes that it started.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.pools.base import PoolEvent, batch_event, beat_event
from orchestrator.pools.channel import Channel, pack
from orchestrator.pools.devices import VISIBLE_GPUS, GpuLedger, visible_gpus
from orchestrator.pools.gang import GangReports, rank_setup
from orchestrator.pools.marked import FOLDER, WORKER, end_marked, start_guard
from orchestrator.pools.temp_folders import TemporaryFolder, temporary_files
from orchestrator.scheduling.events import Capacity, Node, Shape, WorkerLost, WorkerReady
from orchestrator.worker.process_env import import_environment, worker_environment
from orchestrator.worker.protocol import Task, WorkerSetup

STACK_WAIT_S = 0.5
"""Time a process gets to write its stacks before it is killed."""

STOP_WAIT_S = 5.0
"""Time an idle worker gets to free what it holds before it is killed."""


@dataclass(slots=True)
class _Rank:
    number: int
    process: subprocess.Popen[bytes]
    channel: Channel
    host: str = ""


@dataclass(slots=True)
class LocalWorker:
    """A worker process, or the processes of a gang."""

    name: str
    ranks: list[_Rank]
    reports: GangReports
    gpus: list[tuple[int, float]]
    ready: bool = False
    stop_by_s: float | None = None
    lost: str = ""
    memory_gib: dict[int, float] = field(default_factory=dict)
    shape: Shape | None = None
    born: str = ""
    """Name under which it was started, which its temporary folder and its processes carry."""
    parked: bool = False
    """Whether it waits for another driver."""


class LocalPool:
    """Processes on this machine."""

    def __init__(self, num_workers: int, threads: int = 1, num_gpus: int | None = None) -> None:
        """Offer room for ``num_workers`` processes of ``threads`` compute threads; GPUs are counted unless
        given.
        """
        self._slots = num_workers
        self._folder = TemporaryFolder("local")
        self._environment = worker_environment(threads) | self._folder.mark
        self._gpus = GpuLedger(visible_gpus() if num_gpus is None else list(map(str, range(num_gpus))))
        self._workers: dict[str, LocalWorker] = {}
        self._selector = selectors.DefaultSelector()
        self._guard: subprocess.Popen[bytes] | None = None
        self._events: list[PoolEvent] = []

    def capacity(self) -> Capacity:
        """Slots as asked for, GPUs as found."""
        gpus = float(self._gpus.total)
        return Capacity(slots=self._slots, gpus=gpus, nodes=(Node(gpus=gpus),))

    def ask_for(self, workers: Mapping[Shape, int]) -> None:
        """Nothing: there is this machine."""

    def start_worker(self, setup: WorkerSetup, shape: Shape) -> None:
        if self._guard is None:
            self._guard = start_guard(f"{FOLDER}={self._folder.path}")
        taken = [self._gpus.take(shape.gpus) for _ in range(shape.world_size)] if shape.gpus else []
        worker = LocalWorker(setup.name, [], GangReports(shape.world_size), [g for t in taken for g in t])
        worker.shape, worker.born = shape, setup.name
        self._workers[setup.name] = worker
        for number in range(shape.world_size):
            devices = ",".join(self._gpus.names[i] for i, _ in taken[number]) if taken else ""
            self._spawn(worker, rank_setup(setup, number, shape.world_size), number, devices)

    def stop_worker(self, name: str) -> None:
        worker = self._workers.get(name)
        if worker is not None:
            worker.stop_by_s = time.monotonic() + STOP_WAIT_S
            self._send(worker, ("stop", None))

    def kill_worker(self, name: str, *, record_stack: bool) -> None:
        """SIGKILL; before it, if asked, SIGUSR1 makes each process write its stacks to its log."""
        worker = self._workers.get(name)
        if worker is None:
            return
        if record_stack:
            self._signal(worker, signal.SIGUSR1)
            self._signal(worker, signal.SIGCONT)  # a stopped process writes them on its way
            time.sleep(STACK_WAIT_S)
        self._bury(worker, "killed")

    def dispatch(self, name: str, items: list[Task]) -> None:
        self._send(self._workers[name], ("items", items))

    def cancel(self, name: str, tokens: tuple[int, ...]) -> None:
        if name in self._workers:
            self._send(self._workers[name], ("cancel", tokens))

    def events(self, timeout_s: float) -> list[PoolEvent]:
        if not self._events:
            for key, _ in self._selector.select(timeout_s):
                self._read(*key.data)
        now_s = time.monotonic()
        for worker in list(self._workers.values()):
            for rank in worker.ranks:
                rank.channel.flush()
            if (overdue := worker.reports.overdue(now_s)) is not None:
                self._events.append(batch_event(worker.name, overdue))
                worker.reports.broken = True
            if worker.stop_by_s is not None and now_s > worker.stop_by_s:
                worker.lost = "did not stop"
            elif worker.reports.broken and not worker.lost:
                worker.lost = "the gang is built anew after a failure"
            if worker.lost:
                self._bury(worker, worker.lost)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        until_s = time.monotonic() + STOP_WAIT_S
        for name in list(self._workers):
            self.stop_worker(name)
        while self._workers and time.monotonic() < until_s:
            self.events(0.05)
        for worker in list(self._workers.values()):
            self._bury(worker, "closed")
        self._selector.close()
        self._folder.remove()
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            self._guard = None

    def _spawn(self, worker: LocalWorker, setup: WorkerSetup, number: int, devices: str) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, **self._environment}
        environment |= import_environment(setup.import_path)
        temporary = self._temporary(worker)
        temporary.mkdir(exist_ok=True)
        environment |= temporary_files(temporary) | {WORKER: str(temporary), VISIBLE_GPUS: devices}
        setup.log.parent.mkdir(parents=True, exist_ok=True)
        with theirs, setup.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "orchestrator.pools.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(theirs.fileno(),),
            )
        rank = _Rank(number, process, Channel(ours))
        rank.channel.send(pack(setup))
        worker.ranks.append(rank)
        self._selector.register(rank.channel, selectors.EVENT_READ, (worker, rank))

    def _temporary(self, worker: LocalWorker) -> Path:
        return self._folder.path / worker.born

    def _send(self, worker: LocalWorker, message: object) -> None:
        data = pack(message)
        for rank in worker.ranks:
            rank.channel.send(data)

    def _read(self, worker: LocalWorker, rank: _Rank) -> None:
        for kind, value in rank.channel.receive():
            if kind == "batch":
                batch = worker.reports.take(rank.number, value, time.monotonic())
                if batch is not None:
                    self._events.append(batch_event(worker.name, batch))
            elif kind == "pulse":
                worker.memory_gib[rank.number] = value.memory_gib
                if rank.number == 0:
                    memory_gib = max(worker.memory_gib.values())
                    self._events.append(beat_event(worker.name, value, memory_gib))
            elif kind == "parked":
                worker.parked = True
            elif kind == "rendezvous":
                for other in worker.ranks[1:]:
                    other.channel.send(pack(("rendezvous", value)))
            else:
                rank.host = value
                if all(r.host for r in worker.ranks) and not worker.ready:
                    worker.ready = True
                    self._events.append(WorkerReady(worker=worker.name, host=worker.ranks[0].host))
        if rank.channel.closed and not worker.lost:
            worker.lost = self._how_it_ended(rank)

    def _how_it_ended(self, rank: _Rank) -> str:
        try:
            code = rank.process.wait(timeout=STACK_WAIT_S)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def _signal(self, worker: LocalWorker, number: int) -> None:
        for rank in worker.ranks:
            if rank.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    rank.process.send_signal(number)

    def _bury(self, worker: LocalWorker, reason: str) -> None:
        """Make sure every rank is gone, take its last words, and tell."""
        self._signal(worker, signal.SIGKILL)
        for rank in worker.ranks:
            rank.process.wait()
            if rank.number == 0:
                worker.lost = reason
                self._read(worker, rank)
            with contextlib.suppress(KeyError):
                self._selector.unregister(rank.channel)
            rank.channel.close()
        end_marked(f"{WORKER}={self._temporary(worker)}")  # what its trainers started, in whatever session
        shutil.rmtree(self._temporary(worker), ignore_errors=True)
        self._gpus.give_back(worker.gpus)
        del self._workers[worker.name]
        self._events.append(WorkerLost(worker=worker.name, reason=reason))
