"""The scheduler: a pure state machine from events to actions. It owns no process, file, clock or thread.

:meth:`Scheduler.tell` takes one event; :meth:`Scheduler.decide` returns what to do about everything told so
far. Time is a parameter, in seconds of a clock that the caller chooses; going backwards does no harm. The
same code runs under the driver's monotonic clock and under the virtual one of :mod:`orchestrator.simulate`.

Rules
-----
- A run has at most one lease that counts. Each lease has a token; a report under any other token is *late*.
- The first complete result of a run is accepted, late or not; whoever still works on the run is told to drop
  it.
- A worker that falls silent, hangs or overruns a time limit is killed, and what it held goes back. Only the
  run it was working on is charged.
- One run per group, the canary, goes first until it makes progress; when the first runs of a group all fail
  alike the group is held back.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from orchestrator import retry
from orchestrator.backlog import LEASED, PENDING, SETTLED, Backlog, Workload
from orchestrator.events import (
    Accept,
    Action,
    Announce,
    AttemptReport,
    Beat,
    CancelAttempts,
    CancelRequested,
    Capacity,
    CapacityChanged,
    Dispatch,
    DrainRequested,
    Event,
    Grant,
    KillWorker,
    NoteFailure,
    Reported,
    Settle,
    Shape,
    StartWorker,
    StopWorker,
    WorkerLost,
    WorkerReady,
)
from orchestrator.retry import Failure, RetryPolicy

MAX_UNIT = 512
"""Most runs in one batch: beyond it the cost of a message is already below 1 % of a no-op run's."""

