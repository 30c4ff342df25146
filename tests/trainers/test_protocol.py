"""What the protocol says of a trainer is what it is held to."""

from __future__ import annotations

import pytest

from tests.trainers.worlds import tiny_spec
from trainers.merge.trainer import Merge
from trainers.noop import Noop
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import (
    Cancelled,
    Closable,
    GroupTrainer,
    RunContext,
    RunResult,
    WorkerContext,
    outcomes_of,
)

DONE = RunResult(outcome="done")


class Scripted:
    """Yields what it is told to."""

    def __init__(self, *script):
        self.script = script

    def run_group(self, specs, contexts):
        yield from self.script


def outcomes(*script, num=3):
    return outcomes_of(Scripted(*script), [tiny_spec()] * num, [RunContext()] * num)


def test_shipped_trainers_are_of_the_kinds_that_they_are_used_as():
    assert (
        isinstance(Noop(WorkerContext()), GroupTrainer)
        is isinstance(Noop(WorkerContext()), Closable)
        is False
    )
    assert issubclass(PolicyTrainer, GroupTrainer)
    assert issubclass(PolicyTrainer, Closable)
    assert issubclass(Merge, Closable)
    assert not issubclass(Merge, GroupTrainer)


def test_outcomes_of_a_group_come_in_its_own_order_and_as_soon_as_they_are_there():
    failure = ValueError("alone")
    script = [(2, DONE), (0, failure), (1, Cancelled())]
    given = outcomes(*script)
    assert next(given) == script[0]
    assert list(given) == script[1:]


def test_what_is_no_result_fails_its_run_alone():
    given = dict(outcomes((0, {"score": 0.5}), (1, None), (2, DONE)))
    assert given[0].metrics == {"score": 0.5}
    assert isinstance(given[1], TypeError)
    assert given[2] is DONE


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ([(0, DONE), (0, DONE)], RuntimeError, r"yielded position 0; it still owes \[1, 2\]"),
        ([(3, DONE)], RuntimeError, r"yielded position 3; it still owes \[0, 1, 2\]"),
        ([(0, DONE), (2, DONE)], RuntimeError, r"without an outcome for positions \[1\]"),
    ],
)
def test_a_group_that_breaks_the_contract_is_told_how(script, error, words):
    with pytest.raises(error, match=words):
        list(outcomes(*script))
