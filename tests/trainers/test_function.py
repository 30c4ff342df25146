"""A function as a trainer: which arguments it gets, and what it may not ask for."""

from __future__ import annotations

import functools
import time

import pytest

from sweeps.spec import RunSpec, SpecError, TrainerSpec
from trainers.function import ARGUMENTS, FunctionTrainer
from trainers.protocol import RunContext

SPEC = RunSpec(seed=7, trainer=TrainerSpec(target="train:train", params={"a": {"b": 1}}))


def called(function, spec=SPEC):
    return FunctionTrainer(function, "train:train").run(spec, RunContext(attempt=2))


def test_a_function_gets_what_it_asks_for_by_name_and_nothing_else():
    assert called(lambda: 3) == 3
    assert called(lambda seed: seed) == 7
    assert called(lambda *, seed, params: (seed, params["a"]["b"])) == (7, 1)
    assert called(lambda context, spec, report: (context.attempt, spec.seed, callable(report))) == (
        2,
        7,
        True,
    )
    assert called(lambda seed, unknown=5, *rest, **more: (seed, unknown, rest, more)) == (7, 5, (), {})


def test_arguments_are_read_through_decorators_and_partials():
    def train(params, seed):
        return params["a"]["b"] + seed

    @functools.wraps(train)
    def wrapped(*args, **kwargs):
        return train(*args, **kwargs)

    assert called(wrapped) == 8
    assert called(functools.partial(train, params={"a": {"b": 100}})) in (8, 107)


def test_what_a_function_changes_in_its_params_does_not_reach_the_next_run():
    def train(params):
        params["a"]["b"] += 1
        return params["a"]["b"]

    trainer = FunctionTrainer(train, "train:train")
    assert [trainer.run(SPEC, RunContext()) for _ in range(2)] == [2, 2]


def test_an_unknown_required_argument_is_refused_with_the_nearest_and_the_list():
    with pytest.raises(SpecError, match="takes 'sed' \\(did you mean \"seed\"") as refused:
        FunctionTrainer(lambda sed: sed, "train:train")
    assert all(name in str(refused.value) for name in ARGUMENTS)


class Trainer:
    pass


async def coroutine(seed):
    return seed


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (Trainer, "is a class; name it with a dot"),
        (coroutine, "is a coroutine"),
        (5, "is a int, no function"),
    ],
)
def test_what_is_no_plain_function_is_refused_with_the_fix(thing, message):
    with pytest.raises(SpecError, match=message):
        FunctionTrainer(thing, "train:train")


def test_a_function_that_computes_without_a_word_beats_and_one_that_sleeps_does_not(monkeypatch):
    monkeypatch.setattr("trainers.busy.LOOK_S", 0.5)
    monkeypatch.setattr("trainers.busy.BUSY_SHARE", 0.2)  # other tests' threads may still end meanwhile
    beats: list[str] = []

    def compute(params):
        until = time.monotonic() + 30
        while params["busy"] and len(beats) < 2 and time.monotonic() < until:
            pass
        if not params["busy"]:
            time.sleep(2.5)

    for busy in (True, False):
        beats.clear()
        spec = RunSpec(trainer=TrainerSpec(target="train:train", params={"busy": busy}))
        trainer = FunctionTrainer(compute, "train:train")
        trainer.run(spec, RunContext(heartbeat=beats.append))
        trainer.close()
        assert (len(beats) >= 2) is busy