SMOOTHING = 0.2
"""Weight of the newest batch in a group's mean run time: five batches forget a slow first run, which loads
the model.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What an operator may tune; the defaults suit runs from microseconds to hours."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    """Retry budgets."""
    unit_s: float = 0.5
    """Work in one batch. Batches of runs shorter than this amortise messages and fsyncs over several runs."""
    prefetch_below_s: float = 2.0
    """Runs shorter than this get a second batch queued at the worker, so that it never waits for the driver.
    """
    lease_s: float = 60.0
    """Silence after which a worker counts as lost; workers beat every second."""
    watchdog_s: float = 600.0
    """Time without progress after which a working worker counts as hung; 0 turns the watchdog off."""
    start_s: float = 300.0
    """Longest a worker may take to come up on free resources."""
    canary_hold_s: float = 30.0
    """Longest the first run of a group holds the others back."""
    breaker_runs: int = 4
    """Distinct first runs of a group that fail alike before the group is held back."""
    start_failures: int = 5
    """Workers in a row that die before they are up until the sweep gives up."""
    memory_watermark_gib: float = 0.0
    """Resident memory above which a worker is replaced once it is idle; 0 sets no limit."""
    max_slots: int = 0
    """Cap on worker processes in use; 0 leaves it to the capacity."""
    max_gpus: float = 0.0
    """Cap on GPUs in use; 0 leaves it to the capacity."""


@dataclass(slots=True)
class _Worker:
    name: str
    shape: Shape
    started_s: float
    ready: bool = False
    retiring: bool = False
    group: int = -1
    leases: dict[int, Grant] = field(default_factory=dict)
    """What it physically holds, by token, in order; a recalled lease stays until the worker has dropped it.
    """
    unit_ends: dict[int, None] = field(default_factory=dict)
    """Last token of each batch it holds."""
    seen_s: float = 0.0
    token: int = 0
    token_since_s: float = 0.0
    progress: int = 0
    progress_s: float = 0.0


@dataclass(slots=True)
class _Record:
    """What is known about a group."""

    proven: bool = False
    tripped: bool = False
    canary_s: float = -math.inf
    num_leased: int = 0
    num_workers: int = 0
    mean_s: float | None = None
    failures: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))


class Scheduler:
    """Decides who runs what. See the module's docstring for the rules."""

    def __init__(
        self,
        workload: Workload,
        *,
        settled: Iterable[int] = (),
        attempts: Mapping[int, int] | None = None,
        histories: Mapping[int, list[Failure]] | None = None,
        settings: Settings | None = None,
        capacity: Capacity,
        first_token: int = 1,
        name_prefix: str = "",
        now_s: float = 0.0,
    ) -> None:
        """Start from a manifest and what is already known of its runs.

        Args:
            workload: the runs, grouped.
            settled: runs that are over.
            attempts: tries already granted per run, where any were.
            histories: charged failures per run, where there are any.
            settings: what an operator tuned.
            capacity: what the pool can hand out.
            first_token: smallest fencing token to grant; larger than any granted before in this directory.
            name_prefix: put before worker names, to make them unique in this directory.
            now_s: the time.
        """
        self.settings = settings or Settings()
        self.workload = workload
        self._phase = bytearray(len(workload))
        for index in settled:
            self._phase[index] = SETTLED
        self._num_open = self._phase.count(PENDING)
        self._backlog = Backlog(workload, self._phase)
        self._attempts = array("H", bytes(2 * len(workload)))
        for index, number in (attempts or {}).items():
            self._attempts[index] = number
        self._histories: dict[int, list[Failure]] = dict(histories or {})
        self._capacity = capacity
        self._next_token = first_token
        self._prefix = name_prefix
        self._next_worker = 1
        self._now_s = now_s
        self._decided_s = now_s
        self._workers: dict[str, _Worker] = {}
        self._holder: dict[int, tuple[str, int]] = {}
        self._records = [_Record() for _ in workload.groups]
        self._groups_of: dict[Shape, list[int]] = defaultdict(list)
        for number, group in enumerate(workload.groups):
            self._groups_of[group.shape].append(number)
        self._hungry: dict[str, None] = {}
        self._actions: list[Action] = []
        self._resize = True
        self._checked_s = now_s
        self._start_failures = 0
        self._start_after_s = now_s
        self._drain_until_s: float | None = None
        self.stop_reason = ""
        """Why nothing more is handed out, for people; empty while the sweep goes on by itself."""
        self.num_late = 0
        """Reports that came under a superseded lease or for a run already over."""

    # --- what the driver asks ---------------------------------------------------------------------

    @property
    def num_leased(self) -> int:
        """Runs held by workers."""
        return len(self._holder)

    @property
    def num_open(self) -> int:
        """Runs not over: pending, waiting for a retry, or held by a worker."""
        return self._num_open

    @property
    def num_workers(self) -> int:
        """Workers up or coming up."""
        return len(self._workers)

    @property
    def draining(self) -> bool:
        """True once nothing more is handed out."""
        return self._drain_until_s is not None

    @property
    def finished(self) -> bool:
        """True when nothing runs and nothing more can be handed out."""
        if self._holder:
            return False
        return self.draining or not self._dispatchable_exists()

    @property
    def held_back(self) -> list[int]:
        """Groups that the circuit breaker holds back."""
        return [g for g, record in enumerate(self._records) if record.tripped]

    def mean_run_s(self, group: int) -> float | None:
        """Smoothed seconds per run of a group, ``None`` before the first result."""
        return self._records[group].mean_s

    # --- events -----------------------------------------------------------------------------------

    def tell(self, event: Event, now_s: float) -> None:
        """Take note of one event. Unknown workers and runs already over are not errors: messages may be late."""
        self._now_s = max(self._now_s, now_s)
        match event:
            case Reported():
                self._on_reports(event)
            case Beat():
                self._on_beat(event)
            case WorkerReady():
                self._on_ready(event)
            case WorkerLost():
                self._on_lost(event)
            case CapacityChanged(capacity=capacity):
                self._capacity = capacity
                self._resize = True
            case CancelRequested():
                self._on_cancel(event.indices)
            case DrainRequested():
                self._on_drain(event)

    def cap(self, *, max_slots: int, max_gpus: float) -> None:
        """Change how much may be in use at once; 0 lifts a cap. Workers in excess end after what they hold."""
        self.settings = replace(self.settings, max_slots=max_slots, max_gpus=max_gpus)
        self._resize = True

    def _on_reports(self, event: Reported) -> None:
        worker = self._workers.get(event.worker)
        accepted: list[AttemptReport] = []
        for report in event.reports:
            index = report.index
            held = self._holder.get(index)
            current = held is not None and held[1] == report.token
            self.num_late += not current
            if worker is not None:
                worker.leases.pop(report.token, None)
                worker.unit_ends.pop(report.token, None)
            if report.outcome in ("done", "diverged"):
                if self._phase[index] != SETTLED:
                    if held is not None and not current:
                        self._recall(index)
                    self._settle(index)
                    accepted.append(report)
                    self._learn(self.workload.group_of[index], report.wall_s)
            elif current:
                if report.failure is not None:
                    self._fail(index, report.attempt, event.worker, report.failure)
                else:
                    self._release(index)
        if accepted:
            self._actions.append(Accept(worker=event.worker, reports=tuple(accepted)))
        if worker is not None:
            worker.seen_s = worker.progress_s = self._now_s
            if len(worker.unit_ends) < 2:
                self._hungry[worker.name] = None

    def _on_beat(self, event: Beat) -> None:
        worker = self._workers.get(event.worker)
        if worker is None:
            return
        worker.seen_s = self._now_s
        if event.token != worker.token:
            worker.token, worker.token_since_s = event.token, self._now_s
            worker.progress_s = self._now_s
        if event.progress != worker.progress:
            worker.progress, worker.progress_s = event.progress, self._now_s
            if event.token in worker.leases:  # the canary's model is loaded and it works: others may follow
                self._records[worker.group].canary_s = -math.inf
        if 0 < self.settings.memory_watermark_gib < event.memory_gib and not worker.retiring:
            worker.retiring = True
            self._resize = True
            self._hungry[worker.name] = None
            self._actions.append(
                Announce(text=f"worker {worker.name} holds {event.memory_gib:.1f} GiB: replaced once idle")
            )

    def _on_ready(self, event: WorkerReady) -> None:
        worker = self._workers.get(event.worker)
        if worker is not None and not worker.ready:
            worker.ready = True
            worker.token = 0
            worker.seen_s = worker.progress_s = worker.token_since_s = self._now_s
            self._start_failures = 0
            self._hungry[worker.name] = None

    def _on_lost(self, event: WorkerLost) -> None:
        worker = self._workers.pop(event.worker, None)
        if worker is None:
            return
        if not worker.ready:
            self._start_failures += 1
            self._start_after_s = self._now_s + 2.0 ** min(self._start_failures, 5)
            if self._start_failures >= self.settings.start_failures:
                reason = (
                    f"{self._start_failures} workers in a row died while starting; the last: {event.reason}"
                )
                self._on_drain(DrainRequested(reason=reason, grace_s=math.inf))
        self._take_back(worker, _lost(event.reason))
        self._resize = True

    def _on_cancel(self, indices: Iterable[int]) -> None:
        for index in indices:
            if self._phase[index] != SETTLED:
                self._recall(index)
                self._settle(index)
                self._actions.append(Settle(index=index, outcome="cancelled"))

    def _on_drain(self, event: DrainRequested) -> None:
        until_s = self._now_s + event.grace_s
        self._drain_until_s = until_s if self._drain_until_s is None else min(until_s, self._drain_until_s)
        self.stop_reason = self.stop_reason or event.reason
        for worker in self._workers.values():
            for token, grant in worker.leases.items():
                if token != worker.token and self._holder.get(grant.index) == (worker.name, token):
                    self._recall(grant.index)
                    self._backlog.put_back(grant.index)

    # --- decisions --------------------------------------------------------------------------------

    def decide(self, now_s: float) -> list[Action]:
        """Return what to do about everything told so far, in order."""
        self._now_s = max(self._now_s, now_s)
        if self._now_s - self._decided_s > self.settings.lease_s / 2:
            # The driver itself was away (suspended, starved): silence proves nothing about the workers.
            for worker in self._workers.values():
                worker.seen_s = worker.progress_s = self._now_s
        self._decided_s = self._now_s
        self._backlog.release_due(self._now_s)
        if self._now_s - self._checked_s >= 1.0 or self.draining:
            self._checked_s = self._now_s
            self._check_workers()
            self._resize = True
        if not self.draining:
            if self._resize:
                self._resize = False
                self._resize_fleet()
            self._feed()
        actions, self._actions = self._actions, []
        return actions

    def _check_workers(self) -> None:
        """Find workers that are silent, hung, over a time limit, or still busy when the grace of a drain
        ends.
        """
        settings, now_s = self.settings, self._now_s
        for worker in list(self._workers.values()):
            if self._drain_until_s is not None and now_s >= self._drain_until_s:
                self._kill(worker, None, "the grace of the stop has ended")
            elif not worker.ready:
                if now_s - worker.started_s > settings.start_s:
                    self._kill(worker, None, f"not up after {settings.start_s:g} s")
            elif now_s - worker.seen_s > settings.lease_s:
                reason = f"silent for {settings.lease_s:g} s"
                self._kill(worker, _lost(reason), reason, record_stack=True)
            elif worker.leases:
                self._check_progress(worker)

    def _check_progress(self, worker: _Worker) -> None:
        watchdog_s = self.settings.watchdog_s
        if 0 < watchdog_s < self._now_s - worker.progress_s:
            self._kill_slow(worker, f"no progress for {watchdog_s:g} s")
        elif worker.token in worker.leases:
            group = self.workload.group_of[worker.leases[worker.token].index]
            limit_s = self.workload.groups[group].timeout_s
            if 0 < limit_s < self._now_s - worker.token_since_s:
                self._kill_slow(worker, f"over the limit of {limit_s:g} s")

    def _kill_slow(self, worker: _Worker, reason: str) -> None:
        failure = Failure(retry.TIMEOUT, retry.fingerprint_of("timeout", reason), reason)
        self._kill(worker, failure, reason, record_stack=True)

    def _kill(
        self, worker: _Worker, failure: Failure | None, reason: str, record_stack: bool = False
    ) -> None:
        del self._workers[worker.name]
        self._actions.append(KillWorker(worker=worker.name, reason=reason, record_stack=record_stack))
        self._take_back(worker, failure)
        self._resize = True

    def _take_back(self, worker: _Worker, failure: Failure | None) -> None:
        """Requeue what a dead worker held; charge ``failure`` to the run it was working on."""
        self._hungry.pop(worker.name, None)
        self._move(worker, -1)
        held = [g for t, g in worker.leases.items() if self._holder.get(g.index) == (worker.name, t)]
        working = next((g for g in held if g.token == worker.token), held[0] if held else None)
        for grant in reversed(
            held
        ):  # put_back queues at the end, fresh runs come later; order among them is free
            if grant is working and failure is not None:
                self._fail(grant.index, grant.attempt, worker.name, failure)
            else:
                self._release(grant.index)

    def _resize_fleet(self) -> None:
        """Start workers where runs wait and room is left; retire those in excess or in the way."""
        max_slots, max_gpus = self._limits()
        slots = sum(w.shape.world_size for w in self._workers.values())
        gpus = sum(w.shape.world_size * w.shape.gpus for w in self._workers.values())
        for worker in sorted(self._workers.values(), key=lambda w: (not w.retiring, len(w.leases))):
            over = slots > max_slots or gpus > max_gpus + 1e-9
            if worker.retiring or over or self._in_the_way(worker):
                worker.retiring = True
                slots -= worker.shape.world_size
                gpus -= worker.shape.world_size * worker.shape.gpus
                if not worker.leases:
                    self._stop_worker(worker)
        slots = sum(w.shape.world_size for w in self._workers.values())
        gpus = sum(w.shape.world_size * w.shape.gpus for w in self._workers.values())
        if self._now_s < self._start_after_s:
            return
        while shape := self._neediest_shape(max_slots - slots, max_gpus - gpus):
            self._start_worker(shape)
            slots += shape.world_size
            gpus += shape.world_size * shape.gpus

    def _limits(self) -> tuple[int, float]:
        settings, capacity = self.settings, self._capacity
        return (
            min(capacity.slots, settings.max_slots or capacity.slots),
            min(capacity.gpus, settings.max_gpus or capacity.gpus),
        )

    def _in_the_way(self, worker: _Worker) -> bool:
        """Whether an idle worker's shape has no work left while another shape waits for room."""
        return (
            not worker.leases
            and self._num_waiting(worker.shape) == 0
            and any(self._num_waiting(shape) for shape in self._groups_of)
        )

    def _num_waiting(self, shape: Shape) -> int:
        """Runs of a shape that may be handed out now."""
        return sum(self._backlog.num_ready[g] for g in self._groups_of[shape] if not self._records[g].tripped)

    def _neediest_shape(self, free_slots: int, free_gpus: float) -> Shape | None:
        best, best_need = None, 0.0
        for shape in self._groups_of:
            if shape.world_size > free_slots or shape.world_size * shape.gpus > free_gpus + 1e-9:
                continue
            live = sum(w.shape == shape and not w.retiring for w in self._workers.values())
            idle = sum(w.shape == shape and not w.retiring and not w.leases for w in self._workers.values())
            waiting = self._num_waiting(shape)
            need = waiting / (1 + live) if waiting > idle else 0.0
            if need > best_need:
                best, best_need = shape, need
        return best

    def _start_worker(self, shape: Shape) -> None:
        name = f"{self._prefix}w{self._next_worker}"
        self._next_worker += 1
        self._workers[name] = _Worker(name=name, shape=shape, started_s=self._now_s)
        groups = [
            g for g in self._groups_of[shape] if not self._records[g].tripped and self._backlog.num_ready[g]
        ]
        runs_like = self._backlog.first[groups[0]]
        self._actions.append(StartWorker(worker=name, shape=shape, runs_like=runs_like))

    def _stop_worker(self, worker: _Worker) -> None:
        del self._workers[worker.name]
        self._hungry.pop(worker.name, None)
        self._move(worker, -1)
        self._actions.append(StopWorker(worker=worker.name))

    def _feed(self) -> None:
        """Hand out batches to every worker that has room for one."""
        for name in list(self._hungry):
            worker = self._workers[name]
            if worker.retiring:
                del self._hungry[name]
                self._resize = True
                continue
            while (group := self._choose_group(worker)) >= 0:
                record = self._records[group]
                brief = record.mean_s is not None and record.mean_s < self.settings.prefetch_below_s
                if len(worker.unit_ends) >= (2 if brief else 1):
                    del self._hungry[name]
                    break
                self._dispatch(worker, group)

    def _choose_group(self, worker: _Worker) -> int:
        """The group to serve next: the one the worker has hot, else the one with most waiting per worker on
        it.
        """
        ready, best, best_need = self._backlog.num_ready, -1, 0.0
        if worker.group >= 0 and ready[worker.group] and self._open_for_work(worker.group):
            return worker.group
        for group in self._groups_of[worker.shape]:
            if ready[group] and self._open_for_work(group):
                need = ready[group] / (1 + self._records[group].num_workers)
                if need > best_need:
                    best, best_need = group, need
        return best

    def _open_for_work(self, group: int) -> bool:
        record = self._records[group]
        if record.tripped:
            return False
        held = self._now_s - record.canary_s < self.settings.canary_hold_s
        return record.proven or record.num_leased == 0 or not held

    def _dispatch(self, worker: _Worker, group: int) -> None:
        record = self._records[group]
        if not record.proven and record.num_leased == 0:
            record.canary_s = self._now_s
        grants = []
        for index in self._backlog.take(group, self._unit_size(worker.shape, record)):
            history = self._histories.get(index)
            shrink = min(sum(f.kind == retry.MEMORY for f in history), 2) if history else 0
            grant = Grant(index, self._attempts[index], self._next_token, shrink)
            self._attempts[index] += 1
            self._next_token += 1
            self._phase[index] = LEASED
            self._holder[index] = (worker.name, grant.token)
            worker.leases[grant.token] = grant
            grants.append(grant)
        record.num_leased += len(grants)
        worker.unit_ends[grants[-1].token] = None
        if len(worker.unit_ends) == 1:
            worker.progress_s = self._now_s
        self._move(worker, group)
        self._actions.append(Dispatch(worker=worker.name, grants=tuple(grants)))

    def _unit_size(self, shape: Shape, record: _Record) -> int:
        if record.mean_s is None:
            return 1
        size = min(MAX_UNIT, int(self.settings.unit_s / max(record.mean_s, 1e-9)))
        if size > 1:  # near the end smaller batches keep every worker busy to the last
            num_workers = sum(w.shape == shape for w in self._workers.values())
            size = min(size, self._num_waiting(shape) // (2 * num_workers))
        return max(1, size)

    def _move(self, worker: _Worker, group: int) -> None:
        if worker.group != group:
            if worker.group >= 0:
                self._records[worker.group].num_workers -= 1
            if group >= 0:
                self._records[group].num_workers += 1
            worker.group = group

    # --- a run's life -----------------------------------------------------------------------------

    def _drop_lease(self, index: int) -> None:
        del self._holder[index]
        self._records[self.workload.group_of[index]].num_leased -= 1
        self._phase[index] = PENDING

    def _release(self, index: int) -> None:
        """Take a lease back and queue the run again, uncharged."""
        self._drop_lease(index)
        self._backlog.put_back(index)

    def _recall(self, index: int) -> None:
        """Take a lease back, if there is one, and tell its worker; the run is pending but in no queue."""
        held = self._holder.get(index)
        if held is None:
            self._backlog.discard(index)
        else:
            self._drop_lease(index)
            self._actions.append(CancelAttempts(worker=held[0], tokens=(held[1],)))

    def _settle(self, index: int) -> None:
        if index in self._holder:
            self._drop_lease(index)
        self._phase[index] = SETTLED
        self._num_open -= 1

    def _learn(self, group: int, wall_s: float) -> None:
        record = self._records[group]
        record.proven = True
        record.failures.clear()
        record.mean_s = (
            wall_s if record.mean_s is None else record.mean_s + SMOOTHING * (wall_s - record.mean_s)
        )

    def _fail(self, index: int, attempt: int, worker: str, failure: Failure) -> None:
        history = self._histories.setdefault(index, [])
        history.append(failure)
        self._drop_lease(index)
        self._actions.append(
            NoteFailure(index=index, attempt=attempt, worker=worker, failure=failure, charged=True)
        )
        verdict = retry.decide(self.settings.policy, history)
        if verdict.outcome != "pending":
            self._phase[index] = SETTLED
            self._num_open -= 1
            self._actions.append(Settle(index=index, outcome=verdict.outcome))
        else:
            self._backlog.put_back(index, self._now_s + verdict.delay_s if verdict.delay_s else None)
        self._watch_first_runs(index, history)

    def _watch_first_runs(self, index: int, history: list[Failure]) -> None:
        """Hold a group back when its first runs all fail alike; one lost worker may be chance, two on one run
        are not.
        """
        group, failure = self.workload.group_of[index], history[-1]
        record = self._records[group]
        if record.proven or record.tripped:
            return
        if failure.kind == retry.INFRASTRUCTURE and sum(f.kind == failure.kind for f in history) < 2:
            return
        record.failures[failure.fingerprint].add(index)
        if len(record.failures[failure.fingerprint]) >= self.settings.breaker_runs:
            record.tripped = True
            name = self.workload.groups[group].affinity or "the sweep"
            self._actions.append(
                Announce(
                    text=f"the first {self.settings.breaker_runs} runs of {name} all failed alike "
                    f"({failure.message}); its other runs are held back"
                )
            )

    def _dispatchable_exists(self) -> bool:
        if any(n and not self._records[g].tripped for g, n in enumerate(self._backlog.num_ready)):
            return True
        return any(not self._records[self.workload.group_of[i]].tripped for i in self._backlog.waiting)


def _lost(reason: str) -> Failure:
    return Failure(
        retry.INFRASTRUCTURE, retry.fingerprint_of("worker lost", reason), f"worker lost: {reason}"
    )
