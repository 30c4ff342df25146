"""Ray actors as workers: on a Ray that we start on this machine, or on a cluster that is already running.

A worker is one long-lived actor, a gang is one actor per rank in a placement group that exists whole or not
at all. An actor's own thread trains; Ray's threads only pass messages: ``submit`` and ``cancel`` go in, and
one long ``poll`` call per actor is always outstanding, which returns when something has finished or a
heartbeat is due. So a batch of short runs costs two actor calls, whatever its size.

A Ray that we start listens on 127.0.0.1 only, has no dashboard and a small object store, and keeps its files
in a folder of its own that :meth:`RayPool.close` removes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.errors import UserError
from orchestrator.events import Beat, Capacity, Shape, WorkerLost, WorkerReady
from orchestrator.leftovers import TemporaryFolder
from orchestrator.messages import Batch, Item, WorkerSetup
from orchestrator.pools.base import PoolEvent, batch_event
from orchestrator.pools.devices import visible_gpus
from orchestrator.pools.gang import GangReports, rank_setup
from orchestrator.processes import own_import_path, worker_environment
from orchestrator.worker import BEAT_S, Runtime

OBJECT_STORE_MIB = 80
"""Smallest object store that Ray takes: results travel through spools, only messages through Ray."""

STACK_WAIT_S = 0.5
"""Time a process gets to write its stacks before it is killed."""

STOP_WAIT_S = 5.0
"""Time idle workers get to free what they hold before Ray is shut down."""


class RayWorker:
    """One rank, inside an actor."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._outbox: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._setup = setup
        self._runtime: Runtime | None = None
        setup.log.parent.mkdir(parents=True, exist_ok=True)
        self._log = setup.log.open("ab", buffering=0)
        for stream in (1, 2):  # what libraries print belongs in the log, not in the driver's terminal
            os.dup2(self._log.fileno(), stream)
        faulthandler.enable(self._log)
        faulthandler.register(signal.SIGUSR1, self._log, all_threads=True)

    def host_rendezvous(self) -> str:
        """Open the gang's meeting point; rank 0 only."""
        from trainers.gang import host_rendezvous

        return host_rendezvous(ray.util.get_node_ip_address())

    def start(self, rendezvous: str) -> tuple[str, int]:
        """Begin to work and return host and pid."""
        setup = self._setup
        if rendezvous:
            setup = replace(setup, context=replace(setup.context, rendezvous=rendezvous))
        runtime = self._runtime = Runtime(setup, self._outbox.put)
        threading.Thread(target=self._work, args=(runtime,), daemon=True, name="train").start()
        return socket.gethostname(), os.getpid()

    def _work(self, runtime: Runtime) -> None:
        try:
            runtime.warm()
            runtime.loop()
        except BaseException:
            faulthandler.dump_traceback(self._log)
            os._exit(1)

    def submit(self, items: list[Item]) -> None:
        """Queue a batch."""
        assert self._runtime is not None
        self._runtime.add(items)

    def cancel(self, tokens: tuple[int, ...]) -> None:
        """Drop attempts."""
        assert self._runtime is not None
        self._runtime.cancel(tokens)

    def stop(self) -> None:
        """End after the current run and free what is warm."""
        assert self._runtime is not None
        self._runtime.stop()

    def record_stack(self) -> None:
        """Write every thread's stack to the log."""
        faulthandler.dump_traceback(self._log, all_threads=True)

    def poll(self) -> tuple[list[Batch], Any]:
        """Wait up to a heartbeat for something to finish; return it with the present state."""
        assert self._runtime is not None
        batches: list[Batch] = []
        with contextlib.suppress(queue.Empty):
            batches.append(self._outbox.get(timeout=BEAT_S))
            while True:
                batches.append(self._outbox.get_nowait())
        if not batches:
            self._runtime.flush()
        return batches, self._runtime.pulse()


_Actor = ray.remote(RayWorker)

ACTOR_THREADS = 4
"""Ray's threads per actor: one waits in ``poll``, the others take what comes in."""


@dataclass(slots=True)
class _Worker:
    name: str
    shape: Shape
    setup: WorkerSetup
    group: PlacementGroup | None
    actors: list[Any]
    reports: GangReports
    places: list[tuple[str, int]] = field(default_factory=list)
    memory_gib: dict[int, float] = field(default_factory=dict)
    stopping: bool = False


