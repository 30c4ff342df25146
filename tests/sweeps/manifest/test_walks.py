"""Sweeps over training sets: epochs in place of steps, no example beside a set, what cannot fit refused."""

from __future__ import annotations

import pytest

from sweeps.compose import compose_sweep
from sweeps.cost.work_count import count_work
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest import Manifest
from sweeps.sharing.packs import not_packed_because, packing_of
from sweeps.sharing.share_groups import ShareGroups
from sweeps.spec import RunSpec, SpecError


def manifest_of(*words: str) -> Manifest:
    return build_manifest(compose_sweep([*words, "eval=none"]))


def test_epochs_set_the_steps_of_each_run():
    manifest = manifest_of("data=addition", "data.prompts_per_step=8,64", "epochs=1,2", "data.limit=640")
    found = {
        (values["data.prompts_per_step"], values["epochs"]): int(steps)
        for values, steps in zip(map(manifest.axis_values, range(len(manifest))), manifest.steps, strict=True)
    }
    assert found == {(8, 1.0): 80, (8, 2.0): 160, (64, 1.0): 10, (64, 2.0): 20}


def test_steps_that_follow_from_epochs_are_the_run_with_those_steps():
    walked = manifest_of("data=addition", "data.prompts_per_step=64", "epochs=1")
    counted = manifest_of("data=addition", "data.prompts_per_step=64", "steps=20")
    assert walked.run_ids == counted.run_ids


def test_a_run_with_a_set_has_no_example_and_runs_without_one_are_those_of_before():
    manifest = manifest_of("data=none,addition")
    without, walking = (manifest.spec(row) for row in range(2))
    assert without.run_id == manifest_of().run_ids[0]
    assert (walking.example.prompts, walking.data.num_rows) == ((), 1280)
    assert walking.run_id == manifest_of("data=addition").run_ids[0]
    assert '"data"' not in str(RunSpec().run_id)


