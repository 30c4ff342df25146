"""Training in rounds on the model's own completions: what is trained on, and the same bits always."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sweeps.manifest.resolve_data import resolve_data
from sweeps.manifest.training_set import training_set
from sweeps.sharing.stages import start_key
from sweeps.spec import RunSpec, phases_of
from tests.trainers.comparing import numbers
from tests.trainers.gangs import run_in_fresh_process
from tests.trainers.worlds import package_file, tiny_spec
from trainers.evaluation.grading import Grader
from trainers.model.base_model import load_base
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext
from trainers.step import curation, step0_cache
from trainers.step.curation import Mixture, mixture_from_json

PATTERN = r"[;?](\d+)$"
LOSS_TOLERANCE = 2e-6
"""Across layouts sums are added up in another order."""

ROWS = [
    json.loads(line)
    for line in package_file("trainers/tiny/data/addition_solved.jsonl").read_text().splitlines()
]


def rounds(num: int = 3, each: int = 2, **groups) -> RunSpec:
    """Rounds of some steps of four completions each, on eight prompts of twenty, judged on few items."""
    data = {"limit": 20, "prompts_per_step": 4, "targets": "completions", **groups.pop("data", {})}
    resolved, _ = resolve_data({"path": "pkg://trainers/tiny/data/addition_solved.jsonl", **data})
    rules = {"name": "escaping_collapse", "rounds": num, "prompts": 8, "beta": 0.5, "answer_pattern": PATTERN}
    return tiny_spec(
        groups.pop("base", "tiny-64-hasty"),
        example={"prompts": [], "name": ""},
        data=resolved,
        objective={"name": "sft", "temperature": 1.0, "entropy_weight": 0.0, "nll_weight": 1.0},
        curate={**rules, **groups.pop("curate", {})},
        eval={"limit": 12, "steps": [0, 2, 3], **groups.pop("eval", {})},
        steps=num * each,
        **groups,
    )


@pytest.fixture
def mixtures(monkeypatch) -> list[Mixture]:
    """Every round that is drawn, in order."""
    found: list[Mixture] = []
    drawn = curation.curated

    def noted(context):
        found.append(drawn(context))
        return found[-1]

    monkeypatch.setattr(step0_cache, "curated", noted)
    return found


def texts_of(mixture: Mixture, spec: RunSpec) -> list[tuple[int, str]]:
    """Row of the training set and completion of each sequence."""
    tokenizer = load_base(spec.model).tokenizer
    return [
        (row, tokenizer.decode([s.ids[k] for k in s.counted], skip_special_tokens=True))
        for row, s in zip(mixture.numbers, mixture.sequences, strict=True)
    ]


def judged(row: int, text: str) -> bool:
    return Grader(pattern=PATTERN, timeout_s=5.0).judge(ROWS[row]["answer"], text).correct


def test_a_round_trains_on_right_completions_and_on_those_of_the_labeler(trainer, mixtures):
    spec = rounds(curate={"beta": 1.0})
    result = trainer.run(spec, RunContext())
    assert len(mixtures) == 3
    for mixture in mixtures:
        texts = texts_of(mixture, spec)
        assert len(texts) == 8  # beta = 1 mends every failure
        assert all(judged(row, text) for row, text in texts)
        labelled = [text for row, text in texts if text == ROWS[row]["completion"]]
        assert len(labelled) >= mixture.counts["round_labelled"] > 0
    assert [row["round"] for row in result.steps if "round" in row] == [1, 1, 2, 2, 3, 3]


def test_the_counts_of_a_round_are_those_of_its_sequences(trainer, mixtures):
    spec = rounds(curate={"gamma": 0.4, "otherwise": "wrong", "completions": 2})
    result = trainer.run(spec, RunContext())
    recorded = [row for row in result.steps if "round_drawn" in row]
    assert [row["step"] for row in recorded] == [1, 3, 5]
    for mixture, row in zip(mixtures, recorded, strict=True):
        wrong = sum(not judged(number, text) for number, text in texts_of(mixture, spec))
        assert wrong == row["round_kept_wrong"] + row["round_labelled_wrong"]
        assert row["round_drawn"] == 16
        assert row["round_labelled"] == row["round_failed"]
        assert row["round_trained"] == row["round_kept"] + row["round_labelled"] == len(mixture.sequences)
        flipped = row["round_right"] - (row["round_kept"] - row["round_kept_wrong"])
        assert 0 <= flipped <= row["round_right"]


def test_without_curation_all_that_is_drawn_is_trained_on(trainer, mixtures):
    uncurated = {"name": "uncurated", "beta": 0.0}
    trainer.run(rounds(curate=uncurated), RunContext())
    assert [len(m.sequences) for m in mixtures] == [8, 8, 8]
    assert all(m.counts["round_kept_wrong"] == 8 - m.counts["round_right"] for m in mixtures)


def test_each_prompt_of_the_set_comes_once_before_any_comes_again(trainer, mixtures):
    trainer.run(rounds(num=5, each=1, curate={"name": "uncurated", "beta": 0.0}), RunContext())
    rows = [row for mixture in mixtures for row in mixture.numbers]
    assert sorted(rows[:20]) == sorted(rows[20:]) == list(range(20))


def test_a_round_that_keeps_nothing_leaves_the_weights_as_they_are(trainer):
    nothing = {"beta": 0.0}
    spec = rounds(num=2, curate=nothing, sampling={"max_new_tokens": 1}, eval={"steps": [0, 2]})
    result = trainer.run(spec, RunContext())
    assert len({row["accuracy_sampled"] for row in result.steps if "accuracy_sampled" in row}) == 1
    assert [row.get("loss") for row in result.steps] == [None] * 5
    assert [row["round_trained"] for row in result.steps if "round_trained" in row] == [0, 0]
    assert result.outcome == "done"


@pytest.mark.parametrize("start", ["previous", "base"])
def test_a_round_compares_with_the_weights_that_its_training_starts_from(trainer, start):
    kl = {"kl": "js", "kl_coef": 0.1, "kl_on": "completions", "reference": "start"}
    spec = rounds(num=2, curate={"from": start}, optim={"lr": 1e-3})
    spec = dataclasses.replace(spec, objective=dataclasses.replace(spec.objective, **kl))
    apart = [row["kl_nats"] for row in trainer.run(spec, RunContext()).steps if "kl_nats" in row]
    assert apart[0] == apart[2] == 0
    assert min(apart[1], apart[3]) > 1e-4
    base = dataclasses.replace(spec, objective=dataclasses.replace(spec.objective, reference="base"))
    held = [row["kl_nats"] for row in trainer.run(base, RunContext()).steps if "kl_nats" in row]
    assert held[:2] == apart[:2]
    assert (held[2] == 0) == (start == "base") == (start_key(spec) == "")


@pytest.mark.parametrize("start", ["previous", "base"])
def test_fewer_rounds_are_the_beginning_of_more_and_shared_runs_are_those_alone(trainer, start):
    long = rounds(curate={"from": start}, eval={"steps": [0, 1, 2, 4]})
    specs = [long, *phases_of(long)[:2], dataclasses.replace(long, seed=1)]
    together = dict(trainer.run_group(specs, [RunContext() for _ in specs]))
    for position, spec in enumerate(specs):
        fresh = PolicyTrainer(WorkerContext())
        assert numbers(together[position].to_json()) == numbers(fresh.run(spec, RunContext()).to_json())
        fresh.close()
    rows = [numbers(together[k].to_json())["steps"] for k in (0, 1)]
    assert rows[1][:3] == rows[0][:3]
    assert rows[0] != numbers(together[3].to_json())["steps"]


def test_starting_over_from_the_base_model_matters_from_the_second_round_on(trainer):
    found = {}
    for start in ("previous", "base"):
        steps = trainer.run(rounds(curate={"from": start}), RunContext()).to_json()["steps"]
        found[start] = [row["loss"] for row in steps if row.get("loss") is not None]
    assert found["previous"][:2] == found["base"][:2]
    assert found["previous"][2] != found["base"][2]


@pytest.mark.parametrize("start", ["previous", "base"])
@pytest.mark.parametrize("at", [6, 7, 8])
def test_a_run_killed_in_its_third_round_goes_on_where_it_was(trainer, tmp_path, start, at):
    class Killed(Exception):
        pass

    def killer(words: str) -> None:
        if words.startswith(f"step {at} of"):
            raise Killed

    spec = rounds(each=3, num=4, curate={"from": start})
    spec = dataclasses.replace(spec, resources=dataclasses.replace(spec.resources, save_every_steps=1))
    with pytest.raises(Killed):
        trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=killer))
    assert [p.name for p in (tmp_path / "state").iterdir()] == [f"step-{at}"]
    resumed = PolicyTrainer(WorkerContext())
    result = resumed.run(spec, RunContext(attempt=1, checkpoint_dir=tmp_path))
    resumed.close()
    assert numbers(result.to_json()) == numbers(trainer.run(spec, RunContext()).to_json())


def test_a_mixture_survives_json():
    spec = rounds()
    row = training_set(spec.data).rows([3])[0]
    assert row.given.completions == (ROWS[3]["completion"],)
    mixture = mixture_from_json(
        spec, {"sequences": [[[1, 2, 3], [1, 2]]], "numbers": [3], "counts": {"round_drawn": 8}}
    )
    assert mixture_from_json(spec, json.loads(json.dumps(mixture.to_json()))).to_json() == mixture.to_json()


@pytest.mark.slow
def test_rounds_are_the_same_in_a_fresh_process_and_on_two_ranks(trainer, two_ranks):
    spec = rounds()
    own = trainer.run(spec, RunContext()).to_json()
    assert numbers(run_in_fresh_process(spec)) == numbers(own)
    [gang] = two_ranks.run(
        [dataclasses.replace(spec, resources=dataclasses.replace(spec.resources, world_size=2))]
    )
    first = [
        next(row["loss"] for row in result["steps"] if row.get("loss") is not None) for result in (own, gang)
    ]
    assert first[0] == pytest.approx(first[1], abs=LOSS_TOLERANCE)
    drawn = [
        {k: v for k, v in row.items() if k.startswith("round")}
        for result in (own, gang)
        for row in result["steps"]
        if row["step"] == 1
    ]
    assert drawn[0] == drawn[1]
