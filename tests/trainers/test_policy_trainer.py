"""The run as a whole: its numbers do not depend on how or where they were computed."""

from __future__ import annotations

import itertools
import math

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sweeps.spec import SpecError
from tests.trainers.comparing import column, numbers
from tests.trainers.gangs import run_in_fresh_process
from tests.trainers.worlds import package_file, tiny_spec
from trainers.model.base_model import load_base
from trainers.model.prompt_encoding import encode_prompts
from trainers.noise import Stream, uniforms
from trainers.protocol import Cancelled, RunContext
from trainers.step.update import update_due

LOSS_TOLERANCE = 2e-6
"""Across layouts sums are added up in another order: 1.2e-7 was measured over ten steps."""


@pytest.fixture(scope="module")
def reference(trainer):
    return trainer.run(tiny_spec(), RunContext()).to_json()


def plain_loop(lr: float, tau: float, steps: int) -> list[float]:
    """The method written down once more, plainly: 64 rows, no merging, autograd entropy, torch's AdamW."""
    folder = package_file("trainers/tiny/models/tiny-64")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = AutoTokenizer.from_pretrained(folder)("47+38=")["input_ids"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    losses = []
    for step in range(steps):
        rows = []
        for row in range(64):
            ids = list(prompt)
            while len(ids) < len(prompt) + 16 and (len(ids) == len(prompt) or ids[-1] != 2):
                with torch.no_grad():
                    p = torch.softmax(model(input_ids=torch.tensor([ids])).logits[0, -1], -1).double()
                u = uniforms(0, Stream.ROLLOUT, step, len(ids) - len(prompt), 64)[row]
                ids.append(int((p.cumsum(0) <= u * p.sum()).sum()))
            rows.append(ids)
        total = torch.zeros(())
        tokens = 0
        for ids in rows:
            logits = model(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 : -1] / tau
            p = torch.softmax(logits, -1)
            total = total - (p * torch.log(p)).sum()
            tokens += len(ids) - len(prompt)
        loss = total / tokens
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_loss_trajectory_equals_that_of_a_plain_torch_loop(trainer):
    result = trainer.run(tiny_spec(steps=3, eval={"path": None}), RunContext()).to_json()
    assert column(result, "loss") == pytest.approx(plain_loop(2e-4, 0.5, 3), abs=LOSS_TOLERANCE)


def test_ten_steps_are_ten_updates_recorded_row_by_row(reference):
    assert [row["step"] for row in reference["steps"]] == list(range(11))
    assert len(column(reference, "loss")) == 10
    assert column(reference, "lr") == [2e-4] * 10
    assert all(1 <= n <= 64 for n in column(reference, "num_distinct"))
    assert sum(r["count"] for r in reference["rollouts"] if r["step"] == 0) == 64
    assert {r["step"] for r in reference["rollouts"]} == {0, 9}


def test_entropy_falls_and_the_reported_gain_is_final_minus_base(reference):
    metrics = reference["metrics"]
    assert metrics["last_entropy_nats"] < metrics["first_entropy_nats"]
    assert metrics["gain_sampled"] == metrics["accuracy_sampled"] - metrics["base_accuracy_sampled"]
    assert metrics["gain_greedy"] == metrics["accuracy_greedy"] - metrics["base_accuracy_greedy"]


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("micro_batch", [0, 1, 3])
def test_hot_equals_cold_bit_for_bit_and_layouts_agree_within_tolerance(
    trainer, reference, zero_stage, micro_batch
):
    spec = tiny_spec(engine={"zero_stage": zero_stage, "micro_batch": micro_batch})
    trainer.engines.discard(spec)
    cold = trainer.run(spec, RunContext()).to_json()
    other = tiny_spec(seed=9, steps=3, optim={"lr": 5e-3}, engine={"zero_stage": zero_stage})
    trainer.run(other, RunContext())
    hot = trainer.run(spec, RunContext()).to_json()
    assert numbers(hot) == numbers(cold)
    assert column(cold, "loss") == pytest.approx(column(reference, "loss"), abs=LOSS_TOLERANCE)
    assert cold["rollouts"] == reference["rollouts"]


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_two_ranks_agree_with_one(reference, two_ranks, zero_stage):
    spec = tiny_spec(engine={"zero_stage": zero_stage}, resources={"world_size": 2})
    first, again = two_ranks.run([spec, spec])
    assert numbers(first) == numbers(again)
    assert column(first, "loss") == pytest.approx(column(reference, "loss"), abs=LOSS_TOLERANCE)
    assert first["rollouts"] == reference["rollouts"]
    assert first["metrics"]["accuracy_sampled"] == reference["metrics"]["accuracy_sampled"]


def test_a_run_that_one_rank_alone_hears_is_called_off_ends_on_both(two_ranks):
    spec = tiny_spec(resources={"world_size": 2})
    assert two_ranks.run([spec], called_off_on=1) == [{"outcome": "cancelled"}]
    [after] = two_ranks.run([tiny_spec(steps=1, eval={"path": None}, resources={"world_size": 2})])
    assert after["outcome"] == "done"


def test_a_fresh_process_gives_the_same_bits(reference):
    assert numbers(run_in_fresh_process(tiny_spec())) == numbers(reference)


def test_both_decoders_give_the_same_run(trainer, reference):
    cached = trainer.run(tiny_spec(engine={"decoder": "cached"}), RunContext()).to_json()
    assert numbers(cached) == numbers(reference)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_half_precision_trains_and_resets(trainer, precision, zero_stage):
    from deepspeed.accelerator import get_accelerator

    if precision == "fp16" and not get_accelerator().is_fp16_supported():
        pytest.skip("DeepSpeed finds no fp16 arithmetic on this processor")
    spec = tiny_spec(engine={"precision": precision, "zero_stage": zero_stage})
    first, second = (trainer.run(spec, RunContext()).to_json() for _ in range(2))
    assert numbers(first) == numbers(second)
    assert first["outcome"] == "done"
    assert column(first, "loss")[-1] < column(first, "loss")[0]


def test_gradient_checkpointing_changes_nothing_beyond_rounding(trainer, reference):
    spec = tiny_spec(engine={"gradient_checkpointing": True})
    result = trainer.run(spec, RunContext()).to_json()
    assert column(result, "loss") == pytest.approx(column(reference, "loss"), abs=LOSS_TOLERANCE)


@pytest.mark.parametrize("family", ["llama", "gpt-neox", "gemma"])
def test_every_family_of_models_is_reset_decoded_and_sharded_alike(trainer, family):
    first, hot, cached, sharded = (
        trainer.run(tiny_spec(f"tiny-64-{family}", engine=engine), RunContext()).to_json()
        for engine in ({}, {}, {"decoder": "cached"}, {"zero_stage": 3})
    )
    assert numbers(hot) == numbers(first)
    assert cached["rollouts"] == sharded["rollouts"] == first["rollouts"]
    assert column(cached, "loss") == pytest.approx(column(first, "loss"), abs=LOSS_TOLERANCE)
    assert column(sharded, "loss") == pytest.approx(column(first, "loss"), abs=LOSS_TOLERANCE)


def test_prompts_of_unequal_length_share_the_rollouts(trainer):
    spec = tiny_spec(example={"prompts": ["47+38=", "47+38=;15;085 11+22="]}, steps=2, eval={"path": None})
    result = trainer.run(spec, RunContext()).to_json()
    for prompt in (0, 1):
        shown = [r for r in result["rollouts"] if r["prompt"] == prompt and r["step"] == 0]
        assert sum(r["count"] for r in shown) == 32
    with pytest.raises(SpecError, match="multiple of the 2 prompts"):
        trainer.run(tiny_spec(example={"prompts": ["1", "2"]}, sampling={"num_rollouts": 63}), RunContext())


@pytest.mark.slow
def test_two_hundred_runs_on_one_worker_end_as_they_began_and_memory_does_not_grow(trainer):
    spec = tiny_spec(steps=2, eval={"steps": [2], "limit": 8})
    first = numbers(trainer.run(spec, RunContext()).to_json())
    process, resident = psutil.Process(), []
    others = (tiny_spec(steps=2, seed=k, eval={"steps": [2], "limit": 8}) for k in range(198))
    for each in (*others, spec):
        result = trainer.run(each, RunContext())
        resident.append(process.memory_info().rss / 2**20)
    assert numbers(result.to_json()) == first
    half = resident[100:]
    slope = (sum(half[-20:]) - sum(half[:20])) / 20 / (len(half) - 20)
    assert slope < 0.05, f"resident memory grows by {slope:.3f} MiB a run"


def test_a_run_whose_loss_is_not_finite_ends_as_diverged(trainer):
    result = trainer.run(tiny_spec(optim={"lr": 1e30}), RunContext()).to_json()
    assert result["outcome"] == "diverged"
    assert result["metrics"]["accuracy_sampled"] is None
    assert not math.isfinite(float(result["steps"][-1]["loss"]))
    assert numbers(trainer.run(tiny_spec(), RunContext()).to_json())["outcome"] == "done"


def test_the_published_step_count_makes_two_updates_of_ten_steps(trainer):
    spec = tiny_spec(objective={"compat": "upstream"})
    assert [s for s in range(1, 11) if update_due(spec, s)] == [4, 8]
    result = trainer.run(spec, RunContext()).to_json()
    assert [row["step"] for row in result["steps"] if "loss" in row] == [4, 8]
    assert result["metrics"]["steps_taken"] == 2
    assert result["steps"][-1]["step"] == 10


def test_where_the_published_step_count_makes_no_update_the_run_is_its_base_model(trainer):
    objective = {"compat": "upstream", "compat_world_size": 1}
    spec = tiny_spec(objective=objective, eval={"logit_stats": True, "limit": 12})
    result = trainer.run(spec, RunContext()).to_json()
    assert result["outcome"] == "done"
    assert "steps_taken" not in result["metrics"]
    assert result["metrics"]["gain_greedy"] == 0
    assert result["logit_stats"] == []


def test_a_cancelled_run_stops_between_steps(trainer):
    seen = itertools.count()
    context = RunContext(cancelled=lambda: next(seen) >= 3)
    beats: list[str] = []
    with pytest.raises(Cancelled):
        trainer.run(tiny_spec(), RunContext(cancelled=context.cancelled, heartbeat=beats.append))
    assert len(beats) == 3


def test_an_engine_past_the_limit_makes_room_by_dropping_the_least_recently_used(trainer):
    keys = []
    for stage in (0, 1, 2):
        trainer.run(
            tiny_spec(steps=1, eval={"path": None}, engine={"zero_stage": stage, "max_hot_engines": 2}),
            RunContext(),
        )
        keys.append(len(trainer.engines._engines))
    assert keys[-1] == 2


def test_an_overlong_prompt_is_refused_with_its_length():
    spec = tiny_spec(sampling={"max_prompt_tokens": 4})
    with pytest.raises(SpecError, match="the prompt has 6 tokens"):
        encode_prompts(spec, load_base(spec.model))
