"""Whole runs of every objective: layouts agree, references are the base model, rollouts are used as told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sweeps.spec import ROLLOUT_OBJECTIVES, RunSpec, SpecError
from tests.trainers.comparing import column, numbers
from tests.trainers.presets import preset_dict
from tests.trainers.worlds import tiny_spec
from trainers.model.prompt_encoding import encode_prompts
from trainers.objectives.advantage import uniform_groups
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext
from trainers.step.experience import TrainContext, gather
from trainers.step.rollout import Rollouts, draw_rollouts, merge
from trainers.step.scoring import log_probs

LOSS_TOLERANCE = 2e-5
"""Across layouts sums are added up in another order; a std in the divisor magnifies that."""

LABELLED = {"prompts": ["47+38="], "answers": ["085"]}


def spec_of(name: str, steps: int = 3, **groups) -> RunSpec:
    objective = preset_dict(name) | {"temperature": 1.0} | groups.pop("objective", {})
    settings = {"example": LABELLED, "eval": {"path": None}, "steps": steps, "objective": objective}
    return tiny_spec(**settings | groups)


@pytest.fixture(scope="module")
def runs(trainer):
    return {name: trainer.run(spec_of(name), RunContext()).to_json() for name in ROLLOUT_OBJECTIVES}


def context_of(trainer: PolicyTrainer, spec: RunSpec) -> TrainContext:
    base = trainer.load_base(spec.model)
    return TrainContext(
        spec=spec,
        base=base,
        prompts=encode_prompts(spec, base),
        engine=trainer.engines.acquire(spec),
        rewards=trainer.rewards,
        references=trainer.references,
        gang=trainer.gang,
    )


@pytest.mark.parametrize("name", ROLLOUT_OBJECTIVES)
def test_micro_batches_and_zero_stages_change_nothing_beyond_rounding(trainer, runs, name):
    layout = {"zero_stage": 2, "micro_batch": 1}
    recorded = trainer.run(spec_of(name, engine=layout), RunContext()).to_json()
    assert recorded["outcome"] == runs[name]["outcome"] == "done"
    for key in ("loss", "reward", "kl_nats", "entropy_nats"):
        assert column(recorded, key) == pytest.approx(column(runs[name], key), abs=LOSS_TOLERANCE)
    assert recorded["rollouts"] == runs[name]["rollouts"]


def test_the_published_update_is_the_same_in_every_layout(trainer, two_ranks):
    """Its micro batches are not those of the engine, nor are its ranks the engine's."""

    def spec(**layout):
        objective = {"compat": "upstream", "compat_world_size": 2, "temperature": 0.5}
        prompts = ["47+38=", "1+2=3;4+5="]
        resources = layout.pop("resources", {})
        return tiny_spec(
            steps=16,
            example={"prompts": prompts},
            objective=objective,
            eval={"path": None},
            engine=layout,
            resources=resources,
        )

    one = trainer.run(spec(), RunContext()).to_json()
    assert len(column(one, "loss")) == 1
    others = [
        trainer.run(spec(micro_batch=3), RunContext()).to_json(),
        trainer.run(spec(zero_stage=2, micro_batch=1), RunContext()).to_json(),
        *two_ranks.run([spec(resources={"world_size": 2}), spec(zero_stage=3, resources={"world_size": 2})]),
    ]
    for other in others:
        assert column(other, "loss") == pytest.approx(column(one, "loss"), rel=8e-3)  # one unit of bfloat16
        assert column(other, "grad_norm") == pytest.approx(column(one, "grad_norm"), rel=2e-2)
        assert column(other, "entropy_nats") == pytest.approx(column(one, "entropy_nats"), abs=LOSS_TOLERANCE)
        assert other["rollouts"] == one["rollouts"]


def test_two_ranks_agree_with_one_on_every_objective(runs, two_ranks):
    sharded = {"rloo": 3, "self_certainty": 3, "rent": 2}
    specs = [
        spec_of(name, resources={"world_size": 2}, engine={"zero_stage": sharded.get(name, 0)})
        for name in ROLLOUT_OBJECTIVES
    ]
    for name, recorded in zip(ROLLOUT_OBJECTIVES, two_ranks.run(specs), strict=True):
        for key in ("loss", "reward", "kl_nats"):
            assert column(recorded, key) == pytest.approx(column(runs[name], key), abs=LOSS_TOLERANCE)
        assert recorded["rollouts"] == runs[name]["rollouts"]