def test_where_a_set_lies_and_how_it_is_called_are_outside_of_the_identity(tmp_path):
    from tests.trainers.worlds import package_file

    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(package_file("trainers/tiny/data/addition_train.jsonl").read_bytes())
    assert manifest_of("data=file", f"data.path={copy}").run_ids == manifest_of("data=addition").run_ids


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["data=addition", "example=carry-2"],
            "example=carry-2: these runs train on the prompts of a training",
        ),
        (["data=addition", "example=carry-1,carry-2"], "example=carry-1,carry-2: these runs train on"),
        (["data=addition", "data.prompts_per_step=7"], "must be a multiple of data.prompts_per_step=7"),
        (["data=addition", "data.limit=4", "data.prompts_per_step=8"], "'addition' has 4 rows"),
        (["epochs=2"], "epochs=2: there is no training set"),
        (["data=addition", "epochs=0"], "epochs=0: must be a number above 0"),
        (["data=addition", "epochs=1", "steps=5"], "steps=5: epochs=1 makes it 1,280"),
        (["data=addition", "epochs=1", "steps=5,10"], "epochs=1 makes it 1,280"),
        (["data=addition", "data.answer_field=null", "objective=grpo"], "needs a label in every row"),
        (["data=addition", "objective=em", "objective.compat=upstream"], "has no training set"),
        (["data=addition", "sampling.max_prompt_tokens=3"], "the prompt '.*' has at least .* tokens"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_short_message(words, message):
    with pytest.raises(SpecError, match=message) as refused:
        manifest_of(*words)
    assert len(str(refused.value)) < 400


def test_two_horizons_share_their_steps_and_two_sizes_of_a_step_share_none():
    horizons = count_work(manifest_of("data=addition", "steps=5,20"))
    assert (horizons.naive.steps, horizons.shared.steps) == (25, 20)
    sizes = count_work(manifest_of("data=addition", "steps=5", "data.prompts_per_step=1,2"))
    assert (sizes.naive.steps, sizes.shared.steps) == (10, 10)
    assert ShareGroups(manifest_of("data=addition", "steps=5,20")).num_same_rollouts == 1


def test_a_run_that_walks_is_packed_and_its_mates_may_walk_otherwise():
    manifest = manifest_of("data=addition", "engine.pack=8", "data.prompts_per_step=1,2")
    packing = packing_of(manifest)
    assert packing.num_packed == len(manifest) > 1
    assert len(set(packing.pack_of)) == 1


def manifest_of_both(tmp_path, *axes):
    """The manifest of sub-grids laid end to end."""
    file = tmp_path / "both.yaml"
    lines = "".join(f"    - axes: {{{some}}}\n" for some in axes)
    file.write_text(f"# @package _global_\nsweep:\n  concat:\n{lines}")
    return manifest_of(f"sweep={file}")


def test_sub_grids_that_do_not_name_a_set_have_none(tmp_path):
    of_examples = "objective: [em], example: [carry-1, carry-2]"
    manifest = manifest_of_both(tmp_path, of_examples, "data: [addition], objective: [grpo]")
    specs = [manifest.spec(row) for row in range(len(manifest))]
    assert sorted((s.objective.name, s.data.name, s.example.name) for s in specs) == [
        ("em", "", "carry-1"),
        ("em", "", "carry-2"),
        ("grpo", "addition", ""),
    ]
    values = [manifest.axis_values(row) for row in range(len(manifest))]
    assert {v["example"] for v in values if v["data"] == "addition"} == {None}


def test_sub_grids_count_in_steps_or_in_epochs(tmp_path):
    in_epochs = "data: [addition], epochs: [1], data.limit: [30]"
    manifest = manifest_of_both(tmp_path, "steps: [5, 20]", in_epochs)
    found = [(manifest.axis_values(row)["steps"], int(manifest.steps[row])) for row in range(len(manifest))]
    assert sorted(found, key=str) == [(20, 20), (5, 5), (None, 30)]


@pytest.fixture
def solved(tmp_path) -> str:
    file = tmp_path / "solved.jsonl"
    file.write_text('{"prompt": "1+1=", "completion": "2", "answer": "2"}\n' * 4)
    return str(file)


def test_an_objective_decides_what_is_read_of_a_set_and_leaves_the_runs_of_others_alone(solved):
    data = ["data=file", f"data.path={solved}", "data.prompts_per_step=2"]
    both = manifest_of(*data, "objective=em,sft")
    targets = {both.axis_values(row)["objective"]: both.spec(row).data.targets for row in range(2)}
    assert targets == {"em": "", "sft": "completions"}
    assert manifest_of(*data).run_ids[0] in both.run_ids
    assert manifest_of(*data, "objective=sft").run_ids[0] in both.run_ids
    assert not not_packed_because(both.spec(1))


def test_runs_that_draw_nothing_have_no_sampler_and_cost_no_rollouts(solved):
    data = ["data=file", f"data.path={solved}", "steps=3"]
    words = [*data, "objective=em,sft", "sampling.temperature=0.5,1.0", "sampling.num_rollouts=8"]
    manifest = manifest_of(*words)
    temperatures = [manifest.axis_values(row).get("sampling.temperature") for row in range(3)]
    assert (len(manifest), manifest.num_duplicates) == (3, 1)
    assert sorted(temperatures, key=str) == [0.5, 1.0, None]
    work = count_work(manifest)
    assert (work.naive.steps, work.naive.rollout_batches, work.shared.rollout_batches) == (9, 6, 6)
    alone = manifest_of(*data, "objective=sft")
    assert alone.run_ids[0] in manifest.run_ids
    mixed = manifest_of(*data, "objective=sft", "objective.entropy_weight=0,0.1", "sampling.num_rollouts=8")
    assert count_work(mixed).shared.rollout_batches == 3


def test_an_axis_of_the_objective_that_only_rollouts_read_makes_no_second_run_of_given_completions(solved):
    data = ["data=file", f"data.path={solved}", "steps=3"]
    words = [*data, "objective=em,sft", "objective.temperature=0.5,0.7,1.0", "seed=0,1"]
    manifest = manifest_of(*words)
    assert (len(manifest), manifest.num_duplicates) == (8, 4)
    seen = [(v["objective"], v.get("objective.temperature")) for v in map(manifest.axis_values, range(8))]
    assert sorted(set(seen), key=str) == [("em", 0.5), ("em", 0.7), ("em", 1.0), ("sft", None)]
    alone = manifest_of(*data, "objective=sft", "seed=0,1")
    assert set(alone.run_ids) < set(manifest.run_ids)
    em = manifest_of(*data, "objective=em", "objective.temperature=0.5,0.7,1.0", "seed=0,1")
    assert {*em.run_ids, *alone.run_ids} == set(manifest.run_ids)
    drawing = manifest_of(
        *data, "objective=sft", "objective.entropy_weight=0,0.1", "objective.temperature=0.5,1"
    )
    assert len(drawing) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective.temperature=0.5"], r"objective\.temperature=0\.5: changes nothing, since"),
        (["objective.temperature=0.5,1"], r"objective\.temperature=0\.5,1.*: changes nothing"),
        (["objective.advantage=loo"], r"objective\.advantage=loo: changes nothing"),
        (["objective.clip_high=0.2,0.3"], r"objective\.clip_high=0\.2,0\.3: changes nothing"),
        (["objective=sft"], "objective=sft: trains on given completions, and an example has prompts only"),
        (["sampling.top_p=0.9"], "sampling.top_p=0.9: these runs train on given completions and draw no"),
        (["sampling.top_p=0.9,1"], "sampling.top_p=0.9,1.*: these runs train on given completions"),
        (
            ["objective.iterations=2"],
            "iterations=2: uses rollouts several times, and this objective draws none",
        ),
        (
            ["objective.aggregation=dr"],
            "divides by sampling.max_new_tokens, which given completions do not have",
        ),
        (["objective.nll_weight=0"], "take the option objective=sft, which weighs them"),
        (
            ["data.max_tokens=4"],
            "have at least 5 tokens of model 'tiny-64', above data.max_tokens=4; raise it",
        ),
        (["eval=addition", "eval.logit_stats=true"], "eval.logit_stats=true: measures first rollouts"),
    ],
)
def test_what_training_on_given_completions_has_no_use_for_is_refused(solved, words, message):
    data = [] if words == ["objective=sft"] else ["objective=sft", "data=file", f"data.path={solved}"]
    with pytest.raises(SpecError, match=message):
        build_manifest(compose_sweep([*data, "model=tiny-64", "eval=none", *words]))
