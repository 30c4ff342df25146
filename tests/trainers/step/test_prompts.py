"""A training set walked over: the prompts of each step, whatever the layout, company or interruptions."""

from __future__ import annotations

import json

import pytest

from sweeps.manifest.resolve_data import resolve_data
from sweeps.sharing.mix_schedule import MixSchedule
from sweeps.sharing.row_schedule import RowSchedule
from sweeps.spec import RunSpec, SpecError
from sweeps.spec.mix import parts_of
from tests.trainers.comparing import column, numbers
from tests.trainers.gangs import run_in_fresh_process
from tests.trainers.presets import preset_dict
from tests.trainers.worlds import package_file, tiny_spec
from trainers.decoding.rows import model_memory, row_bytes
from trainers.evaluation.grading import Grader
from trainers.model.base_model import load_base, load_weights
from trainers.protocol import RunContext
from trainers.run_result import RunResult
from trainers.step.decode_rows import DecodeRows
from trainers.step.prompts import Prompts, longest_prompt

TRAIN = "trainers/tiny/data/addition_train.jsonl"

ADDITION = {"path": f"pkg://{TRAIN}", "difficulty_field": "difficulty"}

LOSS_TOLERANCE = 2e-6
"""Across layouts sums are added up in another order."""


def walking(steps: int = 4, **groups) -> RunSpec:
    """Steps of four prompts with eight rollouts each, from a set of ten, judged on few items."""
    data, _ = resolve_data({**ADDITION, "limit": 10, "prompts_per_step": 4, **groups.pop("data", {})})
    sampling = {"num_rollouts": 8 * data["prompts_per_step"], **groups.pop("sampling", {})}
    evaluation = {"limit": 12, **groups.pop("eval", {})}
    return tiny_spec(
        example={"prompts": [], "name": ""},
        data=data,
        sampling=sampling,
        eval=evaluation,
        steps=steps,
        **groups,
    )


def shown(result: dict) -> dict[int, set[int]]:
    """Rows of the training set whose rollouts were kept, by steps taken before."""
    by_step: dict[int, set[int]] = {}
    for text in RunResult.from_json(result).rollouts:
        by_step.setdefault(text.step, set()).add(text.prompt)
    return by_step


def test_a_set_of_one_prompt_gives_the_numbers_of_the_same_example(trainer, tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"problem": "47+38=", "answer": "085"}) + "\n")
    data, _ = resolve_data({"path": str(file)})
    judged = {"limit": 12, "logit_stats": True}
    walked = tiny_spec(example={"prompts": [], "name": ""}, data=data, steps=3, eval=judged)
    fixed = tiny_spec(steps=3, eval=judged)
    results = [numbers(trainer.run(spec, RunContext()).to_json()) for spec in (walked, fixed)]
    assert results[0] == results[1]


def test_each_step_trains_on_the_rows_of_its_batch(trainer):
    spec = walking()
    result = trainer.run(spec, RunContext()).to_json()
    schedule = RowSchedule(spec.data, spec.seed)
    assert shown(result) == {0: set(schedule.batch(0)), 3: set(schedule.batch(3))}
    assert set(schedule.batch(0)) != set(schedule.batch(3))


def test_answers_and_rollouts_used_twice_are_those_of_the_step(trainer):
    """Each prompt's rollouts are judged by its own answer, at both steps that train on them."""
    grpo = preset_dict("grpo") | {"temperature": 1.0, "iterations": 2}
    spec = walking(steps=3, objective=grpo, data={"order": "file"}, eval={"path": None})
    result = trainer.run(spec, RunContext()).to_json()
    assert shown(result) == {0: {0, 1, 2, 3}, 2: {4, 5, 6, 7}}
    rows = [json.loads(line) for line in package_file(TRAIN).read_text().splitlines()]
    rollouts = [text for text in RunResult.from_json(result).rollouts if text.step == 0]
    grader = Grader(pattern=spec.objective.answer_pattern, timeout_s=5.0)
    grader.begin()
    ends = [(text.text.replace("<end>", ""), rows[text.prompt]["answer"], text.count) for text in rollouts]
    right = sum(count * grader.judge(gold, text).correct for text, gold, count in ends)
    assert column(result, "reward")[:2] == pytest.approx([right / 32] * 2)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_run_killed_within_an_epoch_resumes_to_the_same_bits(trainer, tmp_path, stop_after):
    spec = walking(steps=5, resources={"save_every_steps": 1})
    whole = trainer.run(spec, RunContext()).to_json()

    class Killed(Exception):
        pass

    def die(message: str) -> None:
        if message.startswith(f"step {stop_after} "):
            raise Killed

    with pytest.raises(Killed):
        trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=die))
    resumed = trainer.run(spec, RunContext(checkpoint_dir=tmp_path)).to_json()
    assert numbers(resumed) == numbers(whole)


@pytest.mark.slow
def test_a_cold_process_and_a_warm_one_give_the_same_bits(trainer):
    spec = walking(steps=3)
    warm = trainer.run(spec, RunContext()).to_json()
    assert numbers(run_in_fresh_process(spec)) == numbers(warm)


def test_horizons_share_their_steps_and_end_as_they_would_alone(trainer):
    specs = [
        *(walking(steps=steps, seed=1) for steps in (2, 5)),
        walking(steps=3, seed=1, data={"order": "easy_to_hard"}),
        walking(steps=3, seed=1, data={"prompts_per_step": 2}),
        walking(steps=2, seed=1, optim={"lr": 1e-3}),
    ]
    together = dict(trainer.run_group(specs, [RunContext() for _ in specs]))
    for position, spec in enumerate(specs):
        alone = numbers(trainer.run(spec, RunContext()).to_json())
        assert numbers(together[position].to_json()) == alone


