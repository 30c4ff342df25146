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
from dataclasses import replace

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
from orchestrator.fleet import Fleet, Sickness, Worker, lost
from orchestrator.groups import GroupRecord
from orchestrator.retry import Failure
from orchestrator.settings import Settings


class Scheduler:
    """Decides who runs what. See the module's docstring for the rules."""

    def __init__(
        self,
        workload: Workload,
        *,
        capacity: Capacity,
        settled: Iterable[int] = (),
        attempts: array[int] | None = None,
        histories: Mapping[int, list[Failure]] | None = None,
        settings: Settings | None = None,
        first_token: int = 1,
        name_prefix: str = "",
        deadline_s: float = math.inf,
        now_s: float = 0.0,
    ) -> None:
        """Start from a manifest and what is already known of its runs.

        Args:
            workload: the runs, grouped.
            capacity: what the pool can hand out.
            settled: runs that are over.
            attempts: tries already granted per run, shape (runs,); ``None`` for none.
            histories: charged failures per run, where there are any.
            settings: what an operator tuned.
            first_token: smallest fencing token to grant; larger than any granted before in this directory.
            name_prefix: put before worker names, to make them unique in this directory.
            deadline_s: nothing is handed out that would not end before this time.
            now_s: the time.
        """
        self.settings = settings or Settings()
        self.workload = workload
        self.fleet = Fleet(capacity, name_prefix)
        """The workers."""
        self.groups = [GroupRecord() for _ in workload.groups]
        """What is known about each group."""
        self.stop_reason = ""
        """Why nothing more is handed out, for people; empty while the sweep goes on by itself."""
        self.num_late = 0
        """Results that came under a superseded lease or for a run already over."""
        self._phase = bytearray(len(workload))
        for index in settled:
            self._phase[index] = SETTLED
        self._num_open = self._phase.count(PENDING)
        self._backlog = Backlog(workload, self._phase)
        self._attempts = array("H", attempts or bytes(2 * len(workload)))
        self._histories: dict[int, list[Failure]] = {i: list(h) for i, h in (histories or {}).items()}
        self._holder: dict[int, tuple[str, int]] = {}
        self._avoid: dict[int, str] = {}
        self._groups_of: dict[Shape, list[int]] = defaultdict(list)
        for number, group in enumerate(workload.groups):
            self._groups_of[group.shape].append(number)
        self._hungry: dict[str, None] = {}
        self._actions: list[Action] = []
        self._next_token = first_token
        self._deadline_s = deadline_s
        self._drain_until_s: float | None = None
        self._now_s = self._decided_s = self._checked_s = now_s
        self._resize = True
        self.paused = False
        """While true nothing is handed out and no worker is started, but work goes on being left."""

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
    def draining(self) -> bool:
        """True once nothing more is handed out."""
        return self._drain_until_s is not None

    @property
    def finished(self) -> bool:
        """True when nothing runs and nothing more will be handed out."""
        return not self._holder and (self.draining or not self._work_is_left())

    @property
    def next_due_s(self) -> float | None:
        """When the next retry may start, or ``None`` when none waits."""
        return self._backlog.next_due_s

    def is_leased(self, index: int) -> bool:
        """Whether a worker holds the run."""
        return index in self._holder

    # --- events -----------------------------------------------------------------------------------

    def tell(self, event: Event, now_s: float) -> None:
        """Take note of one event. Unknown workers and runs that are over are no error: messages come late."""
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
                self._resize |= capacity != self.fleet.capacity
                self.fleet.capacity = capacity
            case CancelRequested():
                self._on_cancel(event.runs)
            case DrainRequested():
                self._on_drain(event)

    def cap(self, *, max_slots: int, max_gpus: float) -> None:
        """Change how much may be in use at once; 0 lifts a cap. Workers in excess finish what they hold."""
        self.settings = replace(self.settings, max_slots=max_slots, max_gpus=max_gpus)
        self._resize = True

    def _on_reports(self, event: Reported) -> None:
        worker = self.fleet.workers.get(event.worker)
        accepted: list[AttemptReport] = []
        for report in event.reports:
            index = report.run
            held = self._holder.get(index)
            current = held is not None and held[1] == report.token
            if worker is not None:
                worker.leases.pop(report.token, None)
                worker.unit_ends.pop(report.token, None)
            if report.outcome in ("done", "diverged"):
                self.num_late += not current
                if self._phase[index] != SETTLED:
                    self._withdraw(index, tell_worker=not current)
                    self._settle(index)
                    self.groups[self.workload.group_of[index]].learn(report.wall_s)
                    accepted.append(report)
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

    def _on_beat(self, beat: Beat) -> None:
        worker = self.fleet.workers.get(beat.worker)
        if worker is None:
            return
        if worker.hear(beat, self._now_s):
            self.groups[
                worker.group
            ].canary_s = -math.inf  # its model is loaded and it works: others may follow
        if 0 < self.settings.memory_watermark_gib < beat.memory_gib and not worker.retiring:
            worker.retiring = self._resize = True
            text = f"worker {worker.name} holds {beat.memory_gib:.1f} GiB: replaced once it is idle"
            self._actions.append(Announce(text=text))

    def _on_ready(self, event: WorkerReady) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is not None and not worker.ready:
            worker.ready, worker.host = True, event.host
            worker.seen_s = worker.progress_s = worker.token_since_s = self._now_s
            self.fleet.num_start_failures = 0
            self._hungry[worker.name] = None

    def _on_lost(self, event: WorkerLost) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        if not worker.ready:
            num = self.fleet.note_start_failure(self._now_s)
            if num >= self.settings.start_failures:
                reason = f"{num} workers in a row died while starting, the last because it {event.reason}"
                self._on_drain(DrainRequested(reason=reason, grace_s=math.inf))
        self._remove(worker, lost(event.reason))

    def _on_cancel(self, indices: Iterable[int]) -> None:
        for index in indices:
            if self._phase[index] != SETTLED:
                self._withdraw(index, tell_worker=True)
                self._settle(index)
                self._actions.append(Settle(run=index, outcome="cancelled"))

    def _on_drain(self, event: DrainRequested) -> None:
        until_s = self._now_s + event.grace_s
        self._drain_until_s = until_s if self._drain_until_s is None else min(until_s, self._drain_until_s)
        self.stop_reason = self.stop_reason or event.reason
        for worker in self.fleet:
            working_on = worker.working_on
            for token, grant in worker.leases.items():
                if token != working_on and self._holder.get(grant.run) == (worker.name, token):
                    self._withdraw(grant.run, tell_worker=True)
                    self._backlog.put_back(grant.run)

    # --- decisions --------------------------------------------------------------------------------

    def decide(self, now_s: float) -> list[Action]:
        """Return what to do about everything told so far, in order."""
        self._now_s = now_s = max(self._now_s, now_s)
        if now_s - self._decided_s > self.settings.lease_s / 2:
            # The driver itself was away (suspended, starved): silence proves nothing about the workers.
            self.fleet.touch_all(now_s)
        self._decided_s = now_s
        self._backlog.release_due(now_s)
        if now_s - self._checked_s >= self.settings.check_s:
            self._checked_s = now_s
            self._resize = True
            for worker, sickness in self.fleet.sick(now_s, self.settings, self._timeout_s):
                self._kill(worker, sickness)
        if self._drain_until_s is not None:
            if now_s >= self._drain_until_s:
                for worker in self.fleet:
                    self._kill(worker, Sickness("the grace of the stop has ended", None, False))
        elif not self.paused:
            if self._resize:
                self._resize_fleet()
            self._feed()
        actions, self._actions = self._actions, []
        return actions

    def _timeout_s(self, worker: Worker, grant: Grant) -> float:
        """Longest a worker may be at a run; runs of a bundle advance together, so their limits add up."""
        limit_s = self.workload.groups[self.workload.group_of[grant.run]].timeout_s
        return limit_s if self.workload.bundle_of is None else limit_s * len(worker.leases)

    def _kill(self, worker: Worker, sickness: Sickness) -> None:
        if not worker.ready and sickness.failure is None and not self.draining:
            self.fleet.note_start_failure(self._now_s)
        self._actions.append(
            KillWorker(worker=worker.name, reason=sickness.reason, record_stack=sickness.record_stack)
        )
        self._remove(worker, sickness.failure)

    def _remove(self, worker: Worker, failure: Failure | None) -> None:
        """Count a worker out and requeue what it held; charge ``failure`` to the run it was working on."""
        self.fleet.remove(worker)
        self._hungry.pop(worker.name, None)
        self._move(worker, -1)
        self._resize = True
        working_on = worker.working_on
        for token, grant in worker.leases.items():
            if self._holder.get(grant.run) != (worker.name, token):
                continue
            if token == working_on and failure is not None:
                self._fail(grant.run, grant.attempt, worker.name, failure)
            else:
                self._release(grant.run)

    def _resize_fleet(self) -> None:
        """Start workers where runs wait and room is left; end those in excess or in the way."""
        waiting = {shape: self._num_waiting(shape) for shape in self._groups_of}
        for worker in self.fleet.retire(self.settings, waiting):
            self._actions.append(StopWorker(worker=worker.name))
            self._remove(worker, None)
        for shape in self.fleet.to_start(self.settings, waiting, self._now_s):
            worker = self.fleet.enlist(shape, self._now_s)
            like = next(g for g in self._groups_of[shape] if self._backlog.num_ready[g])
            self._actions.append(
                StartWorker(worker=worker.name, shape=shape, runs_like=self._backlog.first[like])
            )
        self._resize = False

    def _num_waiting(self, shape: Shape) -> int:
        """Runs of a shape that may be handed out."""
        return sum(self._backlog.num_ready[g] for g in self._groups_of[shape] if not self.groups[g].tripped)

    def _feed(self) -> None:
        """Hand out batches to every worker that has room for one."""
        for name in list(self._hungry):
            worker = self.fleet.workers[name]
            if worker.retiring:
                del self._hungry[name]
                self._resize = True
                continue
            while (group := self._choose_group(worker)) >= 0:
                more = self.groups[group].wants_more(self.settings, len(worker.leases))
                if len(worker.unit_ends) >= (2 if more else 1):
                    del self._hungry[name]
                    break
                if not self._dispatch(worker, group):
                    break

    def _choose_group(self, worker: Worker) -> int:
        """The group to serve next: the one the worker has hot, else the one with most waiting per worker."""
        ready, best, best_need = self._backlog.num_ready, -1, 0.0
        if worker.group >= 0 and ready[worker.group] and self._is_open(worker.group):
            return worker.group
        for group in self._groups_of[worker.shape]:
            if ready[group] and self._is_open(group):
                need = ready[group] / (1 + self.groups[group].num_workers)
                if need > best_need:
                    best, best_need = group, need
        return best

    def _is_open(self, group: int) -> bool:
        return self.groups[group].is_open(self._now_s, self.settings, self._deadline_s - self._now_s)

    def _dispatch(self, worker: Worker, group: int) -> bool:
        """Hand out one batch; false when every run of it is to be kept away from the worker's host."""
        record = self.groups[group]
        if not record.proven and record.num_leased == 0:
            record.canary_s = self._now_s
        waiting, num_workers = self._num_waiting(worker.shape), self.fleet.count(worker.shape)
        size = record.unit_size(self.settings, waiting, num_workers, self._deadline_s - self._now_s)
        grants = []
        for index in self._backlog.take(group, size):
            if self._avoid and self._avoids(index, worker):
                self._backlog.put_back(index)
                continue
            history = self._histories.get(index)
            grant = Grant(
                index, self._attempts[index], self._next_token, retry.shrink_for(history) if history else 0
            )
            self._attempts[index] += 1
            self._next_token += 1
            self._phase[index] = LEASED
            self._holder[index] = (worker.name, grant.token)
            worker.leases[grant.token] = grant
            grants.append(grant)
        if not grants:
            return False
        record.num_leased += len(grants)
        worker.unit_ends[grants[-1].token] = None
        if len(worker.unit_ends) == 1:
            worker.progress_s = self._now_s
        self._move(worker, group)
        self._actions.append(Dispatch(worker=worker.name, grants=tuple(grants)))
        return True

    def _avoids(self, index: int, worker: Worker) -> bool:
        """Whether a run ran out of memory on the worker's host and another host could take it."""
        return self._avoid.get(index) == worker.host and any(
            w.ready and w.shape == worker.shape and w.host != worker.host for w in self.fleet.workers.values()
        )

    def _move(self, worker: Worker, group: int) -> None:
        if worker.group != group:
            if worker.group >= 0:
                self.groups[worker.group].num_workers -= 1
            if group >= 0:
                self.groups[group].num_workers += 1
            worker.group = group

    # --- a run's life -----------------------------------------------------------------------------

    def _drop_lease(self, index: int) -> None:
        del self._holder[index]
        self.groups[self.workload.group_of[index]].num_leased -= 1
        self._phase[index] = PENDING

    def _release(self, index: int) -> None:
        """Take a lease back and queue the run again, uncharged."""
        self._drop_lease(index)
        self._backlog.put_back(index)

    def _withdraw(self, index: int, *, tell_worker: bool) -> None:
        """Take an open run out of wherever it is, a queue or a lease; the caller says what becomes of it."""
        held = self._holder.get(index)
        if held is None:
            self._backlog.discard(index)
            return
        self._drop_lease(index)
        if tell_worker:
            self._actions.append(CancelAttempts(worker=held[0], tokens=(held[1],)))

    def _settle(self, index: int) -> None:
        self._phase[index] = SETTLED
        self._num_open -= 1
        self._avoid.pop(index, None)
        self._histories.pop(index, None)

    def _fail(self, index: int, attempt: int, worker: str, failure: Failure) -> None:
        history = self._histories.setdefault(index, [])
        history.append(failure._replace(details=""))
        self._drop_lease(index)
        self._actions.append(NoteFailure(run=index, attempt=attempt, worker=worker, failure=failure))
        group = self.workload.group_of[index]
        if self.groups[group].note_failure(index, history, self.settings):
            name = self.workload.groups[group].affinity or "the sweep"
            text = (
                f"the first {self.settings.breaker_runs} runs of {name} all failed alike "
                f"({failure.message}); its other runs are held back"
            )
            self._actions.append(Announce(text=text))
        verdict = retry.decide(self.settings.policy, history)
        if verdict.outcome != "pending":
            self._settle(index)
            self._actions.append(Settle(run=index, outcome=verdict.outcome))
            return
        if verdict.elsewhere and worker in self.fleet.workers:
            self._avoid[index] = self.fleet.workers[worker].host
        self._backlog.put_back(index, self._now_s + verdict.delay_s if verdict.delay_s else None)

    def _work_is_left(self) -> bool:
        """Whether any open run may still be handed out, now or when its retry is due."""
        left_s = self._deadline_s - self._now_s
        useful = [not g.tripped and (g.mean_s or 0.0) <= left_s for g in self.groups]
        if any(n and useful[g] for g, n in enumerate(self._backlog.num_ready)):
            return left_s > 0
        return any(useful[self.workload.group_of[i]] for i in self._backlog.waiting) and left_s > 0
