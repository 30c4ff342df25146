"""``from emsweep import open_sweep, report, grid``."""

from __future__ import annotations

import subprocess
import sys

import emsweep
import numpy as np
import pytest
from emsweep import grid, open_sweep

from sweeps.spec import SpecError


def test_importing_it_loads_nothing_and_its_names_load_what_they_need():
    code = """
import sys, emsweep
heavy = ("torch", "ray", "pandas", "hydra", "numpy", "sweeps", "trainers", "orchestrator", "analysis")
assert not set(heavy) & set(sys.modules)
from emsweep import report
assert not {*heavy} - {"trainers"} & set(sys.modules)
assert {"open_sweep", "report", "grid", "__version__"} <= set(dir(emsweep))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_its_version_is_the_distributions_and_other_names_are_not_there():
    assert emsweep.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'gird'"):
        emsweep.gird  # noqa: B018


def test_a_grid_of_axes_is_the_runs_that_the_same_words_launch():
    from orchestrator.store.earlier_sweep import EarlierSweep
    from sweeps.compose import compose_sweep
    from sweeps.manifest.build import build_manifest

    axes = {"optim.lr": np.array([1e-4, 3e-4]), "model": ["tiny-32", "tiny-64"], "seed": range(3)}
    found = grid(axes, "sweep=quickstart", "example=carry-1")
    words = ["sweep=quickstart", "example=carry-1", "optim.lr=1e-4,3e-4", "model=tiny-32,tiny-64"]
    same = build_manifest(compose_sweep([*words, "seed=range(3)"]), EarlierSweep)
    assert list(found.runs()["run_id"]) == list(same.run_ids)
    assert len(found) == 12
    assert set(found.runs()["optim.lr"]) == {1e-4, 3e-4}
    assert "12 runs over" in found._repr_html_()


def test_values_of_every_kind_reach_the_configuration_as_they_are():
    kinds = {"a": "two words, 'one' quote \\", "b": [[1, 2], [3]], "c": True, "d": None, "e": "1e4", "f": 2.5}
    axes = {f"+trainer.params.{key}": [value] for key, value in kinds.items() if key != "b"}
    found = grid({**axes, "+trainer.params.b": kinds["b"]}, "sweep=noop", "sweep.n=1")
    params = [found.manifest.spec(i).trainer.params for i in range(len(found))]
    assert [p["b"] for p in params] == kinds["b"]
    assert all({k: v for k, v in p.items() if k in kinds} == kinds | {"b": p["b"]} for p in params)


def test_a_wrong_axis_is_refused_with_its_name():
    with pytest.raises(SpecError, match=r"axis optim\.lr: is empty"):
        grid({"optim.lr": []}, "sweep=quickstart")
    with pytest.raises(SpecError, match="is no setting"):
        grid({"optim.lr": [object()]}, "sweep=quickstart")
    with pytest.raises(SpecError, match=r"optim\.lrr"):
        grid({"optim.lrr": [1]}, "sweep=quickstart")


def test_a_grid_plans_launches_and_goes_on_where_it_stood(tmp_path):
    runs = grid({"seed": range(3)}, "sweep=noop", "sweep.n=3")
    assert runs.plan(tmp_path / "sweep").to_json()["new"] == 3
    sweep = runs.launch(tmp_path / "sweep", pool="inline")
    assert list(sweep.runs()["outcome"]) == ["done"] * 3
    wider = grid({"seed": range(5)}, "sweep=noop", "sweep.n=5")
    assert wider.plan(tmp_path / "sweep").to_json()["new"] == 2
    assert len(wider.launch(tmp_path / "sweep", pool="inline").runs()) == 5
    assert len(open_sweep(tmp_path / "sweep").runs()) == 5
