"""Runs that share work give the bits they would have given alone."""

from __future__ import annotations

import itertools
import random

import pytest

from sweeps.sharing.stages import plan_stages
from sweeps.spec import RunSpec
from tests.trainers.comparing import numbers
from tests.trainers.worlds import tiny_spec
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import Cancelled, RunContext, RunResult


def together(trainer: PolicyTrainer, specs: list[RunSpec]) -> list[dict]:
    outcomes = dict(trainer.run_group(specs, [RunContext() for _ in specs]))
    assert sorted(outcomes) == list(range(len(specs)))
    return [numbers(outcomes[i].to_json()) for i in range(len(specs))]


def alone(trainer: PolicyTrainer, specs: list[RunSpec]) -> list[dict]:
    return [numbers(trainer.run(spec, RunContext()).to_json()) for spec in specs]


def grid(seed: int) -> list[RunSpec]:
    """A random sweep: horizons, forks in the schedule, several rates, objectives and evaluations."""
    rng = random.Random(seed)
    choices = itertools.product(
        rng.sample([1, 2, 3, 5], 2),
        rng.sample([1e-4, 2e-4, 1e-3], 2),
        rng.sample([0.25, 0.5, 1.0], 2),
        rng.sample(["constant", "linear", "cosine"], 2),
        rng.sample([0, 1, 2], 1),
    )
    specs = [
        tiny_spec(
            steps=steps,
            seed=seed,
            optim={"lr": lr},
            objective={"temperature": tau},
            schedule={"name": schedule, "warmup_steps": min(steps - 1, 1)},
            eval={"steps": [0, first, 9], "limit": 12, "logit_stats": rng.random() < 0.3},
        )
        for steps, lr, tau, schedule, first in choices
    ]
    rng.shuffle(specs)
    return specs


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_grids_give_the_same_bits_shared_and_alone(trainer, seed):
    specs = grid(seed)
    assert together(trainer, specs) == alone(trainer, specs)


@pytest.mark.parametrize(
    "engine", [{"zero_stage": 2}, {"zero_stage": 3}, {"zero_stage": 1, "precision": "bf16"}]
)
def test_sharing_is_exact_under_every_engine(trainer, engine):
    specs = [
        tiny_spec(steps=steps, optim={"lr": lr}, engine=engine, eval={"limit": 12})
        for steps in (1, 3, 4)
        for lr in (1e-4, 2e-4)
    ]
    assert together(trainer, specs) == alone(trainer, specs)


def test_runs_that_draw_other_rollouts_by_their_objective_share_none(trainer):
    specs = [
        tiny_spec(steps=2, seed=3, objective={"compat": compat, **published}, eval={"path": None})
        for compat, published in (
            ("exact", {}),
            ("shared_noise", {}),
            ("shared_noise", {"compat_world_size": 2}),
            ("eos_as_padding", {}),
        )
    ]
    assert together(trainer, specs) == alone(trainer, specs)


def test_horizons_of_a_constant_schedule_cost_the_longest_only(trainer):
    specs = [tiny_spec(steps=steps, eval={"path": None}) for steps in range(1, 11)]
    assert sum(root.num_steps for root in plan_stages(specs)) == 10
    taken: list[str] = []
    contexts = [RunContext(heartbeat=taken.append) for _ in specs]
    results = dict(trainer.run_group(specs, contexts))
    assert [results[i].metrics["steps_taken"] for i in range(10)] == list(range(1, 11))
    assert len({beat.split(" of ")[0] for beat in taken}) == 10


def test_a_result_is_given_as_soon_as_its_run_ends(trainer):
    specs = [tiny_spec(steps=steps, eval={"path": None}) for steps in (2, 6)]
    beats: list[str] = []
    outcomes = trainer.run_group(specs, [RunContext(heartbeat=beats.append)] * 2)
    assert next(outcomes)[0] == 0
    assert beats[-1].startswith("step 2")
    assert next(outcomes)[0] == 1


def test_calling_one_run_off_leaves_the_others_untouched(trainer):
    specs = [tiny_spec(steps=steps, optim={"lr": lr}) for steps in (2, 4) for lr in (1e-4, 2e-4)]
    contexts = [RunContext(cancelled=lambda k=k: k == 1) for k in range(4)]
    outcomes = dict(trainer.run_group(specs, contexts))
    assert isinstance(outcomes[1], Cancelled)
    kept = [0, 2, 3]
    for i in kept:
        assert isinstance(outcomes[i], RunResult)
    expected = alone(trainer, [specs[i] for i in kept])
    assert [numbers(outcomes[i].to_json()) for i in kept] == expected


def test_a_diverging_run_takes_only_those_down_that_share_the_step(trainer):
    specs = [tiny_spec(steps=3, optim={"lr": lr}) for lr in (1e30, 2e-4)]
    assert [r["outcome"] for r in together(trainer, specs)] == ["diverged", "done"]
    assert together(trainer, specs) == alone(trainer, specs)
