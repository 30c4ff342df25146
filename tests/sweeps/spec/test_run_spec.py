import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.spec import (
    GROUPS,
    RunSpec,
    SpecError,
    canonical_json,
    coerce_key,
    group_canonical,
    group_science,
    group_type,
    join_run_id,
    known_keys,
    nearest,
    spec_from_dict,
    spec_to_dict,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def changed(key, value):
    """The default run with one key changed."""
    data = spec_to_dict(RunSpec())
    group, _, name = key.partition(".")
    if name:
        data[group][name] = value
    else:
        data[group] = value
    return spec_from_dict(data)


def other_value(key, value):
    """A valid value of ``key`` that differs from ``value``."""
    special = {
        "objective.name": None,
        "optim.name": None,
        "objective.compat": "upstream",
        "objective.aggregation": "sum",
        "objective.advantage": "loo",
        "objective.kl": "k1",
        "objective.reference": "none",
        "objective.clip_low": 0.2,
        "objective.no_answer": -7.0,
        "schedule.name": "cosine",
        "schedule.decay_shape": "sqrt",
        "example.format": "plain",
        "data.format": "plain",
        "data.order": "file",
        "data.subset": 0.5,
        "data.system_role": "fold",
        "data.template": "Q: {problem}",
        "eval.format": "plain",
        "example.template": "Q: {problem}",
        "eval.template": "Q: {problem}",
        "sampling.overlong": "truncate",
        "engine.precision": None,  # bf16 needs another ZeRO stage as well
        "engine.offload": None,
        "engine.decoder": "cached",
        "resources.keep_checkpoints": "last",
        "optim.beta1": 0.5,
        "optim.beta2": 0.5,
        "optim.momentum": 0.5,
        "data.targets": "pairs",
        "data.mix": None,  # with it there is no path; see test_mix.py
        "data.limit_by": "content",
        "objective.negative_weight": 0.5,
        "objective.kl_on": "completions",
        "objective.preference": "dpo",
        "data.overlong": "truncate",
        "objective.label_smoothing": 0.1,
        "sampling.top_p": 0.5,
        "eval.top_p": 0.5,
        "schedule.min_ratio": 0.5,
        "schedule.power_exponent": -1.0,
        "schedule.cooldown_fraction": 0.5,
        "schedule.hold_ratio": 0.9,
        "schedule.final_ratio": 0.9,
        "schedule.decay_fraction": 0.5,
        "schedule.rise_fraction": 0.5,
        "schedule.start_ratio": 0.5,
        "schedule.norms_power": 2,
        "schedule.norms": [1.0],
        "example.answers": ["1"],
        "example.prompts": ["p"],
        "example.ids": ["a"],
        "example.rows": [1],
        "eval.steps": [1],
        "eval.temperatures": [0.5],
        "eval.drop_items": [1],
        "eval.system_role": "fold",
        "example.system_role": "fold",
        "eval.grader": "relative",
        "trainer.params": {"a": 1},
        "trainer.command": ["a"],
        "trainer.patterns": {"a": "(b)"},
        "trainer.metrics_from": ["wandb"],
        "trainer.metrics": {"a": {"direction": "min"}},
        "init.changes": {"init": {}, "seed": 1},
        "model.adapter": "lora",
        "model.adapter_targets": ["q_proj"],
        "schedule.probe_lowest_ratio": 0.5,
        "init.runs": ["0" * 32],
        "init.folders": ["weights"],
    }
    if key in special:
        return special[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value or ''}x"


READ_BY_OTHERS = {
    "momentum": {"name": "muon"},
    "d0": {"name": "prodigy"},
    "d_coef": {"name": "prodigy"},
    "norms": {"name": "refined"},
    "norms_path": {"name": "refined"},
    "probe_every_steps": {"name": "autolrs", "warmup_steps": 0},
    "probe_lowest_ratio": {"name": "autolrs", "warmup_steps": 0},
    "nll_weight": {},  # a run on an example has no completions
    "nll_dft": {"nll_weight": 1.0},
    "label_smoothing": {"nll_weight": 1.0},
    "preference": {},
    "kl_on": {"preference": "dpo", "kl": "forward", "kl_coef": 0.1},
    "negative_aware": {"reward_verified": 1.0, "advantage": "rate", "clip_low": 0.0},
    "negative_weight": {"preference": "redi"},
    **{key: {"preference": "dpo"} for key in ("preference_weight", "beta", "per_token")},
    "margin": {"preference": "simpo"},
    **{key: {"preference": "kto"} for key in ("desirable_weight", "undesirable_weight")},
    "attempts": {"preference": "dco"},
}
"""Fields that the usual optimizer, schedule or objective does not read, and what makes it;
test_optimizers.py, test_norms.py, test_schedules.py and test_objective.py see to them.
"""


def changes():
    """Each key with another valid value, that value, and whether the key is outside the identity; those of
    rounds are seen to by test_curation.py.
    """
    for group in (g for g in GROUPS if g != "curate"):
        for field in dataclasses.fields(group_type(group)):
            key = f"{group}.{field.name}"
            value = other_value(key, spec_to_dict(RunSpec())[group][field.name])
            if value is not None and field.name not in READ_BY_OTHERS:
                yield key, value, bool(field.metadata.get("compute"))


@pytest.mark.parametrize(("key", "value", "is_compute"), list(changes()))
def test_a_key_changes_the_identity_exactly_if_it_changes_the_science(key, value, is_compute):
    assert (changed(key, value).run_id == RunSpec().run_id) is is_compute


def test_steps_and_seed_are_part_of_the_identity():
    assert len({RunSpec().run_id, changed("steps", 11).run_id, changed("seed", 1).run_id}) == 3


def test_an_identity_joined_from_fragments_is_that_of_the_whole():
    assert RunSpec().run_id == join_run_id(
        {g: group_canonical(g, getattr(RunSpec(), g)) for g in GROUPS}, steps=10, seed=0
    )
    assert len(RunSpec().run_id) == 32
    assert set(RunSpec().run_id) <= set("0123456789abcdef")


def test_a_specification_survives_plain_data():
    spec = changed("trainer.params", {"b": [1, 2.5], "a": {"c": None}})
    assert spec_from_dict(json.loads(json.dumps(spec_to_dict(spec)))) == spec


@given(JSON)
def test_canonical_json_is_json_and_does_not_depend_on_the_order_of_keys(value):
    text = canonical_json(value)
    assert json.loads(text) == value

    def turned(v):
        if isinstance(v, dict):
            return {k: turned(v[k]) for k in reversed(list(v))}
        return [turned(i) for i in v] if isinstance(v, list) else v

    assert canonical_json(turned(value)) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, object(), {1: 2}, [math.nan], {"a": b"x"}])
