"""Ray actors as workers: on a Ray that we start on this machine, or on a cluster that is already running.

A worker is one long-lived actor, a gang is one actor per rank in a placement group that exists whole or not
at all. An actor's own thread trains; Ray's threads only pass messages: ``submit`` and ``cancel`` go in, and
one long ``poll`` call per actor is always outstanding, which returns when something has finished or a
heartbeat is due. So a batch that ends within a heartbeat costs two actor calls, whatever its size.

The pool keeps one table of outstanding calls (``_waits``): everything that happens is one of them returning.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.pools import ray_cluster, ray_internals
from orchestrator.pools.base import PoolEvent, batch_event, beat_event
from orchestrator.pools.devices import visible_gpus
from orchestrator.pools.gang import GangReports, rank_setup
from orchestrator.pools.ray_autoscaler import demand
from orchestrator.pools.ray_worker import ACTOR_THREADS, STOP_WAIT_S, Place, RayWorker
from orchestrator.scheduling.events import (
    Beat,
    Capacity,
    DrainRequested,
    Shape,
    WorkerLeaving,
    WorkerLost,
    WorkerReady,
)
from orchestrator.worker.process_env import worker_environment
from orchestrator.worker.protocol import Heartbeat, ReportBatch, Task, WorkerSetup

STACK_WAIT_S = 0.5
"""Time a process gets to write its stacks before it is killed."""

EXCUSE_S = 5.0
"""Period of looking whether workers that are not up wait for room; those that have it need about a second."""

MAX_EXCUSED = 50
"""Most workers looked up at a time, about a millisecond each."""

_Actor = ray.remote(RayWorker)


@dataclass(slots=True)
class _Worker:
    name: str
    shape: Shape
    setup: WorkerSetup
    reports: GangReports
    num_batches: int = 0
    asked_s: float = field(default_factory=time.monotonic)
    group: PlacementGroup | None = None
    actors: list[Any] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    memory_gib: dict[int, float] = field(default_factory=dict)
    num_stopped: int = 0
    stop_by_s: float | None = None
    leaves: bool = False


class RayPool:
    """Actors on Ray."""

    def __init__(
        self,
        *,
        num_workers: int | None = None,
        address: str | None = None,
        threads: int = 1,
        num_gpus: int | None = None,
        largest: Shape | None = None,
    ) -> None:
        """Connect to ``address``, or start Ray here with room for ``num_workers`` processes.

        Args:
            num_workers: processes at once; by default the cores here, or those of the cluster.
            address: of a running cluster, ``auto`` for the one that the environment names.
            num_gpus: GPUs to offer on this machine; counted unless given.
            largest: the most cores and memory that a worker asks for: a Ray that we start has as much for
                each of ``num_workers``, since it only counts; one core and the machine's memory unless given.

        Raises:
            UserError: when Ray does not start, or no cluster answers at ``address``.
        """
        self._num_workers = num_workers
        self._environment = worker_environment(threads)
        self._workers: dict[str, _Worker] = {}
        self._waits: dict[Any, tuple[_Worker, str, int]] = {}
        self._events: list[PoolEvent] = []
        self._lost = ""
        self._excused_s = time.monotonic()
        if address is not None:
            self._cluster = ray_cluster.join(address)
        else:
            num_gpus = len(visible_gpus()) if num_gpus is None else num_gpus
            slots, largest = num_workers or os.cpu_count() or 1, largest or Shape()
            num_cpus = math.ceil(slots * max(1.0, largest.cpus))
            memory_gib = slots * largest.memory_gib or None
            self._cluster = ray_cluster.start(num_cpus, num_gpus, self._environment, memory_gib)
            self._num_workers = slots

    def capacity(self) -> Capacity:
        """What the live nodes hold, as of about a second ago."""
        slots = self._num_workers or int(self._cluster.total("CPU"))
        return Capacity(
            slots=slots,
            gpus=self._cluster.total("GPU"),
            nodes=self._cluster.sizes(),
            grows=self._cluster.grows,
        )

    def ask_for(self, workers: Mapping[Shape, int]) -> None:
        """Ask the cluster's autoscaler, where it has one; what is not asked for again is taken back.

        Nothing is asked for that the nodes hold already: workers keep theirs, and a request keeps as many,
        which need not be the same.
        """
        left, capped = self._num_workers or math.inf, {}
        for shape, num in workers.items():
            capped[shape] = int(min(num, left // shape.world_size))
            left -= capped[shape] * shape.world_size
        self._cluster.ask_for({} if self.capacity().holds(capped) else capped)

    def start_worker(self, setup: WorkerSetup, shape: Shape) -> None:
        """Create the actors; a gang's wait for its placement group."""
        worker = _Worker(setup.name, shape, setup, GangReports(shape.world_size))
        self._workers[setup.name] = worker
        if shape.world_size == 1:
            self._create(worker)
            self._begin(worker, "")
            return
        worker.group = placement_group([demand(shape)] * shape.world_size, strategy="PACK")
        self._waits[worker.group.ready()] = (worker, "placed", 0)

    def _create(self, worker: _Worker) -> None:
        shape = worker.shape
        options: dict[str, Any] = {
            "num_cpus": shape.cpus,
            "num_gpus": shape.gpus,
            "memory": demand(shape).get("memory"),
            "max_concurrency": ACTOR_THREADS,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if not self._cluster.own:
            options["runtime_env"] = {"env_vars": self._environment}
        for rank in range(shape.world_size):
            if worker.group is not None:
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                    placement_group=worker.group, placement_group_bundle_index=rank
                )
            actor = _Actor.options(**options).remote(rank_setup(worker.setup, rank, shape.world_size))
            worker.actors.append(actor)

    def _begin(self, worker: _Worker, rendezvous: str) -> None:
        for rank, actor in enumerate(worker.actors):
            self._waits[actor.start.remote(rendezvous)] = (worker, "started", rank)

    def stop_worker(self, name: str) -> None:
        """Ask the actors to end; their processes go once all have freed what they hold."""
        worker = self._workers.get(name)
        if worker is None or worker.stop_by_s is not None:
            return
        if not worker.places:  # nothing is loaded yet, and it may wait for a node that nobody needs any more
            self._bury(worker, "stopped")
            return
        worker.stop_by_s = time.monotonic() + STOP_WAIT_S
        for rank, actor in enumerate(worker.actors):
            self._waits[actor.stop.remote()] = (worker, "stopped", rank)

    def kill_worker(self, name: str, *, record_stack: bool) -> None:
        """Kill the actors, on this machine by signal so that even a stopped process goes at once."""
        worker = self._workers.get(name)
        if worker is None:
            return
        if record_stack:
            self._signal(worker, signal.SIGUSR1)
            self._signal(worker, signal.SIGCONT)
            for rank, process in worker.places.items():
                if process.node != self._cluster.node:
                    worker.actors[rank].record_stack.remote()
            time.sleep(STACK_WAIT_S)
        self._bury(worker, "killed")

    def dispatch(self, name: str, items: list[Task]) -> None:
        worker = self._workers[name]
        packed = ray.put(items) if len(worker.actors) > 1 else items
        for actor in worker.actors:
            actor.submit.remote(worker.num_batches, packed)
        worker.num_batches += 1

    def cancel(self, name: str, tokens: tuple[int, ...]) -> None:
        if name in self._workers:
            for actor in self._workers[name].actors:
                actor.cancel.remote(tokens)

    def events(self, timeout_s: float) -> list[PoolEvent]:
        if self._waits and not self._events:
            refs = list(self._waits)
            done, _ = ray.wait(refs, num_returns=1, timeout=timeout_s)
            if done:
                more, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
                for ref in more or done:
                    self._take(ref)
        elif not self._events:
            time.sleep(timeout_s)
        self._check_workers()
        self._tell_leaving()
        self._excuse_waiting()
        if (silence := self._cluster.silence()) and not self._lost:
            self._give_up(silence)
        events, self._events = self._events, []
        return events

    def _take(self, ref: Any) -> None:
        if ref not in self._waits:
            return  # its worker was buried a moment ago
        worker, what, rank = self._waits.pop(ref)
        try:
            value = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._bury(worker, ray_cluster.first_line(error))
            return
        if what == "placed":
            self._create(worker)
            self._waits[worker.actors[0].host_rendezvous.remote()] = (worker, "met", 0)
        elif what == "met":
            self._begin(worker, value)
        elif what == "started":
            worker.places[rank] = value
            self._poll(worker, rank)
            if len(worker.places) == worker.shape.world_size:
                self._events.append(WorkerReady(worker=worker.name, host=worker.places[0].host))
        elif what == "stopped":
            worker.num_stopped += 1
            if worker.num_stopped == len(worker.actors):
                self._bury(worker, "stopped")
        else:
            self._hear(worker, rank, *value)
            self._poll(worker, rank)

    def _poll(self, worker: _Worker, rank: int) -> None:
        self._waits[worker.actors[rank].poll.remote()] = (worker, "polled", rank)

    def _hear(self, worker: _Worker, rank: int, batches: list[ReportBatch], pulse: Heartbeat) -> None:
        for batch in batches:
            passed = worker.reports.take(rank, batch, time.monotonic())
            if passed is not None:
                self._events.append(batch_event(worker.name, passed))
        worker.memory_gib[rank] = pulse.memory_gib
        if rank == 0:
            memory_gib = max(worker.memory_gib.values())
            self._events.append(beat_event(worker.name, pulse, memory_gib))

    def _check_workers(self) -> None:
        now_s = time.monotonic()
        for worker in list(self._workers.values()):
            if (overdue := worker.reports.overdue(now_s)) is not None:
                self._events.append(batch_event(worker.name, overdue))
            if worker.reports.broken:
                self._bury(worker, "the gang is built anew after a failure")
            elif worker.stop_by_s is not None and now_s > worker.stop_by_s:
                self._bury(worker, "did not stop")

    def _tell_leaving(self) -> None:
        """Say once of each worker with a rank on a node whose machine will be taken away that it must end."""
        if not (leaving := self._cluster.leaving):
            return
        for worker in self._workers.values():
            if not worker.leaves and any(place.node in leaving for place in worker.places.values()):
                worker.leaves = True
                self._events.append(WorkerLeaving(worker=worker.name))

    def _excuse_waiting(self) -> None:
        """Beat for workers that wait for room, on a cluster that is shared or grows: they are not stuck."""
        now_s = time.monotonic()
        if now_s - self._excused_s < EXCUSE_S or not self._cluster.is_near:
            return
        self._excused_s = now_s
        overdue = (w for w in self._workers.values() if not w.places and now_s - w.asked_s > EXCUSE_S)
        for worker in islice(overdue, MAX_EXCUSED):
            if self._cluster.could_hold(demand(worker.shape)) and not _is_placed(worker):
                self._events.append(Beat(worker=worker.name, token=0, progress=0))

    def _give_up(self, reason: str) -> None:
        """The head has gone: no worker can be reached or started any more."""
        self._lost = reason
        self._events.append(DrainRequested(reason=reason, grace_s=0.0))
        for worker in list(self._workers.values()):
            self._bury(worker, reason)

    def _local_places(self, worker: _Worker) -> Iterator[Place]:
        return (process for process in worker.places.values() if process.node == self._cluster.node)

    def _signal(self, worker: _Worker, number: int) -> None:
        for process in self._local_places(worker):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)

    def _bury(self, worker: _Worker, reason: str) -> None:
        del self._workers[worker.name]
        self._waits = {ref: wait for ref, wait in self._waits.items() if wait[0] is not worker}
        for actor in worker.actors:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor, no_restart=True)
        self._signal(worker, signal.SIGKILL)
        if worker.group is not None and not self._lost:
            remove_placement_group(worker.group)
        self._events.append(WorkerLost(worker=worker.name, reason=reason))

    def close(self) -> None:
        """Stop the workers, then Ray if we started it, with all its files."""
        for name in list(self._workers):
            self.stop_worker(name)
        until_s = time.monotonic() + STOP_WAIT_S
        while self._workers and time.monotonic() < until_s:
            self.events(0.05)
        for worker in list(self._workers.values()):
            self._bury(worker, "closed")
        self._cluster.close()


def _is_placed(worker: _Worker) -> bool:
    if worker.group is not None:
        return placement_group_table(worker.group)["state"] != "PENDING"
    return ray_internals.is_placed(worker.actors[0])
