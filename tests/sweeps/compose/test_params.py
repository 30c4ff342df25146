"""Hydra's rule for the parameters of one's own trainer."""

from __future__ import annotations

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec import SpecError

SWEEP = """# @package _global_
trainer: {target: forests.Forest, params: {trees: 4, max_depth: 4, opt: {lr: 1}}}
sweep:
  axes: {trainer.params.width: [2, 8], seed: range(2)}
  set: [{when: seed=1, trainer.params.ruled: 5}]
  concat: [{axes: {trainer.params.part: [1]}}]
"""


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "forests.yaml").write_text(SWEEP)
    return f"sweep={tmp_path / 'forests.yaml'}"


def params(*words):
    manifest = build_manifest(compose_sweep(words))
    return [dict(manifest.spec(i).trainer.params) for i in range(len(manifest))]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "trainer.params.max_dept=3",
            r"did you mean \"trainer\.params\.max_depth\".*\+trainer\.params\.max_dept=",
        ),
        ("trainer.params.max_dept=3,4", 'did you mean "trainer.params.max_depth"'),
        ("trainer.params.widht=3", 'did you mean "trainer.params.width"'),
        ("trainer.params.opt.lrr=3", 'did you mean "trainer.params.opt.lr"'),
        ("trainer.params={max_dept: 3}", "trainer.params.max_dept: is no parameter"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_nearest_and_the_way_to_add_one(sweep, word, message):
    with pytest.raises(SpecError, match=message):
        compose_sweep([sweep, word])


def test_declared_parameters_are_set_and_new_ones_added_with_a_plus(sweep):
    (first, *_) = params(sweep, "trainer.params.max_depth=3", "+trainer.params.new=1")
    assert (first["max_depth"], first["new"], first["trees"]) == (3, 1, 4)
    assert {p["new"] for p in params(sweep, "+trainer.params.new=1,2")} == {1, 2}
    assert params(sweep, "++trainer.params.new=1", "trainer.params.new=2")[0]["new"] == 2
    assert params(sweep, "trainer.params={max_depth: 5}")[0]["max_depth"] == 5
    assert params(sweep, "trainer.params.opt={lr: 5}")[0]["opt"] == {"lr": 5}


@pytest.mark.parametrize("key", ["width", "ruled", "part", "opt.lr"])
def test_what_a_file_has_an_axis_or_a_rule_for_is_declared(sweep, key):
    compose_sweep([sweep, f"trainer.params.{key}=7"])


def test_where_nothing_is_declared_anything_goes():
    assert params("sweep=noop", "sweep.n=1", "trainer.params.duration_s=0.5") == [{"duration_s": 0.5}]
    assert len(params("sweep=noop", "seed=0", "trainer.params.k=1,2")) == 2
