"""What a trainer is: the contract between the worker that calls it and any code that trains.

A worker process builds one :class:`Trainer` and calls :meth:`Trainer.run` once per attempt, many times in
its life; the trainer may keep models and engines warm between calls. Nothing here imports torch, so that
anyone's own loop can satisfy the protocol. What a run found is a :class:`~trainers.run_result.RunResult`,
plain values that the worker's spool stores as one record.

A whole trainer of one's own, ``forests.py``::

    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    from sweeps.spec import RunSpec
    from trainers.protocol import Cancelled, RunContext, RunResult, WorkerContext


    class Forest:
        def __init__(self, context: WorkerContext) -> None:
            self.data = load_digits(return_X_y=True)  # once a worker; stays warm

        def run(self, spec: RunSpec, context: RunContext) -> RunResult:
            split = train_test_split(*self.data, random_state=spec.seed)
            train, test, train_labels, test_labels = split
            params = spec.trainer.params
            forest = RandomForestClassifier(
                n_estimators=0, warm_start=True, max_depth=params["max_depth"], random_state=spec.seed
            )
            rows = []
            for step in range(1, spec.steps + 1):
                if context.cancelled():
                    raise Cancelled
                forest.set_params(n_estimators=step * params["trees"]).fit(train, train_labels)
                rows.append({"step": step, "accuracy": forest.score(test, test_labels)})
                context.heartbeat(f"{step} of {spec.steps}")
            return RunResult(outcome="done", metrics={"accuracy": rows[-1]["accuracy"]}, steps=rows)

and its sweep, ``forests.yaml``, which ``emsweep launch sweep=forests.yaml --allow-target forests`` runs::

    # @package _global_
    trainer:
      _target_: forests.Forest
      params: {trees: 4, max_depth: 4}
      metrics: {accuracy: {direction: max, unit: share}}
    steps: 3
    sweep:
      about: how deep must the trees be?
      axes: {trainer.params.max_depth: [2, 8], seed: range(3)}

``close()`` is optional (:class:`Closable`), as is sharing work between runs (:class:`GroupTrainer`).
What a trainer raises is a failed attempt. To resume after one, keep training states below
:attr:`RunContext.checkpoint_dir`, which is there when ``resources.save_every_steps`` is set. Tables are about
the metric that is named first. What a metric is, which way is better, in which unit, within which range, is
said below ``trainer.metrics``, outside ``run_id``, or by a literal ``metrics`` of the class
(:mod:`sweeps.spec.metrics`); a metric of which nothing is said is a plain number without a better end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sweeps.spec import RunSpec
from trainers.reporting import GO_ON, Decision, Report, report_nothing
from trainers.returned import result_of
from trainers.run_result import (
    RESULT_VERSION,
    TIMING_SUFFIX,
    Evaluation,
    RolloutText,
    RunResult,
)

__all__ = [
    "RESULT_VERSION",
    "TIMING_SUFFIX",
    "Cancelled",
    "Closable",
    "Decision",
    "Evaluation",
    "GroupTrainer",
    "Outcome",
    "Report",
    "RolloutText",
    "RunContext",
    "RunResult",
    "Trainer",
    "WorkerContext",
    "outcome_of",
    "outcomes_of",
]


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What a worker process is, fixed for its life."""

    rank: int = 0
    """This process's rank in its gang."""
    world_size: int = 1
    """Processes in the gang."""
    rendezvous: str = ""
    """``tcp://host:port`` of rank 0's store; empty in a world of one."""
    scratch_dir: Path | None = None
    """Node-local folder for caches that outlive a run."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What one attempt may use besides its spec."""

    run_id: str = ""
    """The run's id."""
    attempt: int = 0
    """Zero-based number of this try at the run."""
    checkpoint_dir: Path | None = None
    """Folder for the run's weights and training states, or ``None`` when it keeps neither."""
    sweep_dir: Path | None = None
    """The sweep directory, where the worker sees it."""
    heartbeat: Callable[[str], None] = lambda _: None
    """Call with a few words whenever progress was made: silence beyond the watchdog's limit counts as a hang.
    That it is called counts; a worker drops the words.
    """
    cancelled: Callable[[], bool] = lambda: False
    """True once the run should stop early; the trainer then raises :class:`Cancelled`."""
    report: Report = report_nothing
    """Tells what was measured at a step, ``report(3, loss=0.5)``, and hears the newest :class:`Decision`
    known. Rows are kept as they come, also of a run that dies, and shown while it runs; each counts as a
    heartbeat. A step may come in several calls: a later value of the same name replaces the earlier one. They
    are the result's ``steps`` unless it has steps of its own.
    """
    decision: Callable[[], Decision] = lambda: GO_ON
    """The newest decision known, without a report."""