def test_objectives_share_first_rollouts_and_end_as_they_would_alone(trainer, runs):
    specs = [spec_of(name) for name in ROLLOUT_OBJECTIVES]
    together = dict(trainer.run_group(specs, [RunContext()] * len(specs)))
    for k, name in enumerate(ROLLOUT_OBJECTIVES):
        assert numbers(together[k].to_json()) == numbers(runs[name])


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_the_reference_is_the_base_model_and_lending_leaves_the_policy_as_it_was(trainer, zero_stage):
    spec = spec_of("self_certainty", engine={"zero_stage": zero_stage})
    context = context_of(trainer, spec)
    drawn = draw_once(context)
    experience = gather(context, lambda _: drawn)
    [base] = log_probs(context.engine.module, experience.batch, 1.0)
    result = trainer.run(spec, RunContext()).to_json()  # the same engine, three steps on
    tuned = context.engine.full_weights()
    [moved] = log_probs(context.engine.module, experience.batch, 1.0)
    with context.engine.reference_weights():
        [lent] = log_probs(context.engine.module, experience.batch, 1.0)
    assert torch.equal(lent, base)
    assert not torch.equal(moved, base)
    after = context.engine.full_weights()
    assert all(torch.equal(after[name], tuned[name]) for name in tuned)
    assert column(result, "kl_nats")[0] == pytest.approx(0, abs=1e-7)
    assert column(result, "kl_nats")[2] > 1e-6


def draw_once(context: TrainContext, redraw: int = 0) -> Rollouts:
    with torch.no_grad():
        return draw_rollouts(
            context.engine.module,
            context.spec,
            context.base,
            context.prompts,
            step=0,
            gang=context.gang,
            drafts=None,
            redraw=redraw,
        )


def test_a_divergence_in_the_reward_and_one_in_the_loss_measure_the_same(trainer):
    """k1 and k3 estimate one number; over 64 rollouts of few kinds they lie close."""
    recorded = {
        kl: column(trainer.run(spec_of("rloo", objective={"kl": kl}), RunContext()).to_json(), "kl_nats")
        for kl in ("k1", "k3")
    }
    assert recorded["k1"][1] == pytest.approx(recorded["k3"][1], abs=2e-3)


def test_rollouts_are_used_as_often_as_told_and_clipping_then_bites(trainer):
    used = {
        n: trainer.run(
            spec_of("grpo", steps=4, objective={"iterations": n}, optim={"lr": 1e-3}), RunContext()
        ).to_json()
        for n in (1, 2)
    }
    tokens = column(used[2], "completion_tokens")
    assert tokens[0] == tokens[1]
    assert column(used[2], "reward")[:2] == column(used[1], "reward")[:1] * 2
    # On fresh rollouts the loss is the mean advantage, zero; on used ones the ratio has moved off one.
    assert abs(column(used[1], "loss")[1]) < 1e-6 < abs(column(used[2], "loss")[1])


def test_a_fork_between_two_uses_of_the_same_rollouts_changes_no_bit(trainer):
    def forked(steps: int) -> RunSpec:
        return spec_of("grpo", steps=steps, objective={"iterations": 3}, optim={"lr": 1e-3})

    specs = [forked(2), forked(4), dataclasses.replace(forked(4), schedule=LINEAR)]
    together = dict(trainer.run_group(specs, [RunContext()] * 3))
    for k, spec in enumerate(specs):
        assert numbers(together[k].to_json()) == numbers(trainer.run(spec, RunContext()).to_json())


LINEAR = tiny_spec(schedule={"name": "wsd", "decay_fraction": 0.25}).schedule


def test_a_killed_run_resumes_where_rollouts_are_drawn_anew(trainer, tmp_path):
    spec = spec_of(
        "grpo", steps=5, objective={"iterations": 2}, resources={"save_every_steps": 1}, optim={"lr": 1e-3}
    )
    whole = trainer.run(spec, RunContext()).to_json()

    class Killed(Exception):
        pass

    def die(words: str) -> None:
        if words.startswith("step 3"):
            raise Killed

    with pytest.raises(Killed):
        trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=die))
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-2"]
    resumed = trainer.run(spec, RunContext(checkpoint_dir=tmp_path)).to_json()
    assert numbers(resumed) == numbers(whole)


def texts(context: TrainContext, *rows: str) -> Rollouts:
    encode = context.base.tokenizer
    return merge([0] * len(rows), [(*encode(r)["input_ids"], context.base.eos_ids[0]) for r in rows])


RIGHT, WRONG = ";15;085", "?075"


