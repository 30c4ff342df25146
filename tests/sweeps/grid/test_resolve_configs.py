import pytest

from sweeps.grid.expand import expand
from sweeps.grid.filters import parse_filter
from sweeps.grid.grid import axis, product
from sweeps.grid.resolve_configs import Layers, Rule, bind
from sweeps.spec import RunSpec, SpecError, spec_to_dict

BASE = spec_to_dict(RunSpec())
OPTIONS = {
    "model": {"small": {"name": "small", "path": "/s"}, "large": {"name": "large", "path": "/l"}},
    "resources": {"gpu": {"gpus_per_worker": 1.0, "world_size": 2}},
}


def bound(*axes, base=None, rules=(), name="optim"):
    """Every run's configuration of one group, in row order."""
    resolved = bind(Layers(base=base or BASE, options=OPTIONS, rules=rules), expand(product(*axes)))[name]
    return [resolved.variants[c] for c in resolved.codes.tolist()]


def test_an_option_replaces_the_group_and_a_key_changes_one_field():
    models = bound(axis("model", ["small", "large"]), axis("model.path", ["/x", "/y"]), name="model")
    assert models == [{"name": n, "path": p} for n in ("small", "large") for p in ("/x", "/y")]


def test_a_group_is_built_once_per_distinct_configuration():
    resolved = bind(
        Layers(base=BASE), expand(product(axis("optim.lr", [1e-4, 2e-4]), axis("seed", range(1000))))
    )
    assert len(resolved["optim"].variants) == 2
    assert len(resolved["model"].variants) == 1
    assert resolved["seed"].variants == tuple(range(1000))


def test_a_reference_follows_the_axis_of_the_same_run():
    base = BASE | {"sampling": BASE["sampling"] | {"temperature": "${objective.temperature}"}}
    resolved = bound(
        axis("objective.temperature", [0.3, 0.7]), axis("seed", [0, 1]), base=base, name="sampling"
    )
    assert [s["temperature"] for s in resolved] == [0.3, 0.3, 0.7, 0.7]


def test_references_chain_and_embed():
    base = BASE | {"model": {"name": "m${steps}", "path": "${model.name}/x"}, "steps": "${seed}"}
    assert bound(axis("seed", [4]), base=base, name="model") == [{"name": "m4", "path": "m4/x"}]


def test_a_rule_holds_where_its_condition_does_and_a_group_axis_wins_over_it():
    rule = Rule(when=parse_filter("model=large"), assign={"resources": "gpu", "resources.memory_gib": 8.0})
    axes = (axis("model", ["small", "large"]), axis("seed", [0]))
    small, large = bound(*axes, rules=[rule], name="resources")
    assert small == BASE["resources"]
    assert large == {"gpus_per_worker": 1.0, "world_size": 2, "memory_gib": 8.0}


def test_the_condition_of_a_rule_takes_the_last_part_of_a_key():
    rule = Rule(when=parse_filter("lr>1"), assign={"steps": 3})
    assert bound(axis("optim.lr", [1.0, 2.0]), rules=[rule], name="steps")[1] == 3


def test_an_absent_conditional_axis_leaves_the_base_value():
    base = BASE | {"schedule": {"name": "x", "decay_fraction": 0.5}}
    axes = (axis("optim.lr", [1.0, 2.0]), axis("schedule.decay_fraction", [0.1], when="optim.lr=2"))
    assert [s["decay_fraction"] for s in bound(*axes, base=base, name="schedule")] == [0.5, 0.1]


def test_circular_and_unknown_references_are_refused():
    circle = {"temperature": "${objective.temperature}"}, {"temperature": "${sampling.temperature}"}
    with pytest.raises(SpecError, match="go in a circle"):
        bound(base=BASE | {"sampling": circle[0], "objective": circle[1]}, name="sampling")
    with pytest.raises(SpecError, match=r'optim.lrr}, which does not exist \(did you mean "optim.lr"'):
        bound(base=BASE | {"sampling": {"temperature": "${optim.lrr}"}}, name="sampling")


def test_a_rule_on_an_axis_that_does_not_exist_is_refused():
    rule = Rule(when=parse_filter("modle=large"), assign={"steps": 3})
    with pytest.raises(SpecError, match=r'unknown axis \'modle\' \(did you mean "model"'):
        bound(axis("model", ["small"]), rules=[rule])