class RayPool:
    """Actors on Ray."""

    def __init__(
        self,
        *,
        num_workers: int | None = None,
        address: str | None = None,
        threads: int = 1,
        num_gpus: int | None = None,
    ) -> None:
        """Connect to ``address``, or start Ray here with room for ``num_workers`` processes.

        Args:
            num_workers: processes at once; by default the cores here, or the cores or GPUs of the cluster.
            address: of a running cluster, ``auto`` for the one that the environment names.
            threads: compute threads per process.
            num_gpus: GPUs to offer on this machine; counted unless given.

        Raises:
            UserError: when no cluster answers at ``address``.
        """
        self._num_workers = num_workers
        self._environment = worker_environment(threads)
        self._workers: dict[str, _Worker] = {}
        self._waits: dict[Any, tuple[_Worker, str, int]] = {}
        self._events: list[PoolEvent] = []
        self._own = address is None
        self._folder: TemporaryFolder | None = None
        if self._own:
            self._start_or_clean_up(
                num_workers or os.cpu_count() or 1, len(visible_gpus()) if num_gpus is None else num_gpus
            )
        else:
            self._connect(str(address))
        self._host = socket.gethostname()
        self._capacity = self._look()
        self._looked_s = time.monotonic()

    def _start_or_clean_up(self, num_workers: int, num_gpus: int) -> None:
        try:
            self._start(num_workers, num_gpus)
        except Exception as error:
            self.close()
            raise UserError(f"Ray does not start here ({_reason(error)}); try --pool local") from error

    def _start(self, num_workers: int, num_gpus: int) -> None:
        self._folder = TemporaryFolder("ray")
        with _environment(
            **self._environment,
            RAY_USAGE_STATS_ENABLED="0",
            PYTHONPATH=os.pathsep.join(own_import_path()),
        ):
            ray.init(
                num_cpus=num_workers,
                num_gpus=num_gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                object_store_memory=OBJECT_STORE_MIB * 2**20,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(self._folder.path),
            )

    def _connect(self, address: str) -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--address {address}: no Ray cluster answers there ({error}); start one with "
                "`ray start --head` or leave --address out"
            ) from error

    def capacity(self) -> Capacity:
        """What the live nodes hold; asked of Ray at most every other second."""
        if not self._own and time.monotonic() - self._looked_s > 2.0:
            self._capacity = self._look()
            self._looked_s = time.monotonic()
        return self._capacity

    def _look(self) -> Capacity:
        resources = ray.cluster_resources()
        gpus = float(resources.get("GPU", 0.0))
        slots = self._num_workers or int(resources.get("CPU", 0))
        return Capacity(slots=slots, gpus=gpus)

    def start_worker(self, setup: WorkerSetup, shape: Shape) -> None:
        """Create the actors; a gang's wait for its placement group."""
        worker = _Worker(setup.name, shape, setup, None, [], GangReports(shape.world_size))
        self._workers[setup.name] = worker
        if shape.world_size == 1:
            self._create(worker)
            return
        bundle = {"CPU": shape.cpus, "GPU": shape.gpus} if shape.gpus else {"CPU": shape.cpus}
        worker.group = placement_group([bundle] * shape.world_size, strategy="PACK")
        self._waits[worker.group.ready()] = (worker, "placed", 0)

    def _create(self, worker: _Worker) -> None:
        shape = worker.shape
        options: dict[str, Any] = {
            "num_cpus": shape.cpus,
            "num_gpus": shape.gpus,
            "max_concurrency": ACTOR_THREADS,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if not self._own:
            options["runtime_env"] = {"env_vars": self._environment}
        if shape.memory_gib:
            options["memory"] = int(shape.memory_gib * 2**30)
        for rank in range(shape.world_size):
            if worker.group is not None:
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                    placement_group=worker.group, placement_group_bundle_index=rank
                )
            actor = _Actor.options(**options).remote(rank_setup(worker.setup, rank, shape.world_size))
            worker.actors.append(actor)
        if shape.world_size == 1:
            self._begin(worker, "")
        else:
            self._waits[worker.actors[0].host_rendezvous.remote()] = (worker, "rendezvous", 0)

    def _begin(self, worker: _Worker, rendezvous: str) -> None:
        for rank, actor in enumerate(worker.actors):
            self._waits[actor.start.remote(rendezvous)] = (worker, "started", rank)

    def stop_worker(self, name: str) -> None:
        """Ask the actors to end; their process goes with the last reference."""
        worker = self._workers.get(name)
        if worker is not None and not worker.stopping:
            worker.stopping = True
            for rank, actor in enumerate(worker.actors):
                self._waits[actor.stop.remote()] = (worker, "stopped", rank)

    def kill_worker(self, name: str, *, record_stack: bool) -> None:
        """Kill the actors, on this machine by signal so that even a stopped process goes."""
        worker = self._workers.get(name)
        if worker is None:
            return
        if record_stack:
            self._signal(worker, signal.SIGUSR1)
            self._signal(worker, signal.SIGCONT)
            for (host, _), actor in zip(worker.places, worker.actors, strict=False):
                if host != self._host:
                    actor.record_stack.remote()
            time.sleep(STACK_WAIT_S)
        self._bury(worker, "killed")

    def dispatch(self, name: str, items: list[Item]) -> None:
        """Send a batch to every rank."""
        worker = self._workers[name]
        packed = ray.put(items) if len(worker.actors) > 1 else items
        for actor in worker.actors:
            actor.submit.remote(packed)

    def cancel(self, name: str, tokens: tuple[int, ...]) -> None:
        """Tell every rank."""
        if name in self._workers:
            for actor in self._workers[name].actors:
                actor.cancel.remote(tokens)

    def events(self, timeout_s: float) -> list[PoolEvent]:
        """Wait for calls that return and for actors that end."""
        if self._waits and not self._events:
            refs = list(self._waits)
            done, _ = ray.wait(refs, num_returns=1, timeout=timeout_s)
            if done:
                more, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
                for ref in more or done:
                    self._take(ref)
        elif not self._events:
            time.sleep(timeout_s)
        self._check_gangs()
        events, self._events = self._events, []
        return events

    def _take(self, ref: Any) -> None:
        worker, what, rank = self._waits.pop(ref)
        if worker.name not in self._workers:
            return
        try:
            value = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._bury(worker, _reason(error))
            return
        if what == "placed":
            self._create(worker)
        elif what == "rendezvous":
            self._begin(worker, value)
        elif what == "stopped":
            if rank == 0:
                self._bury(worker, "stopped")
        elif what == "started":
            worker.places.append(value)
            self._poll(worker, rank)
            if len(worker.places) == worker.shape.world_size:
                self._events.append(WorkerReady(worker=worker.name, host=worker.places[0][0]))
        else:
            self._hear(worker, rank, *value)
            self._poll(worker, rank)

    def _poll(self, worker: _Worker, rank: int) -> None:
        self._waits[worker.actors[rank].poll.remote()] = (worker, "polled", rank)

    def _hear(self, worker: _Worker, rank: int, batches: list[Batch], pulse: Any) -> None:
        for batch in batches:
            passed = worker.reports.take(rank, batch, time.monotonic())
            if passed is not None:
                self._events.append(batch_event(worker.name, passed))
        worker.memory_gib[rank] = pulse.memory_gib
        if rank == 0:
            self._events.append(
                Beat(
                    worker=worker.name,
                    token=pulse.token,
                    progress=pulse.progress,
                    memory_gib=max(worker.memory_gib.values()),
                )
            )

    def _check_gangs(self) -> None:
        now_s = time.monotonic()
        for worker in list(self._workers.values()):
            if (overdue := worker.reports.overdue(now_s)) is not None:
                self._events.append(batch_event(worker.name, overdue))
            if worker.reports.broken:
                self._bury(worker, "the gang is built anew after a failure")

    def _signal(self, worker: _Worker, number: int) -> None:
        for host, pid in worker.places:
            if host == self._host:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)

    def _bury(self, worker: _Worker, reason: str) -> None:
        del self._workers[worker.name]
        for actor in worker.actors:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor, no_restart=True)
        self._signal(worker, signal.SIGKILL)
        if worker.group is not None:
            remove_placement_group(worker.group)
        self._events.append(WorkerLost(worker=worker.name, reason=reason))

    def close(self) -> None:
        """Stop the workers, and the Ray that we started with all its files."""
        for name in list(self._workers):
            self.stop_worker(name)
        until_s = time.monotonic() + STOP_WAIT_S
        while self._workers and time.monotonic() < until_s:
            self.events(0.05)
        for worker in list(self._workers.values()):
            self._bury(worker, "closed")
        ray.shutdown()
        if self._folder is not None:
            self._folder.remove()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables for the processes started inside; Ray's take theirs from ours."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _reason(error: Exception) -> str:
    """The first line of a Ray error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
