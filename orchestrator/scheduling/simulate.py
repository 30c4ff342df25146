"""The real scheduler under virtual time: how long a sweep would take on a cluster that fails.

Nothing here decides who runs what; :class:`~orchestrator.scheduling.scheduler.Scheduler` does, with the code
that runs real sweeps. Nodes fail and are preempted independently, at exponentially distributed times; a lost
node comes back after a repair. The driver learns of a loss some seconds late, as it does in reality.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from orchestrator.scheduling.backlog import Workload
from orchestrator.scheduling.cluster_model import ClusterModel, SimulationResult
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.events import (
    Accept,
    CancelAttempts,
    Capacity,
    CapacityChanged,
    Dispatch,
    Event,
    KillWorker,
    NoteFailure,
    Reported,
    Shape,
    StartWorker,
    StopWorker,
    WorkerLost,
    WorkerReady,
)
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.store.outcomes import AttemptReport, Grant


def simulate(
    workload: Workload,
    seconds_of: Callable[[int], float],
    cluster: ClusterModel,
    settings: SchedulerConfig | None = None,
) -> SimulationResult:
    """Run a workload on an imaginary cluster.

    Args:
        seconds_of: expected wall seconds of a run, given its index.
        settings: what the scheduler is told; its silence and hang limits are lifted, for nobody beats here.
    """
    return _Simulation(workload, seconds_of, cluster, settings or SchedulerConfig()).run()


@dataclass(slots=True)
class _Worker:
    name: str
    shape: Shape
    nodes: list[int]
    grants: list[Grant] = field(default_factory=list)
    begun_s: float = 0.0
    serial: int = 0


class _Simulation:
    def __init__(
        self,
        workload: Workload,
        seconds_of: Callable[[int], float],
        cluster: ClusterModel,
        settings: SchedulerConfig,
    ) -> None:
        self._workload, self._cluster = workload, cluster
        self._random = random.Random(cluster.seed)
        self._seconds = self._draw_seconds(len(workload), seconds_of)
        self._size = [float(cluster.gpus_per_node)] * cluster.num_nodes
        self._size[-1] -= cluster.num_nodes * cluster.gpus_per_node - cluster.gpus
        self._free = list(self._size)
        self._up = [True] * cluster.num_nodes
        self._now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], Event | None]]] = []
        self._serial = 0
        self._workers: dict[str, _Worker] = {}
        self._unplaced: dict[str, Shape] = {}
        self._retries = self._failures = 0
        self._useful_s = self._lost_s = self._last_s = 0.0
        self._scheduler = Scheduler(
            workload,
            capacity=self._capacity(),
            settings=replace(settings, lease_s=math.inf, watchdog_s=0.0, start_s=math.inf, check_s=600.0),
        )
        for node in range(cluster.num_nodes):
            self._plan_failure(node)

    def run(self) -> SimulationResult:
        scheduler, events = self._scheduler, self._events
        while True:
            for action in scheduler.decide(self._now_s):
                self._obey(action)
            if scheduler.finished:
                break
            due = scheduler.next_due_s
            if not events or (due is not None and due < events[0][0]):
                if due is None:
                    raise RuntimeError("the simulated sweep waits for nothing")
                self._now_s = max(self._now_s, due)
                continue
            self._now_s = events[0][0]
            while events and events[0][0] <= self._now_s:
                event = heapq.heappop(events)[2]()
                if event is not None:
                    scheduler.tell(event, self._now_s)
        total_s = self._cluster.gpus * max(self._last_s, 1e-9)
        return SimulationResult(
            runs=len(self._workload) - scheduler.num_open,
            makespan_s=self._last_s,
            lower_bound_s=self._lower_bound_s(),
            utilisation=self._useful_s / total_s,
            retries=self._retries,
            node_failures=self._failures,
            lost_gpu_h=self._lost_s / 3600,
            stopped=scheduler.stop_reason,
        )

    def _draw_seconds(self, num: int, seconds_of: Callable[[int], float]) -> Sequence[float]:
        spread = self._cluster.spread
        if not spread:
            return [seconds_of(i) for i in range(num)]
        # The logarithm's mean is lowered so that the mean time stays the expected one.
        draw = self._random.gauss
        return [seconds_of(i) * math.exp(draw(-spread * spread / 2, spread)) for i in range(num)]

    def _lower_bound_s(self) -> float:
        groups, group_of = self._workload.groups, self._workload.group_of
        work_s = sum(s * _gpus(groups[g].shape) for s, g in zip(self._seconds, group_of, strict=True))
        return self._cluster.start_s + max(work_s / self._cluster.gpus, max(self._seconds, default=0.0))

    def _capacity(self) -> Capacity:
        free = sum(size for size, up in zip(self._size, self._up, strict=True) if up)
        on_gpus = any(group.shape.gpus for group in self._workload.groups)
        return Capacity(slots=10**9 if on_gpus else int(free), gpus=free)

    def _at(self, time_s: float, event: Callable[[], Event | None]) -> None:
        self._serial += 1
        heapq.heappush(self._events, (time_s, self._serial, event))

    # --- what the driver and its pool would do --------------------------------------------------------

    def _obey(self, action: object) -> None:
        match action:
            case Dispatch():
                worker = self._workers.get(action.worker)
                if worker is not None:
                    worker.grants += action.grants
                    if len(worker.grants) == len(action.grants):
                        self._begin(worker)
            case Accept():
                self._last_s = self._now_s
            case StartWorker():
                self._unplaced[action.worker] = action.shape
                self._place()
            case StopWorker() | KillWorker():
                self._unplaced.pop(action.worker, None)
                self._free_up(action.worker)
                self._place()
            case NoteFailure():
                self._retries += 1
            case CancelAttempts():
                raise AssertionError("nothing is cancelled in a simulation")

    def _place(self) -> None:
        """Give waiting workers nodes, first come first served, skipping what does not fit."""
        for name, shape in list(self._unplaced.items()):
            nodes = self._fit(shape)
            if nodes is not None:
                del self._unplaced[name]
                self._workers[name] = _Worker(name, shape, nodes)
                self._at(self._now_s + self._cluster.start_s, partial(self._come_up, name))

    def _fit(self, shape: Shape) -> list[int] | None:
        """Reserve room for every rank, or for none."""
        need = shape.gpus or 1.0
        taken: list[int] = []
        for node in range(len(self._free)):
            while self._up[node] and len(taken) < shape.world_size and self._free[node] >= need - 1e-9:
                self._free[node] -= need
                taken.append(node)
            if len(taken) == shape.world_size:
                return taken
        for node in taken:
            self._free[node] += need
        return None

    def _come_up(self, name: str) -> Event | None:
        worker = self._workers.get(name)
        return None if worker is None else WorkerReady(worker=name, host=f"node-{worker.nodes[0]}")

    def _begin(self, worker: _Worker) -> None:
        """Start the oldest batch that waits at a worker; it is reported as a whole."""
        worker.begun_s = self._now_s
        worker.serial = serial = self._serial + 1
        batch = tuple(worker.grants)
        end_s = self._now_s + sum(self._seconds[g.run] for g in batch)
        self._at(end_s, lambda: self._end(worker, serial, batch))

    def _end(self, worker: _Worker, serial: int, batch: tuple[Grant, ...]) -> Event | None:
        if self._workers.get(worker.name) is not worker or worker.serial != serial:
            return None
        del worker.grants[: len(batch)]
        reports = []
        for grant in batch:
            wall_s = self._seconds[grant.run]
            self._useful_s += wall_s * _gpus(worker.shape)
            reports.append(AttemptReport(grant.run, grant.attempt, grant.token, "done", wall_s, 0.0))
        if worker.grants:
            self._begin(worker)
        return Reported(worker=worker.name, reports=tuple(reports))

    # --- what nodes do --------------------------------------------------------------------------------

    def _plan_failure(self, node: int) -> None:
        per_h = 1 / self._cluster.mtbf_h + 1 / self._cluster.preempt_h
        if per_h > 0:
            self._at(self._now_s + 3600 * self._random.expovariate(per_h), lambda: self._fail_node(node))

    def _fail_node(self, node: int) -> Event | None:
        self._failures += 1
        self._up[node] = False
        told_s = self._now_s + self._cluster.detect_s
        for worker in [w for w in self._workers.values() if node in w.nodes]:
            if worker.grants:
                self._lost_s += (self._now_s - worker.begun_s) * _gpus(worker.shape)
            self._free_up(worker.name)
            self._at(told_s, partial(WorkerLost, worker=worker.name, reason="node lost"))
        self._at(told_s, lambda: CapacityChanged(capacity=self._capacity()))
        back_s = self._now_s + 60 * self._cluster.repair_min
        self._at(back_s, lambda: self._come_back(node))
        return None

    def _come_back(self, node: int) -> Event:
        self._up[node] = True
        self._plan_failure(node)
        self._place()
        return CapacityChanged(capacity=self._capacity())

    def _free_up(self, name: str) -> None:
        worker = self._workers.pop(name, None)
        if worker is not None:
            for node in worker.nodes:
                self._free[node] += worker.shape.gpus or 1.0


def _gpus(shape: Shape) -> float:
    """GPUs that a worker occupies; a process counts as one where there are none."""
    return shape.world_size * (shape.gpus or 1.0)
