"""Imaginary workers for tests of the scheduler: they do what a script of numbers says, however unfair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.scheduling.backlog import Group, Workload
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.events import (
    Accept,
    Action,
    Beat,
    CancelAttempts,
    Capacity,
    Dispatch,
    KillWorker,
    Reported,
    Settle,
    Shape,
    StartWorker,
    StopWorker,
    WorkerLost,
    WorkerReady,
)
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.store.outcomes import ERROR, AttemptReport, Failure, Grant


def workload(num_runs: int, num_groups: int = 1, shape: Shape | None = None) -> Workload:
    groups = [Group(shape=shape or Shape(), affinity=f"model-{g}") for g in range(num_groups)]
    return Workload(groups=groups, group_of=[i * num_groups // num_runs for i in range(num_runs)])


def done(grant: Grant, wall_s: float = 1.0, outcome: str = "done") -> AttemptReport:
    return AttemptReport(grant.run, grant.attempt, grant.token, outcome, wall_s, 0.0, "w.jsonl", 0, 1)


def failed(grant: Grant, kind: str = ERROR, fingerprint: str = "f", may_pass: bool = False) -> AttemptReport:
    failure = Failure(kind, fingerprint, "it broke", may_pass=may_pass)
    return AttemptReport(grant.run, grant.attempt, grant.token, "failed", 1.0, 0.0, failure=failure)


@dataclass
class World:
    """A scheduler, the workers it asked for, and a check of every promise it makes."""

    scheduler: Scheduler
    now_s: float = 0.0
    starting: list[str] = field(default_factory=list)
    holding: dict[str, list[Grant]] = field(default_factory=dict)
    gone: dict[str, list[Grant]] = field(default_factory=dict)
    accepted: dict[int, int] = field(default_factory=dict)
    settled: dict[int, str] = field(default_factory=dict)
    granted: dict[int, int] = field(default_factory=dict)
    last_token: int = 0

    def act(self) -> list[Action]:
        """Let the scheduler decide, obey, and check that what it asks for is lawful."""
        actions = self.scheduler.decide(self.now_s)
        for action in actions:
            match action:
                case StartWorker():
                    self.starting.append(action.worker)
                    slots, _ = self.scheduler.fleet.in_use()
                    assert slots <= self.scheduler.fleet.capacity.slots
                case Dispatch():
                    self._dispatch(action)
                case KillWorker() | StopWorker():
                    self._forget(action.worker)
                case CancelAttempts():
                    self._drop(action)
                case Accept():
                    for report in action.reports:
                        assert report.run not in self.accepted, "a second result was accepted"
                        assert report.run not in self.settled, "a settled run was accepted"
                        self.accepted[report.run] = report.token
                case Settle():
                    assert action.run not in self.settled
                    assert action.run not in self.accepted
                    self.settled[action.run] = action.outcome
        return actions

    def _dispatch(self, action: Dispatch) -> None:
        assert action.worker in self.holding, "a batch went to a worker that is not up"
        for grant in action.grants:
            assert grant.token > self.last_token, "a token was used twice"
            self.last_token = grant.token
            assert grant.run not in self.accepted
            assert grant.run not in self.settled
            assert grant.attempt == self.granted.get(grant.run, 0), "attempts are not counted one by one"
            self.granted[grant.run] = grant.attempt + 1
            self.holding[action.worker].append(grant)

    def _forget(self, name: str) -> None:
        if name in self.starting:
            self.starting.remove(name)
        self.gone[name] = self.holding.pop(name, [])

    def _drop(self, action: CancelAttempts) -> None:
        held = self.holding.get(action.worker, [])
        for grant in [g for g in held if g.token in action.tokens]:
            held.remove(grant)
            report = AttemptReport(grant.run, grant.attempt, grant.token, "cancelled", 0.0, 0.0)
            self.tell(Reported(worker=action.worker, reports=(report,)))

    def tell(self, event: object) -> None:
        self.scheduler.tell(event, self.now_s)  # type: ignore[arg-type]

    def up(self, name: str, host: str = "host") -> None:
        self.starting.remove(name)
        self.holding[name] = []
        self.tell(WorkerReady(worker=name, host=host))

    def all_up(self) -> None:
        for name in list(self.starting):
            self.up(name)

    def lose(self, name: str) -> None:
        self._forget(name)
        self.tell(WorkerLost(worker=name, reason="killed by SIGKILL"))

    def beat(self, name: str, progress: int = 0) -> None:
        token = self.holding[name][0].token if self.holding[name] else 0
        self.tell(Beat(worker=name, token=token, progress=progress))

    def finish(self, name: str, report: AttemptReport) -> None:
        self.holding[name] = [g for g in self.holding[name] if g.token != report.token]
        self.tell(Reported(worker=name, reports=(report,)))

    def work_to_the_end(self, report: Callable[[Grant], AttemptReport] = done, step_s: float = 0.5) -> None:
        """Keep every worker up and let it end what it holds, one run a step, as ``report`` says."""
        for _ in range(100_000):
            self.act()
            if self.scheduler.finished:
                return
            self.all_up()
            self.now_s += step_s
            for name, grants in list(self.holding.items()):
                if grants:
                    self.finish(name, report(grants[0]))
                else:
                    self.beat(name)
        raise AssertionError("the scheduler does not come to an end")


def world(num_runs: int = 10, *, slots: int = 2, num_groups: int = 1, **settings: object) -> World:
    scheduler = Scheduler(
        workload(num_runs, num_groups),
        capacity=Capacity(slots=slots),
        settings=SchedulerConfig(**settings),  # type: ignore[arg-type]
    )
    return World(scheduler)
