"""Who gets which runs next. Pure.

A worker gets runs of the group whose model it has hot while there are any, in batches of about equal work,
and its next batch before the last is done where runs are short.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from orchestrator.scheduling.backlog import Workload
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.events import Dispatch, Shape
from orchestrator.scheduling.fleet import Fleet, Worker
from orchestrator.scheduling.growth import asked_for, useful_workers
from orchestrator.scheduling.leases import LeaseTable
from orchestrator.scheduling.model_health import ModelHealth


class Dispatcher:
    """Hands out batches to workers that have room for one."""

    def __init__(self, workload: Workload, runs: LeaseTable, fleet: Fleet, groups: list[ModelHealth]) -> None:
        self._runs, self._fleet, self._groups = runs, fleet, groups
        self._ready = runs.backlog.num_ready
        self._group_of = workload.group_of
        self._shapes: list[Shape] = []
        self._groups_of: dict[Shape, list[int]] = defaultdict(list)
        self._idle_workers: dict[str, None] = {}
        self._avoid: dict[int, str] = {}
        self.grow(workload)

    def grow(self, workload: Workload) -> None:
        """Take in the groups that the workload has now."""
        for number in range(len(self._shapes), len(workload.groups)):
            self._shapes.append(workload.groups[number].shape)
            self._groups_of[self._shapes[-1]].append(number)

    def note_room(self, worker: Worker) -> None:
        self._idle_workers[worker.name] = None

    def forget_worker(self, worker: Worker) -> None:
        self._idle_workers.pop(worker.name, None)
        self._move(worker, -1)

    def keep_away(self, index: int, host: str | None) -> None:
        """Keep a run from the host where memory did not suffice, as long as another host could take it."""
        if host is None:
            self._avoid.pop(index, None)
        else:
            self._avoid[index] = host

    def num_waiting(self) -> dict[Shape, int]:
        """Runs per shape that may be handed out."""
        return {shape: self._num_waiting(shape) for shape in self._groups_of}

    def num_due(self) -> dict[Shape, int]:
        """Runs per shape whose retry is not due yet."""
        due: dict[Shape, int] = defaultdict(int)
        for index in self._runs.backlog.waiting:
            due[self._shapes[self._group_of[index]]] += 1
        return due

    def asked_for(self, settings: SchedulerConfig) -> dict[Shape, int]:
        """Workers per shape that could be of use to the runs that are open."""
        useful = {shape: float(num) for shape, num in self.num_due().items()}
        for shape, groups in self._groups_of.items():
            for group in groups:
                record = self._groups[group]
                num_open = self._runs.num_leased_of[group] + (0 if record.tripped else self._ready[group])
                useful[shape] = useful.get(shape, 0.0) + useful_workers(num_open, record.mean_s)
        return asked_for(useful, settings)

    def first_run(self, shape: Shape) -> int:
        """A waiting run that a new worker of a shape would serve."""
        like = next(g for g in self._groups_of[shape] if self._ready[g])
        return self._runs.backlog.first[like]

    def has_work(self, left_s: float) -> bool:
        """Whether any open run may still be handed out, now or when its retry is due, with ``left_s`` until
        the deadline.
        """
        if left_s <= 0:
            return False
        useful = [not g.tripped and (g.mean_s or 0.0) <= left_s for g in self._groups]
        if any(n and useful[g] for g, n in enumerate(self._ready)):
            return True
        return any(useful[self._group_of[i]] for i in self._runs.backlog.waiting)

    def feed(self, settings: SchedulerConfig, now_s: float, left_s: float) -> Iterator[Dispatch]:
        """Hand out batches to every worker that has room for one, with ``left_s`` until the deadline."""
        for name in list(self._idle_workers):
            worker = self._fleet.workers[name]
            if worker.retiring:
                del self._idle_workers[name]
                continue
            while (group := self._choose_group(worker, settings, now_s, left_s)) >= 0:
                more = self._groups[group].wants_more(settings, len(worker.leases))
                if len(worker.unit_ends) >= (2 if more else 1):
                    del self._idle_workers[name]
                    break
                batch = self._batch(worker, group, settings, now_s, left_s)
                if batch is None:
                    break
                yield batch

    def _num_waiting(self, shape: Shape) -> int:
        return sum(self._ready[g] for g in self._groups_of[shape] if not self._groups[g].tripped)

    def _choose_group(self, worker: Worker, settings: SchedulerConfig, now_s: float, left_s: float) -> int:
        """The group to serve next: the one the worker has hot, else the one with most waiting per worker."""

        def is_open(group: int) -> bool:
            num_leased = self._runs.num_leased_of[group]
            return self._groups[group].is_open(now_s, settings, left_s, num_leased)

        if worker.group >= 0 and self._ready[worker.group] and is_open(worker.group):
            return worker.group
        best, best_need = -1, 0.0
        for group in self._groups_of[worker.shape]:
            if self._ready[group] and is_open(group):
                need = self._ready[group] / (1 + self._groups[group].num_workers)
                if need > best_need:
                    best, best_need = group, need
        return best

    def _batch(
        self, worker: Worker, group: int, settings: SchedulerConfig, now_s: float, left_s: float
    ) -> Dispatch | None:
        """One batch, or ``None`` when every run of it is to be kept away from the worker's host."""
        record = self._groups[group]
        if not record.proven and self._runs.num_leased_of[group] == 0:
            record.canary_s = now_s
        num_workers = self._fleet.count(worker.shape)
        size = record.unit_size(settings, self._num_waiting(worker.shape), num_workers, left_s)
        grants = []
        for index in self._runs.backlog.take(group, size):
            if self._avoid and self._avoids(index, worker):
                self._runs.backlog.put_back(index)
                continue
            grant = self._runs.lease(index, worker.name)
            worker.leases[grant.token] = grant
            grants.append(grant)
        if not grants:
            return None
        worker.unit_ends[grants[-1].token] = None
        if len(worker.unit_ends) == 1:
            worker.progress_s = now_s
        self._move(worker, group)
        return Dispatch(worker=worker.name, grants=tuple(grants))

    def _avoids(self, index: int, worker: Worker) -> bool:
        return self._avoid.get(index) == worker.host and any(
            w.ready and w.shape == worker.shape and w.host != worker.host
            for w in self._fleet.workers.values()
        )

    def _move(self, worker: Worker, group: int) -> None:
        if worker.group != group:
            if worker.group >= 0:
                self._groups[worker.group].num_workers -= 1
            if group >= 0:
                self._groups[group].num_workers += 1
            worker.group = group