def test_groups_that_tell_nothing_are_drawn_again_and_then_left_out(trainer):
    spec = spec_of("dapo", sampling={"num_rollouts": 6}, objective={"group_size": 2, "max_redraws": 2})
    context = context_of(trainer, spec)
    draws = [
        texts(context, RIGHT, RIGHT, RIGHT, WRONG, WRONG, WRONG),
        texts(context, WRONG, RIGHT, WRONG, WRONG, WRONG, WRONG),
        texts(context, RIGHT, WRONG, RIGHT, RIGHT, RIGHT, RIGHT),
    ]
    asked: list[int] = []

    def draw(redraw: int) -> Rollouts:
        asked.append(redraw)
        return draws[redraw]

    recorded = gather(context, draw)
    assert asked == [0, 1, 2]  # the last group stays uniform
    assert sum(recorded.rollouts.count) == recorded.totals.num_rollouts == 4
    assert recorded.measured["reward"] == 0.0  # two are right, 1, and two wrong, −1
    assert recorded.rows[0].gain_B.sum() == pytest.approx(-recorded.rows[0].cost_B.sum())

    spec = dataclasses.replace(spec, objective=dataclasses.replace(spec.objective, max_redraws=0))
    assert gather(dataclasses.replace(context, spec=spec), draw).totals.num_rollouts == 6


def test_where_every_group_tells_nothing_the_step_has_no_gradient(trainer):
    context = context_of(trainer, spec_of("dapo", sampling={"num_rollouts": 16}))
    recorded = gather(context, lambda _: texts(context, *[RIGHT] * 16))
    assert sum(recorded.rollouts.count) == 16
    assert not recorded.rows[0].gain_B.any()


def test_wrong_answers_of_unequal_length_are_drawn_again_and_no_short_one_is_reinforced(trainer):
    """All are wrong and only the length penalty differs: nothing is to be learned from that group."""
    settings = {"sampling": {"num_rollouts": 4, "max_new_tokens": 10}, "objective": {"group_size": 4}}
    context = context_of(trainer, spec_of("dapo", **settings))
    asked: list[int] = []

    def draw(redraw: int) -> Rollouts:
        asked.append(redraw)
        return texts(context, "?075", "?0755", "?0755555", "?07555555")

    recorded = gather(context, draw)
    assert len(asked) == 1 + context.spec.objective.max_redraws
    assert recorded.measured["reward"] < -1  # the penalty was there
    [rows] = recorded.rows
    assert not rows.gain_B.any()
    assert not rows.cost_B.any()

    # A group told apart keeps its penalty.
    [rows] = gather(context, lambda _: texts(context, RIGHT, "?075", "?0755", "?07555555")).rows
    assert rows.cost_B[3] < rows.cost_B[1] == rows.cost_B[2] < 0


def test_all_rollouts_vote_and_the_first_ones_of_each_prompt_are_trained_on(trainer):
    settings = {"sampling": {"num_rollouts": 6}, "objective": {"group_size": 3, "trained_per_prompt": 3}}
    context = context_of(trainer, spec_of("majority", **settings))
    recorded = gather(context, lambda _: texts(context, RIGHT, WRONG, RIGHT, WRONG, WRONG, WRONG))
    assert recorded.rollouts.count == [2, 1]
    assert recorded.totals.num_rollouts == 3
    assert recorded.measured["reward"] == pytest.approx(
        1 / 3
    )  # WRONG is the majority of six, though not of three
    [rows] = recorded.rows
    assert rows.gain_B.tolist() == pytest.approx([0, 2 / 3 / (3**-0.5 + 1e-4)])


def test_ttrl_votes_with_64_and_trains_on_32(trainer, runs):
    spec = spec_of("majority")
    assert (spec.sampling.num_rollouts, spec.objective.trained_per_prompt) == (64, 32)
    first = [r["count"] for r in runs["majority"]["rollouts"] if r["step"] == 0]
    assert sum(first) == 32


def test_more_trained_rollouts_than_are_drawn_are_refused():
    with pytest.raises(SpecError, match=r"trained_per_prompt=65: only 64 .*sampling.num_rollouts=65"):
        spec_of("majority", objective={"trained_per_prompt": 65})


def test_redraws_are_new_draws_and_the_first_is_what_other_objectives_draw(trainer):
    context = context_of(trainer, spec_of("em"))
    drawn = [draw_once(context, redraw) for redraw in (0, 1)]
    assert drawn[0].distinct != drawn[1].distinct


def test_copies_in_different_groups_earn_what_each_group_gives_them(trainer):
    context = context_of(trainer, spec_of("rgra", sampling={"num_rollouts": 8}, objective={"group_size": 4}))
    rows = [RIGHT, WRONG, WRONG, WRONG, RIGHT, RIGHT, RIGHT, WRONG]
    [recorded] = gather(context, lambda _: texts(context, *rows)).rows
    gains = [0.75 / (0.5 + 1e-4), 3 * 0.25 / (0.5 + 1e-4)]
    assert recorded.gain_B.tolist() == pytest.approx([sum(gains), 0])
    assert recorded.cost_B.tolist() == pytest.approx([0, -sum(gains)])
    assert not uniform_groups(np.array([1.0, 0]), 2).any()
