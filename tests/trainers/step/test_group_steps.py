"""A rate that is found as a run goes: tried from one state, which comes back, and the same bits always."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from sweeps.manifest.resolve_data import resolve_data
from sweeps.spec import InitSpec, RunSpec
from sweeps.spec.train_groups import CANDIDATES
from tests.trainers.comparing import column, numbers
from tests.trainers.gangs import run_in_fresh_process
from tests.trainers.worlds import tiny_spec
from trainers.protocol import Cancelled, RunContext
from trainers.step import group_steps
from trainers.step.probing import DIVERGED, forecast

EVERY = 80
PROBE = EVERY // CANDIDATES
LOSS_TOLERANCE = 1e-4
"""Across layouts sums are added up in another order, over eighty steps and the probes before them."""


def searching(steps: int = EVERY, **groups) -> RunSpec:
    """Supervised steps on solved sums, two a step, at rates that are found; nothing is judged."""
    resolved, _ = resolve_data(
        {
            "path": "pkg://trainers/tiny/data/addition_solved.jsonl",
            "limit": 200,
            "prompts_per_step": 2,
            "targets": "completions",
        }
    )
    return tiny_spec(
        groups.pop("base", "tiny-64-hasty"),
        example={"prompts": [], "name": ""},
        data=resolved,
        objective={"name": "sft", "entropy_weight": 0.0, "nll_weight": 1.0, **groups.pop("objective", {})},
        optim={"lr": 5e-3, **groups.pop("optim", {})},
        schedule={"name": "autolrs", "probe_every_steps": EVERY, **groups.pop("schedule", {})},
        eval={"path": None, "digest": None} | groups.pop("eval", {}),
        steps=steps,
        **groups,
    )


def drawing(steps: int = EVERY, **groups) -> RunSpec:
    """Entropy minimization of eight rollouts on one problem, at rates that are found."""
    return tiny_spec(
        optim={"lr": 1e-3},
        schedule={"name": "autolrs", "probe_every_steps": EVERY},
        sampling={"num_rollouts": 8},
        eval={"path": None},
        steps=steps,
        **groups,
    )


def at_constant(spec: RunSpec, lr: float, steps: int = EVERY) -> RunSpec:
    return dataclasses.replace(
        spec,
        steps=steps,
        optim=dataclasses.replace(spec.optim, lr=lr),
        schedule=dataclasses.replace(spec.schedule, name="constant", probe_every_steps=100),
    )


def untried(result: dict) -> dict:
    """A result's numbers without the record of what was tried."""
    result = numbers(result)
    steps = [{k: v for k, v in row.items() if not k.startswith("probe_")} for row in result["steps"]]
    return result | {"steps": steps}


@pytest.fixture(scope="module")
def reference(trainer):
    """Two stretches and a rest."""
    return trainer.run(searching(2 * EVERY + 10), RunContext()).to_json()


def test_rates_and_what_was_tried_are_recorded_where_they_begin(reference):
    rates, rows = column(reference, "lr"), reference["steps"]
    assert len(rates) == 2 * EVERY + 10
    assert set(rates[:EVERY]) == {rates[0]}
    assert set(rates[EVERY:]) == {rates[EVERY]}
    with_tries = [row["step"] for row in rows if "probe_lr_1" in row]
    assert with_tries == [1, EVERY + 1]
    for row in (row for row in rows if row["step"] in with_tries):
        tried = {row[f"probe_lr_{n}"]: row[f"probe_forecast_{n}"] for n in range(1, CANDIDATES + 1)}
        assert len(tried) == CANDIDATES
        assert (min(tried), max(tried)) == (pytest.approx(5e-5), 5e-3)
        assert row["lr"] == min(tried, key=tried.__getitem__)


def test_a_rate_was_tried_on_the_batches_that_its_steps_then_saw(reference):
    losses = column(reference, "loss")
    for first in (0, EVERY):
        row = reference["steps"][first]
        found = [n for n in range(1, CANDIDATES + 1) if row[f"probe_lr_{n}"] == row["lr"]]
        assert row[f"probe_forecast_{found[0]}"] == forecast(losses[first : first + PROBE], EVERY)


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"engine": {"zero_stage": 2}},
        {"engine": {"zero_stage": 3}},
        {"engine": {"zero_stage": 1, "precision": "bf16"}},
        {"optim": {"name": "sgd", "momentum": 0.9}},
        {"optim": {"name": "muon"}},
        {"optim": {"half_every_steps": 3}},
        {"model": {"adapter": "lora"}},
    ],
    ids=str,
)
def test_a_run_that_tried_rates_is_the_run_that_knew_the_best_one(trainer, groups):
    """Had the tries left a trace in weights, moments or counters, no bit would agree."""
    spec = searching(**groups)
    found = trainer.run(spec, RunContext()).to_json()
    known = trainer.run(at_constant(spec, column(found, "lr")[0]), RunContext()).to_json()
    assert untried(found) == numbers(known)


@pytest.mark.parametrize(
    "objective", [{}, {"iterations": 3, "name": "grpo", "reward_majority": 1.0, "advantage": "group"}]
)
def test_so_is_one_that_draws_rollouts(trainer, objective):
    spec = drawing(objective={**objective, **({"entropy_weight": 0.0} if objective else {})})
    found = trainer.run(spec, RunContext()).to_json()
    known = trainer.run(at_constant(spec, column(found, "lr")[0]), RunContext()).to_json()
    assert untried(found) == numbers(known)