class Cancelled(Exception):
    """Raised by a trainer that stopped because :attr:`RunContext.cancelled` turned true."""


Outcome = RunResult | BaseException
"""How one run of a batch ended: its result, :class:`Cancelled`, or the exception that failed it."""


class Trainer(Protocol):
    """Anything that can turn a spec into a result. Constructed once per worker process.

    This is all that is required. A trainer that keeps things warm is also :class:`Closable`, one that shares
    work between runs also a :class:`GroupTrainer`.
    """

    def __init__(self, context: WorkerContext) -> None: ...

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        """Train and judge one run. In a gang every rank is called; rank 0's result is the one that counts.

        A mapping of metrics or a bare number is a result too; :mod:`trainers.returned` says what is taken
        for one, and anything else is a failed attempt, as is any exception; ``diverged`` is a result. After
        a failure the worker closes the trainer and builds it anew: what it kept warm may be half changed.
        """
        ...


@runtime_checkable
class Closable(Protocol):
    """A trainer with something to free."""

    def close(self) -> None:
        """Free what was kept warm; called once, after a failure or shortly before the process ends."""
        ...


@runtime_checkable
class GroupTrainer(Protocol):
    """A trainer that shares work between the runs of a batch, in addition to running one alone.

    The worker hands such a trainer every batch of two runs or more whole, unless sharing is switched off;
    other trainers get run after run. :mod:`sweeps.sharing.stages` plans what can be shared.
    """

    def run_group(
        self, specs: Sequence[RunSpec], contexts: Sequence[RunContext]
    ) -> Iterator[tuple[int, Outcome]]:
        """Train and judge several runs; ``contexts[i]`` belongs to ``specs[i]``.

        *Order.* One ``(i, outcome)`` per run, in any order, each as soon as it is known: it is stored before
        the next one is asked for, and then survives whatever happens to the rest.

        *Results* are those that :meth:`Trainer.run` gives for the same spec, bit for bit, timings apart,
        whatever else is in the batch: a run is replayed, resumed and retried alone.

        *Failures.* An exception that is yielded fails run ``i`` alone, and the iterator goes on. One that is
        raised ends the batch: the first run in the order of ``specs`` without an outcome is charged with it,
        the others go back to the queue uncharged. To end without an outcome for each run, or to yield one
        twice, counts as raising. After either the worker closes the trainer and builds it anew, once the
        iterator has ended.

        *Cancellation.* ``contexts[i].cancelled()`` may turn true at any time; yield ``(i, Cancelled())`` at
        the next step that is only of called-off runs' interest, and go on with the others. A worker that
        stops drops the iterator, which sees ``GeneratorExit`` at its ``yield``.

        *Reports* go through each run's own context; :func:`emsweep.report` is about no run here.

        *Gangs.* Every rank is called with the same specs in the same order and must take the same steps;
        rank 0's outcomes count. Ranks see a cancellation at different moments, so they agree on it first.
        """
        ...


def outcomes_of(
    trainer: GroupTrainer, specs: Sequence[RunSpec], contexts: Sequence[RunContext]
) -> Iterator[tuple[int, Outcome]]:
    """Call :meth:`GroupTrainer.run_group` and hold it to its contract.

    Raises:
        RuntimeError: for a position that is yielded twice or stands for no run, and for runs left out.
    """
    owed = set(range(len(specs)))
    for position, outcome in trainer.run_group(specs, contexts):
        if position not in owed:
            raise RuntimeError(
                f"run_group yielded position {position!r}; it still owes {sorted(owed)}, each once"
            )
        yield position, outcome_of(outcome)
        owed.remove(position)
    if owed:
        raise RuntimeError(f"run_group ended without an outcome for positions {sorted(owed)}")


def outcome_of(value: Any) -> Outcome:
    """A trainer's value as an outcome: what is no result is the error that fails the run."""
    if isinstance(value, BaseException):
        return value
    try:
        return result_of(value)
    except Exception as error:  # a foreign value may raise anything when it is looked at
        return error