def test_a_value_without_a_stable_form_is_refused(value):
    with pytest.raises(SpecError, match=r"stable form|must be text"):
        canonical_json(value)


def test_a_free_value_without_a_stable_form_is_refused_by_its_whole_key():
    with pytest.raises(SpecError, match=r"trainer\.params\.deep\.x=inf: has no stable form"):
        spec_from_dict({"trainer": {"params": {"deep": {"x": math.inf}}}})


def test_both_zeros_are_one_value_and_whole_floats_are_not_integers():
    assert canonical_json(-0.0) == canonical_json(0.0) == "0.0"
    assert canonical_json(1.0) != canonical_json(1)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("optim.lr", 1, 1.0),
        ("steps", 3.0, 3),
        ("eval.steps", [0, 1], (0, 1)),
        ("model.revision", None, None),
        ("trainer.params.deep.key", [1], [1]),
    ],
)
def test_a_value_takes_the_type_of_its_key(key, value, expected):
    coerced = coerce_key(key, value)
    assert (coerced, type(coerced)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim.lr", "1e-4", "must be a number, not str"),
        ("optim.lr", True, "must be a number, not bool"),
        ("steps", 1.5, "must be a whole number, not float"),
        ("steps", True, "must be a whole number, not bool"),
        ("eval.steps", 3, r"must be a list, such as \[3\]"),
        ("eval.greedy", 1, "must be true or false, not int"),
        ("optim.lrr", 1, 'did you mean "optim.lr"'),
        ("trainer.parms.x", 1, "unknown key"),
    ],
)
def test_a_wrong_type_or_key_is_refused(key, value, message):
    with pytest.raises(SpecError, match=message):
        coerce_key(key, value)