@pytest.mark.parametrize("engine", [{}, pytest.param({"zero_stage": 3}, marks=pytest.mark.slow)], ids=str)
def test_weights_moments_and_counts_after_the_tries_are_those_before(trainer, monkeypatch, engine):
    states, probed = [], group_steps.probed

    def noted(engine, *args):
        states.append(engine.capture())
        found = probed(engine, *args)
        states.append(engine.capture())
        return found

    monkeypatch.setattr(group_steps, "probed", noted)
    trainer.run(searching(2 * EVERY, engine=engine), RunContext())
    assert len(states) == 4
    assert states[2].moments, "the second time there are moments to come back"
    for before, after in (states[:2], states[2:]):
        assert all(map(torch.equal, before.weights, after.weights))
        for old, new in zip(before.moments, after.moments, strict=True):
            assert all(torch.equal(old[name], new[name]) for name in old)
            assert not any(new[name].any() for name in new.keys() - old.keys())  # as fresh ones are
        assert after.counts == before.counts
    assert not all(map(torch.equal, states[0].weights, states[2].weights))


def test_hot_and_cold_are_the_same_bits(trainer, reference):
    spec = searching(2 * EVERY + 10)
    assert numbers(trainer.run(spec, RunContext()).to_json()) == numbers(reference)
    assert numbers(run_in_fresh_process(spec)) == numbers(reference)


def test_horizons_and_other_schedules_together_are_the_runs_alone(trainer):
    specs = [searching(n) for n in (EVERY, 2 * EVERY, 2 * EVERY - 10)]
    specs += [at_constant(searching(), 5e-3, steps=20), searching(optim={"lr": 1e-3})]
    together = dict(trainer.run_group(specs, [RunContext() for _ in specs]))
    for position, spec in enumerate(specs):
        alone = trainer.run(spec, RunContext()).to_json()
        assert numbers(together[position].to_json()) == numbers(alone), position


@pytest.mark.parametrize("killed_at", [f"step {EVERY + 5} of", f"tries a rate, step {EVERY + 3}"])
def test_a_killed_run_goes_on_at_the_rate_that_it_had_found(trainer, reference, tmp_path, killed_at):
    class Killed(Exception):
        pass

    spec = searching(2 * EVERY + 10, resources={"save_every_steps": 2})

    def killer(words: str) -> None:
        if words.startswith(killed_at):
            raise Killed

    with pytest.raises(Killed):
        trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=killer))
    assert list((Path(tmp_path) / "state").iterdir())
    resumed = trainer.run(spec, RunContext(attempt=1, checkpoint_dir=tmp_path)).to_json()
    assert numbers(resumed) == numbers(reference)


def test_what_is_found_ends_far_below_the_worst_rate_of_the_range(trainer, reference):
    worst = trainer.run(at_constant(searching(), 5e-3, steps=2 * EVERY + 10), RunContext()).to_json()
    found, fixed = (sum(column(result, "loss")[-20:]) / 20 for result in (reference, worst))
    assert found < fixed / 2


def test_rates_at_which_training_diverges_are_passed_over(trainer):
    spec = searching(optim={"lr": 1e30}, schedule={"probe_lowest_ratio": 1e-34})
    result = trainer.run(spec, RunContext()).to_json()
    forecasts = [result["steps"][0][f"probe_forecast_{n}"] for n in range(1, CANDIDATES + 1)]
    assert DIVERGED in forecasts
    assert result["outcome"] == "done"
    assert column(result, "lr")[0] < 1


def test_a_later_run_finds_its_own_rates_and_shares_what_came_before(trainer):
    first = searching()
    second = dataclasses.replace(
        searching(2 * EVERY),
        init=InitSpec(changes={"init": {}, "steps": EVERY}),
    )
    specs = [first, second]
    together = dict(trainer.run_group(specs, [RunContext() for _ in specs]))
    for position, spec in enumerate(specs):
        alone = trainer.run(spec, RunContext()).to_json()
        assert numbers(together[position].to_json()) == numbers(alone)
    assert [row["step"] for row in alone["steps"] if "probe_lr_1" in row] == [1, EVERY + 1]


def test_a_run_called_off_while_it_tries_rates_ends_there(trainer):
    beats: list[str] = []
    context = RunContext(heartbeat=beats.append, cancelled=lambda: len(beats) >= 5)
    with pytest.raises(Cancelled):
        trainer.run(searching(), context)
    assert len(beats) == 5
    assert all(beat.startswith("tries a rate") for beat in beats)


def test_two_ranks_find_the_rates_of_one(trainer, two_ranks):
    spec = searching(engine={"zero_stage": 1})
    one = trainer.run(spec, RunContext()).to_json()
    [two] = two_ranks.run(
        [dataclasses.replace(spec, resources=dataclasses.replace(spec.resources, world_size=2))]
    )
    assert column(two, "lr") == column(one, "lr")
    assert column(two, "loss") == pytest.approx(column(one, "loss"), abs=LOSS_TOLERANCE)


def test_tried_rates_cost_what_plan_counts(trainer, monkeypatch):
    taken, gathered = [], group_steps.GroupSteps._gathered

    def noted(self, stage, step, *args):
        taken.append(step)
        return gathered(self, stage, step, *args)

    monkeypatch.setattr(group_steps.GroupSteps, "_gathered", noted)
    spec = searching(2 * EVERY + 10)
    trainer.run(spec, RunContext())
    assert len(taken) == spec.num_updates - 2 * CANDIDATES  # the first batch of each try is that of the step
