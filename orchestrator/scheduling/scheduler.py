"""The scheduler: a pure state machine from events to actions. It owns no process, file, clock or thread.

:meth:`Scheduler.tell` takes one event; :meth:`Scheduler.decide` returns what to do about everything told so
far. Time is a parameter, in seconds of a clock that the caller chooses; going backwards does no harm. The
same code runs under the driver's monotonic clock and under the virtual one of
:mod:`orchestrator.scheduling.simulate`.

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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from orchestrator.scheduling import events as ev
from orchestrator.scheduling import retry
from orchestrator.scheduling.backlog import Workload
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.dispatcher import Dispatcher
from orchestrator.scheduling.fleet import Fleet, Sickness, Worker, lost
from orchestrator.scheduling.leases import LeaseTable
from orchestrator.scheduling.model_health import ModelHealth, held_back
from orchestrator.store.outcomes import AttemptReport, Failure, Grant


class Scheduler:
    """Decides who runs what. See the module's docstring for the rules."""

    def __init__(
        self,
        workload: Workload,
        *,
        capacity: ev.Capacity,
        settled: Iterable[int] = (),
        attempts: array[int] | None = None,
        histories: Mapping[int, list[Failure]] | None = None,
        settings: SchedulerConfig | None = None,
        first_token: int = 1,
        name_prefix: str = "",
        deadline_s: float = math.inf,
        now_s: float = 0.0,
    ) -> None:
        """Start from a manifest and what is already known of its runs.

        Args:
            attempts: tries already granted per run, shape (runs,); ``None`` for none.
            histories: charged failures per run, where there are any.
            first_token: smallest fencing token to grant; larger than any granted before in this directory.
            name_prefix: put before worker names, to make them unique in this directory.
            deadline_s: nothing is handed out that would not end before this time.
        """
        self.settings = settings or SchedulerConfig()
        self.workload = workload
        self.fleet = Fleet(capacity, name_prefix)
        """The workers."""
        self.groups = [ModelHealth() for _ in workload.groups]
        """What is known about each group."""
        self.stop_reason = ""
        """Why nothing more is handed out, for people; empty while the sweep goes on by itself."""
        self.num_late = 0
        """Results that came under a superseded lease or for a run already over."""
        self._runs = LeaseTable(
            workload, settled=settled, attempts=attempts, histories=histories, first_token=first_token
        )
        self._backlog = self._runs.backlog
        self._dispatcher = Dispatcher(workload, self._runs, self.fleet, self.groups)
        self._actions: list[ev.Action] = []
        self._deadline_s, self._resize = deadline_s, True
        self._skipped: set[int] = set()
        self._drain_until_s: float | None = None
        self._now_s = self._decided_s = self._checked_s = now_s
        self.paused = False
        """While true nothing is handed out and no worker is started, but work goes on being left."""

    @property
    def num_leased(self) -> int:
        return self._runs.num_leased

    @property
    def num_open(self) -> int:
        """Runs not over: pending, waiting for a retry, or held by a worker."""
        return self._runs.num_open

    @property
    def draining(self) -> bool:
        return self._drain_until_s is not None

    @property
    def finished(self) -> bool:
        """True when nothing runs and nothing more will be handed out."""
        return not self._runs.num_leased and (
            self.draining or not self._dispatcher.has_work(self._deadline_s - self._now_s)
        )

    @property
    def next_due_s(self) -> float | None:
        """When the next retry may start, or ``None`` when none waits."""
        return self._backlog.next_due_s

    def asked_for(self) -> dict[ev.Shape, int]:
        """Workers of each shape that a cluster which grows is to have room for."""
        return {} if self.draining else self._dispatcher.asked_for(self.settings)

    @property
    def num_waiting(self) -> int:
        """Runs that may be handed out now."""
        return sum(self._backlog.num_ready)

    @property
    def mean_s(self) -> float | None:
        """Seconds that a run takes, on average over the groups of which that is known."""
        known = [group.mean_s for group in self.groups if group.mean_s is not None]
        return sum(known) / len(known) if known else None

    def grow(self, whole: Workload) -> None:
        """Take in further runs, all pending: those that a workload has behind this one's."""
        self.workload.grow(whole)
        self.groups.extend(ModelHealth() for _ in range(len(self.groups), len(whole.groups)))
        self._runs.grow(len(whole.groups))
        self._dispatcher.grow(self.workload)
        self._resize = True

    def tell(self, event: ev.Event, now_s: float) -> None:
        """Take note of one event. Unknown workers and runs that are over are no error: messages come late."""
        self._now_s = max(self._now_s, now_s)
        match event:
            case ev.Reported():
                self._on_reports(event)
            case ev.Beat():
                self._on_beat(event)
            case ev.WorkerReady():
                self._on_ready(event)
            case ev.WorkerLeaving():
                self._on_leaving(event)
            case ev.WorkerLost():
                self._on_lost(event)
            case ev.CapacityChanged(capacity=capacity):
                self._resize |= capacity != self.fleet.capacity
                self.fleet.capacity = capacity
            case ev.CancelRequested(runs=runs):
                self._actions += (ev.Settle(run=i, outcome="cancelled") for i in list(self._called_off(runs)))
            case ev.RunsSkipped(runs=runs):
                self._skipped.update(self._called_off(runs))
            case ev.DrainRequested():
                self._on_drain(event)

    def cap(self, *, max_slots: int, max_gpus: float) -> None:
        """Change how much may be in use at once; 0 lifts a cap. Workers in excess finish what they hold."""
        self.settings = replace(self.settings, max_slots=max_slots, max_gpus=max_gpus)
        self._resize = True

    def _on_reports(self, event: ev.Reported) -> None:
        self.fleet.peak_mib = max(self.fleet.peak_mib, event.peak_mib)
        worker = self.fleet.workers.get(event.worker)
        accepted: list[AttemptReport] = []
        changing_nothing: list[AttemptReport] = []
        for report in event.reports:
            index = report.run
            holder = self._runs.holder(index)
            current = holder is not None and holder.token == report.token
            if worker is not None:
                worker.leases.pop(report.token, None)
                worker.unit_ends.pop(report.token, None)
            if report.outcome in ("done", "diverged"):
                self.num_late += not current
                if not self._runs.is_over(index):
                    self._withdraw(index, tell_worker=not current)
                    self._settle(index)
                    self.groups[self.workload.group_of[index]].learn(report.wall_s)
                    accepted.append(report)
                elif index in self._skipped:
                    self._skipped.remove(index)
                    accepted.append(report)
                else:
                    changing_nothing.append(report)
            elif current and report.failure is not None:
                self._fail(Grant(index, report.attempt, report.token), event.worker, report.failure)
            else:
                changing_nothing.append(report)
                if current:
                    self._runs.release(index)
        if changing_nothing:
            self._actions.append(ev.NoteEnds(worker=event.worker, reports=tuple(changing_nothing)))
        if accepted:
            self._actions.append(ev.Accept(worker=event.worker, reports=tuple(accepted)))
        if worker is not None:
            worker.seen_s = worker.progress_s = self._now_s
            self._resize |= worker.retiring
            if len(worker.unit_ends) < 2:
                self._dispatcher.note_room(worker)

    def _on_beat(self, beat: ev.Beat) -> None:
        worker = self.fleet.workers.get(beat.worker)
        if worker is None:
            return
        if worker.hear(beat, self._now_s):
            # Its model is loaded and it works: others may follow.
            self.groups[worker.group].canary_s = -math.inf
        if 0 < self.settings.memory_watermark_gib < beat.memory_gib and not worker.retiring:
            worker.retiring = self._resize = True
            text = f"worker {worker.name} holds {beat.memory_gib:.1f} GiB: replaced once it is idle"
            self._actions.append(ev.Announce(text=text))

    def _on_ready(self, event: ev.WorkerReady) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is not None and not worker.ready:
            worker.ready, worker.host = True, event.host
            worker.seen_s = worker.progress_s = worker.token_since_s = self._now_s
            self.fleet.num_start_failures = 0
            self._dispatcher.note_room(worker)

    def _on_lost(self, event: ev.WorkerLost) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        if not worker.ready:
            num = self.fleet.note_start_failure(worker, self._now_s)
            if num >= self.settings.start_failures:
                reason = f"workers died while starting {num} times in a row, the last: {event.reason}"
                self._on_drain(ev.DrainRequested(reason=reason, grace_s=math.inf))
        self._remove(worker, None if worker.leaving else lost(event.reason))

    def _on_leaving(self, event: ev.WorkerLeaving) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is not None and not worker.leaving:
            worker.leaving = worker.retiring = self._resize = True
            self._put_back_waiting(worker)

    def _called_off(self, indices: Iterable[int]) -> Iterator[int]:
        """Take those that are open out of wherever they are, for good."""
        for index in indices:
            if not self._runs.is_over(index):
                self._withdraw(index, tell_worker=True)
                self._settle(index)
                yield index

    def _on_drain(self, event: ev.DrainRequested) -> None:
        until_s = self._now_s + event.grace_s
        self._drain_until_s = until_s if self._drain_until_s is None else min(until_s, self._drain_until_s)
        self.stop_reason = self.stop_reason or event.reason
        for worker in self.fleet:
            self._put_back_waiting(worker)

    def _put_back_waiting(self, worker: Worker) -> None:
        """Take from a worker what it has not begun."""
        working_on = worker.working_on
        for token, grant in worker.leases.items():
            if token != working_on and self._runs.holder(grant.run) == (worker.name, token):
                self._withdraw(grant.run, tell_worker=True)
                self._backlog.put_back(grant.run)

    def decide(self, now_s: float) -> list[ev.Action]:
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
            for worker, sickness in self.fleet.sick(now_s, self.settings, self.workload.timeout_s):
                self._kill(worker, sickness)
        if self._drain_until_s is not None:
            if now_s >= self._drain_until_s:
                for worker in self.fleet:
                    self._kill(worker, Sickness("the grace of the stop has ended", None, False))
        elif not self.paused:
            if self._resize:
                self._resize_fleet()
            self._actions += self._dispatcher.feed(self.settings, now_s, self._deadline_s - now_s)
        actions, self._actions = self._actions, []
        return actions

    def _kill(self, worker: Worker, sickness: Sickness) -> None:
        if not worker.ready and sickness.failure is None and not self.draining:
            self.fleet.note_start_failure(worker, self._now_s)
        reason, record_stack = sickness.reason, sickness.record_stack
        self._actions.append(ev.KillWorker(worker=worker.name, reason=reason, record_stack=record_stack))
        self._remove(worker, sickness.failure)

    def _remove(self, worker: Worker, failure: Failure | None) -> None:
        """Count a worker out and requeue what it held; charge ``failure`` to the run it was working on."""
        self.fleet.remove(worker)
        self._dispatcher.forget_worker(worker)
        self._resize = True
        working_on = worker.working_on
        for token, grant in worker.leases.items():
            if self._runs.holder(grant.run) != (worker.name, token):
                continue
            if token == working_on and failure is not None:
                self._fail(grant, worker.name, failure)
            else:
                self._runs.release(grant.run)

    def _resize_fleet(self) -> None:
        """Start workers where runs wait and room is left; end those in excess or in the way."""
        waiting = self._dispatcher.num_waiting()
        for worker in self.fleet.retire(self.settings, waiting, self._dispatcher.num_due(), self._now_s):
            self._actions.append(ev.StopWorker(worker=worker.name))
            self._remove(worker, None)
        for shape in self.fleet.to_start(self.settings, waiting, self._now_s):
            worker = self.fleet.enlist(shape, self._now_s)
            like = self._dispatcher.first_run(shape)
            self._actions.append(ev.StartWorker(worker=worker.name, shape=shape, runs_like=like))
        self._resize = False

    def _withdraw(self, index: int, *, tell_worker: bool) -> None:
        """Take an open run out of wherever it is; the caller says what becomes of it."""
        holder = self._runs.withdraw(index)
        if holder is not None and tell_worker:
            self._actions.append(ev.CancelAttempts(worker=holder.worker, tokens=(holder.token,)))

    def _settle(self, index: int) -> None:
        self._runs.settle(index)
        self._dispatcher.keep_away(index, None)

    def _fail(self, grant: Grant, worker: str, failure: Failure) -> None:
        index, attempt, token = grant.run, grant.attempt, grant.token
        history = self._runs.charge(index, failure)
        note = ev.NoteFailure(run=index, attempt=attempt, token=token, worker=worker, failure=failure)
        self._actions.append(note)
        group = self.workload.group_of[index]
        if self.groups[group].note_failure(index, history, self.settings):
            name = self.workload.groups[group].affinity
            self._actions.append(ev.Announce(text=held_back(name, self.settings, failure)))
        verdict = retry.decide(self.settings.policy, history)
        if verdict.outcome != "pending":
            self._settle(index)
            self._actions.append(ev.Settle(run=index, outcome=verdict.outcome))
            return
        if verdict.elsewhere and worker in self.fleet.workers:
            self._dispatcher.keep_away(index, self.fleet.workers[worker].host)
        self._backlog.put_back(index, self._now_s + verdict.delay_s if verdict.delay_s else None)