def test_unknown_groups_and_keys_name_the_nearest():
    with pytest.raises(SpecError, match='did you mean "optim"'):
        spec_from_dict({"optm": {}})
    with pytest.raises(SpecError, match=r'did you mean "optim\.lr"'):
        spec_from_dict({"optim": {"lrr": 1}})
    assert nearest("zzz", known_keys()) == ""


def test_evaluation_steps_past_the_end_are_dropped_and_the_last_step_is_always_judged():
    spec = RunSpec(eval=dataclasses.replace(RunSpec().eval, path="x", steps=(0, 5, 50)), steps=7)
    assert spec.eval_steps == (0, 5, 7)
    assert dataclasses.replace(spec, eval=RunSpec().eval).eval_steps == ()


def fixed_spec():
    """A run with every kind of value in its science part."""
    return spec_from_dict(
        {
            "model": {"hub_id": "Qwen/Qwen2.5-Math-1.5B", "revision": "main"},
            "example": {"prompts": ["Löse 42+89=", "7·6="], "answers": ["131", None], "format": "plain"},
            "objective": {"temperature": 0.5, "compat": "micro_steps+shared_noise"},
            "optim": {"lr": 2e-5},
            "schedule": {"name": "wsd", "warmup_steps": 1, "decay_fraction": 0.4},
            "sampling": {"top_p": 1},
            "engine": {"precision": "bf16", "zero_stage": 2},
            "eval": {"digest": "ab" * 32, "steps": [0, 10], "temperatures": [0.6, 1.0]},
            "trainer": {"target": "mine.Own", "params": {"b": [1, 2.5, None], "a": {"c": True}}},
            "steps": 10,
            "seed": 7,
        }
    )


def test_an_identity_never_changes_between_versions():
    """Results on disk are found by it: if this fails, a new field needs ``omit_at``."""
    assert RunSpec().run_id == "e29afca573cb45b7c351f7b84994ac97"
    assert fixed_spec().run_id == "6c6d36b032eade78a23ca96a8cf62232"


OMITTED = [
    (group, field.name, field.metadata["omit_at"])
    for group in (g for g in GROUPS if g != "curate")  # see test_curation.py
    for field in dataclasses.fields(group_type(group))
    if "omit_at" in field.metadata and field.name != "norms"  # whose value of old no refined schedule has
]


@pytest.mark.parametrize(("group", "name", "value"), OMITTED)
def test_a_later_field_at_the_value_of_old_leaves_no_trace_in_the_identity(group, name, value):
    assert value == getattr(group_type(group)(), name)
    needs = {"format": "chat"} if name == "system_role" else {}  # plain has no turns to fold into
    needs |= READ_BY_OTHERS.get(name, {})
    part = dataclasses.replace(getattr(fixed_spec(), group), **needs, **{name: value})
    assert f'"{name}"' not in group_canonical(group, part)
    other = dataclasses.replace(part, **{name: other_value(f"{group}.{name}", value)})
    assert f'"{name}"' in group_canonical(group, other)
    without = {k: v for k, v in group_science(other).items() if k != name}
    assert canonical_json(without, group) == group_canonical(group, part)
