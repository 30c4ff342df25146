"""Training on given completions: the same numbers whatever the layout, company or interruptions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sweeps.manifest.resolve_data import resolve_data
from sweeps.sharing.row_schedule import RowSchedule
from sweeps.spec import RunSpec
from tests.trainers.comparing import column, numbers
from tests.trainers.gangs import run_in_fresh_process
from tests.trainers.presets import preset_dict
from tests.trainers.worlds import tiny_spec
from trainers.model.base_model import load_base, load_weights
from trainers.model.target_encoding import encode_given
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext
from trainers.step.experience import TrainContext, gather
from trainers.step.given import reference_log_probs, sequence_log_probs
from trainers.step.prompts import Prompts
from trainers.tiny.world import Problem, solve_carefully

LOSS_TOLERANCE = 2e-6
"""Across layouts sums are added up in another order."""

MIXED = {"entropy_weight": 0.1}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    """Ten solved problems, of unequal lengths."""
    path = tmp_path_factory.mktemp("given") / "solved.jsonl"
    problems = [Problem(a=7 * n % 100, b=13 * n % 100) for n in range(10)]
    solved = [(p.prompt, solve_carefully(p) if n % 3 else p.answer) for n, p in enumerate(problems)]
    rows = [{"prompt": prompt, "completion": text, "hard": n} for n, (prompt, text) in enumerate(solved)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def given_spec(file: str, steps: int = 4, name: str = "sft", **groups) -> RunSpec:
    objective = preset_dict(name) | groups.pop("objective", {})
    data = {"path": file, "prompts_per_step": 4, "targets": "completions", **groups.pop("data", {})}
    return tiny_spec(
        **{
            "example": {"prompts": [], "name": ""},
            "data": resolve_data(data)[0],
            "objective": objective,
            "sampling": {"num_rollouts": 8},
            "eval": {"limit": 12, "steps": [0]},
            "steps": steps,
        }
        | groups
    )


def run(trainer: PolicyTrainer, spec: RunSpec, **context) -> dict:
    return trainer.run(spec, RunContext(**context)).to_json()


def test_each_step_lowers_the_mean_over_the_tokens_of_its_rows(trainer, file):
    spec = given_spec(file, steps=1)
    recorded = run(trainer, spec)
    base, model = load_base(spec.model), load_weights(spec.model, precision="fp32", attention="sdpa")
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    terms = []
    for number in RowSchedule(spec.data, spec.seed).batch(0):
        prompt, completion = (base.tokenizer.encode(rows[number][k]) for k in ("prompt", "completion"))
        ids = [*prompt, *completion, base.tokenizer.eos_token_id]
        log_p = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
        terms += [-log_p[t - 1, ids[t]].item() for t in range(len(prompt), len(ids))]
    assert column(recorded, "loss") == pytest.approx([sum(terms) / len(terms)], abs=1e-6)
    assert column(recorded, "target_tokens") == [len(terms)]
    assert column(recorded, "nll_nats") == pytest.approx(column(recorded, "loss"), abs=1e-7)
    assert not recorded["rollouts"]


def require_the_same_steps(results: list[dict], reference: dict) -> None:
    for result in results:
        for key in ("loss", "nll_nats", "entropy_nats"):
            assert column(result, key) == pytest.approx(column(reference, key), abs=LOSS_TOLERANCE)
        assert column(result, "grad_norm") == pytest.approx(column(reference, "grad_norm"), rel=1e-4)
        assert column(result, "target_tokens") == column(reference, "target_tokens")
        assert result["rollouts"] == reference["rollouts"]


def layouts(file: str, objective: dict, layout: dict, *stages: int, **groups) -> list[RunSpec]:
    """Two steps of one objective, sharded by each of some ZeRO stages."""
    engines = [{"engine": {"zero_stage": stage, **layout}} for stage in stages]
    return [
        given_spec(file, 2, name=objective["name"], objective=objective, **engine, **groups)
        for engine in engines
    ]


OBJECTIVES = {"sft": {"name": "sft"}, "mixed": {"name": "sft", **MIXED}}
"""Losses of pairs and labels are those of ``test_preferences.py``."""


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.slow
def test_micro_batches_and_ranks_change_no_step(trainer, two_ranks, file, name):
    [reference] = [run(trainer, spec) for spec in layouts(file, OBJECTIVES[name], {}, 0)]
    small = [run(trainer, spec) for spec in layouts(file, OBJECTIVES[name], {"micro_batch": 3}, 0)]
    ranks = layouts(file, OBJECTIVES[name], {"micro_batch": 1}, 0, 2, resources={"world_size": 2})
    require_the_same_steps([*small, *two_ranks.run(ranks)], reference)


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_zero_stage_changes_a_step(trainer, two_ranks, file, name):
    [reference] = [run(trainer, spec) for spec in layouts(file, OBJECTIVES[name], {}, 0)]
    alone = [run(trainer, spec) for spec in layouts(file, OBJECTIVES[name], {"micro_batch": 1}, 1, 2, 3)]
    ranks = layouts(file, OBJECTIVES[name], {}, 1, 3, resources={"world_size": 2})
    require_the_same_steps([*alone, *two_ranks.run(ranks)], reference)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [{}, MIXED], ids=["alone", "mixed"])
def test_cold_and_warm_are_the_same_bits(trainer, file, objective):
    spec = given_spec(file, objective=objective)
    assert numbers(run_in_fresh_process(spec)) == numbers(run(trainer, spec))


@pytest.mark.parametrize("objective", [{}, MIXED], ids=["alone", "mixed"])
def test_a_run_killed_within_an_epoch_is_resumed_to_the_same_bits(trainer, file, tmp_path, objective):
    saved = {"objective": objective, "resources": {"save_every_steps": 1}}
    whole = run(trainer, given_spec(file, **saved))

    class Killed(Exception):
        pass

    def die(message: str) -> None:
        if message.startswith("step 2 "):
            raise Killed

    with pytest.raises(Killed):
        run(trainer, given_spec(file, **saved), checkpoint_dir=tmp_path, heartbeat=die)
    assert numbers(run(trainer, given_spec(file, **saved), checkpoint_dir=tmp_path)) == numbers(whole)


def test_runs_share_steps_until_what_they_train_on_differs_and_end_as_alone(trainer, file):
    easy = {"order": "easy_to_hard", "difficulty_field": "hard"}
    specs = [
        given_spec(file, steps=2),
        given_spec(file, steps=4),
        given_spec(file, data=easy),
        given_spec(file, objective={"label_smoothing": 0.1}),
        given_spec(file, objective=MIXED),
        given_spec(file, objective=MIXED, steps=2),
        given_spec(file, objective=MIXED, data=easy),
    ]
    together = dict(trainer.run_group(specs, [RunContext() for _ in specs]))
    for position, spec in enumerate(specs):
        assert numbers(together[position].to_json()) == numbers(run(trainer, spec))


def test_the_same_prompts_with_other_completions_share_no_step(trainer, file, tmp_path):
    """Also where rollouts are drawn, whose prompts are the same text."""
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({**row, "completion": "?000"}) + "\n" for row in rows))
    objective = {"objective": MIXED, "data": {"order": "file"}}
    specs = [given_spec(path, steps=2, **objective) for path in (file, str(other))]

    together = dict(trainer.run_group(specs, [RunContext()] * 2))
    results = [together[k].to_json() for k in (0, 1)]
    assert column(results[0], "loss") != column(results[1], "loss")
    for spec, result in zip(specs, results, strict=True):
        assert numbers(result) == numbers(run(trainer, spec))


def test_a_mixture_is_the_weighted_sum_of_its_parts(trainer, file):
    def first_loss(**objective) -> float:
        return column(run(trainer, given_spec(file, steps=1, objective=objective)), "loss")[0]

    nll = first_loss()
    mixed = run(trainer, given_spec(file, steps=1, objective={"nll_weight": 0.5, "entropy_weight": 2.0}))
    entropy = column(mixed, "entropy_nats")[0]  # of the rollouts, at the loss's temperature of 1
    assert column(mixed, "loss")[0] == pytest.approx(0.5 * nll + 2.0 * entropy, abs=1e-6)
    assert column(mixed, "nll_nats")[0] == pytest.approx(nll, abs=1e-6)
    assert mixed["rollouts"]


def context_of(trainer: PolicyTrainer, spec: RunSpec) -> TrainContext:
    base = trainer.load_base(spec.model)
    prompts = Prompts(spec, base).at(1)
    return TrainContext(
        spec=prompts.of_step(spec),
        base=base,
        prompts=prompts.ids,
        engine=trainer.engines.acquire(spec),
        rewards=trainer.rewards,
        references=trainer.references,
        gang=trainer.gang,
        given=prompts.given,
    )


@pytest.mark.parametrize("micro_batch", [0, 1])
def test_sequences_are_as_likely_as_their_tokens_to_the_policy_and_to_the_reference(
    trainer, file, micro_batch
):
    spec = given_spec(file, engine={"micro_batch": micro_batch})
    run(trainer, spec)  # the engine stands four steps on
    context = context_of(trainer, spec)

    def no_rollouts(redraw: int):
        raise AssertionError("drawn")

    given = gather(context, no_rollouts).given
    own = (context.engine.module, given.batch, 4, context.gang)
    policy = sequence_log_probs(*own)
    reference = reference_log_probs(context.references, context.engine, *own[1:])
    model = load_weights(spec.model, precision="fp32", attention="sdpa")
    expected = []
    for sequence in context.given:
        log_p = torch.log_softmax(model(torch.tensor([sequence.ids])).logits[0].double(), -1)
        expected.append(sum(log_p[t - 1, sequence.ids[t]].item() for t in sequence.counted))
    assert reference.tolist() == pytest.approx(expected, abs=1e-4)
    assert policy.tolist() == pytest.approx(expected, abs=1e-4)  # acquired afresh: the base model


def test_targets_are_those_of_the_rows(file):
    spec = given_spec(file, data={"order": "file"})
    base = load_base(spec.model)
    step = Prompts(spec, base).at(1)
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()][:4]
    texts = [base.tokenizer.decode([s.ids[k] for k in s.counted]) for s in step.given]
    assert texts == [row["completion"] + "<end>" for row in rows]
    assert encode_given([], spec.data, base) == []
