import pytest

from sweeps.compose import compose_sweep
from sweeps.cost.work_count import count_work
from sweeps.manifest.build import build_manifest
from sweeps.spec import (
    ROLLOUT_OBJECTIVES,
    SCHEDULES,
    ObjectiveSpec,
    SpecError,
    group_canonical,
    group_from_dict,
    spec_from_dict,
)
from tests.sweeps.shipped import shipped

TINY = ["example=tiny", "example.ids=[carry-1]"]


def manifest(*words):
    return build_manifest(compose_sweep([*TINY, *words]))


def test_entropy_minimization_is_identified_as_it_was_before_there_were_other_objectives():
    assert group_canonical("objective", ObjectiveSpec()) == '{"compat":"exact","name":"em","temperature":0.5}'


@pytest.mark.parametrize("name", ROLLOUT_OBJECTIVES)
def test_every_objective_is_one_word_and_says_its_own_name(name):
    expanded = manifest(f"objective={name}", "example.answer_field=answer").spec(0).objective
    assert expanded.name == name
    assert expanded.is_policy_gradient is (name not in ("em", "em_ft"))


def test_policy_gradients_train_the_policy_that_is_sampled_and_cut_answers_as_the_benchmark_does():
    words = ["objective=majority", "sampling.temperature=0.8", r"eval.pattern='#(\d+)'"]
    expanded = manifest(*words).spec(0).objective
    assert (expanded.temperature, expanded.answer_pattern) == (0.8, r"#(\d+)")


def test_any_part_of_any_objective_is_an_axis():
    words = ["objective=majority,rent", "objective.kl_coef=0,0.01", "objective.aggregation=token,dr"]
    assert len(manifest(*words)) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "grop"}, "objective.name='grop'.*did you mean \"grpo\""),
        ({"name": "grpo"}, "needs a reward; take the option objective=grpo"),
        ({"aggregation": "tokens"}, 'choose one of token, .*did you mean "token"'),
        ({"advantage": "groups"}, 'did you mean "group"'),
        (
            {"kl_coef": 0.1, "reference": "none"},
            "needs a reference to diverge from; set",
        ),
        ({"kl_coef": -1.0}, "objective.kl_coef=-1.0: must be at least 0"),
        ({"clip_low": 1.5}, r"must lie in \[0, 1\]"),
        ({"iterations": 0}, "must be at least 1"),
        ({"name": "dpo"}, "trains on given completions; take the option objective=dpo"),
        ({"name": "nft", "reward_verified": 1.0}, "take the option objective=nft, which sets it"),
        ({"negative_aware": True}, "set objective.advantage=rate"),
        ({"advantage": "rate", "reward_format": 1.0}, "by objective.reward_verified=1 alone"),
        ({"advantage": "rate", "reward_verified": 1.0, "group_size": 4}, "is of all of them; set 0"),
        ({"preference": "dop"}, 'did you mean "dpo"'),
        ({"preference": "dpo", "iterations": 2}, "objective.iterations=2: .*given completions"),
        ({"preference": "dpo", "reference": "none"}, "leaves objective.preference=dpo nothing to compare"),
        ({"preference": "dpo", "beta": 0.0}, "objective.beta=0.0: must be a number above 0"),
        ({"preference": "dpo", "preference_weight": 0.0}, "weighs nothing; set 1"),
        ({"preference": "redi", "negative_weight": 1.1}, r"must lie in \[0, 1\]: above 1 a loss falls"),
        ({"negative_weight": 0.5}, "is read by objective=redi and objective.negative_aware=true only"),
        ({"beta": 0.5}, "objective.beta=0.5: is read by"),
        ({"kl_on": "completions", "kl": "k3", "kl_coef": 0.1}, "choose reverse, forward or js"),
        ({"reward_format": float("inf")}, "must be a finite number"),
        ({"reward_format": 1.0, "compat": "unshifted_mask"}, "misplaces the loss's mask"),
        ({"reward_formt": 1.0}, 'did you mean "objective.reward_format"'),
    ],
)
def test_an_objective_that_means_nothing_is_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        group_from_dict("objective", changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective=grpo"], "reward_verified=1: needs a label, and example 'examples-0' has none; name the"),
        (["objective=rent", "objective.group_size=1"], "group_size=1: objective.advantage=group compares"),
        (["objective=rent", "sampling.num_rollouts=1", "objective.group_size=0"], "sampling.num_rollouts=1"),
        (["objective=rent", "objective.group_size=7"], "64 rollouts .* do not fall into groups of 7"),
        (["example.ids=[carry-1,carry-2,carry-3]"], "num_rollouts=64: must be a multiple of the 3 prompts"),
        (["objective=em,rent", "objective.kl_coef=0.1", "objective.reference=none"], "needs a reference"),
    ],
)
def test_what_does_not_fit_together_is_refused_when_planned(words, message):
    with pytest.raises(SpecError, match=message):
        manifest(*words)


def test_one_rollout_without_anything_to_compare_it_with_is_fine():
    words = ["objective=rent", "objective.advantage=raw", "sampling.num_rollouts=1", "objective.group_size=1"]
    assert len(manifest(*words)) == 1


def test_an_answer_missing_for_one_of_several_prompts_is_a_missing_label():
    data = {
        "objective": {"name": "grpo", "reward_verified": 1.0},
        "example": {"name": "two", "prompts": ["a", "b"], "answers": ["1", None]},
    }
    with pytest.raises(SpecError, match="needs a label"):
        spec_from_dict(data)


def test_the_shipped_sweep_has_every_objective_and_draws_first_rollouts_once_for_all_of_them():
    expanded = build_manifest(shipped("objectives"))
    names = {expanded.group("objective", i).name for i in range(len(expanded))}
    assert names == set(ROLLOUT_OBJECTIVES)
    work = count_work(expanded)
    kin = len(
        {(expanded.axis_values(i)["model"], expanded.axis_values(i)["seed"]) for i in range(len(expanded))}
    )
    assert work.naive.rollout_batches - work.shared.rollout_batches == len(expanded) - kin
    assert work.shared.steps == work.naive.steps  # from there on no two objectives agree


def test_the_shipped_sweep_of_schedules_has_every_schedule():
    expanded = build_manifest(shipped("schedules"))
    assert {expanded.group("schedule", i).name for i in range(len(expanded))} == (
        set(SCHEDULES) - {"onecycle", "refined", "autolrs"}
    )