def test_neither_world_size_nor_micro_batch_changes_a_batch(trainer, two_ranks):
    spec = walking(steps=3)
    reference = trainer.run(spec, RunContext()).to_json()
    small = trainer.run(walking(steps=3, engine={"micro_batch": 3}), RunContext()).to_json()
    [of_two] = two_ranks.run([walking(steps=3, resources={"world_size": 2}, engine={"zero_stage": 2})])
    for result in (small, of_two):
        assert shown(result) == shown(reference)
        assert column(result, "loss") == pytest.approx(column(reference, "loss"), abs=LOSS_TOLERANCE)


def test_memory_is_set_aside_for_the_longest_prompt_of_the_set(trainer, tmp_path):
    file = tmp_path / "set.jsonl"
    prompts = [f"{n}+1=" for n in range(95, 105)] + ["1+1+1+1+1+1="]
    file.write_text("".join(json.dumps({"problem": prompt}) + "\n" for prompt in prompts))
    own = {"path": str(file), "difficulty_field": "", "limit": 0}
    spec = walking(data=own, engine={"decoder": "cached"}, eval={"path": None})
    base = load_base(spec.model)
    steps = range(1, 12)  # 44 prompts: four epochs
    assert longest_prompt(spec, base) == max(len(ids) for s in steps for ids in Prompts(spec, base).at(s).ids)
    module = load_weights(spec.model, precision="fp32", attention="sdpa")
    row = row_bytes(model_memory(module.config, 4), longest_prompt(spec, base), 16)
    rows = DecodeRows(trainer.gang, trainer.load_base, trainer.eval_cache, 13 * row)
    assert rows.settled([spec], module)[0].engine.rollout_rows == 8  # of 13, a power of two


def test_a_file_that_has_changed_since_is_refused_by_the_worker(tmp_path):
    file = tmp_path / "set.jsonl"
    file.write_text('{"problem": "11+11=", "answer": "022"}\n')
    data, _ = resolve_data({"path": str(file)})
    spec = tiny_spec(example={"prompts": [], "name": ""}, data=data)
    file.write_text('{"problem": "11+12=", "answer": "023"}\n')
    with pytest.raises(SpecError, match="holds other rows than when the sweep was composed"):
        Prompts(spec, load_base(spec.model))


def mixed(steps: int = 4, weights: tuple[float, float] = (1, 2), **groups) -> RunSpec:
    """Steps of four prompts from a set of five and one of ten."""
    sets = {
        "few": {"path": f"pkg://{TRAIN}", "limit": 5, "weight": weights[0]},
        "more": {"path": "pkg://trainers/tiny/data/addition_pool.jsonl", "limit": 10, "weight": weights[1]},
    }
    own = {"mix": sets, "path": None, "limit": 0, "difficulty_field": ""}
    return walking(steps, data=own | groups.pop("data", {}), **groups)


def test_a_mix_trains_on_its_sets_in_proportion_and_says_how_many_of_each(trainer):
    spec = mixed(steps=6)
    result = trainer.run(spec, RunContext()).to_json()
    schedule = MixSchedule(spec.data, spec.seed)
    assert shown(result) == {0: set(schedule.batch(0)), 5: set(schedule.batch(5))}
    few, more = column(result, "prompts_few"), column(result, "prompts_more")
    assert (sum(few), sum(more)) == (8, 16)
    assert [one + other for one, other in zip(few, more, strict=True)] == [4] * 6
    [part] = [part for part in parts_of(spec.data) if part.name == "few"]
    rows = [json.loads(line)["problem"] for line in package_file(TRAIN).read_text().splitlines()[:5]]
    prompts = Prompts(spec, load_base(spec.model))
    for step in range(1, 7):
        at = prompts.at(step)
        own = {place: number - part.first_row for place, number in enumerate(at.numbers)}
        own = {place: row for place, row in own.items() if 0 <= row < 5}
        assert [at.rows[place].prompt for place in own] == [rows[row] for row in own.values()]
        assert len(own) == few[step - 1]


@pytest.mark.slow
def test_a_mix_is_the_same_killed_and_resumed_shared_cold_and_on_two_ranks(trainer, two_ranks, tmp_path):
    spec = mixed(steps=4)
    alone = trainer.run(spec, RunContext()).to_json()
    assert numbers(run_in_fresh_process(spec)) == numbers(alone)
    together = dict(trainer.run_group([spec, mixed(steps=2)], [RunContext(), RunContext()]))
    assert numbers(together[0].to_json()) == numbers(alone)

    class Killed(Exception):
        pass

    def die(message: str) -> None:
        if message.startswith("step 3 "):
            raise Killed

    saving = mixed(steps=4, resources={"save_every_steps": 1})
    with pytest.raises(Killed):
        trainer.run(saving, RunContext(checkpoint_dir=tmp_path, heartbeat=die))
    resumed = trainer.run(saving, RunContext(checkpoint_dir=tmp_path)).to_json()
    assert numbers(resumed) == numbers(alone)
    [of_two] = two_ranks.run([mixed(steps=4, resources={"world_size": 2}, engine={"zero_stage": 2})])
    assert shown(of_two) == shown(alone)
    assert column(of_two, "loss") == pytest.approx(column(alone, "loss"), abs=LOSS_TOLERANCE)
