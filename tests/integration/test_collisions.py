"""Projects that have a package of a name of ours: what they launch, and what they test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis import open_sweep

ROOT = Path(__file__).parents[2]

TRAIN = """
from {name}.own import NUMBER


def train(params, seed, report):
    report(0, half=NUMBER / 2)
    return {{"found": NUMBER}}
"""

SWEEP = """
# @package _global_
defaults: [{override /trainer: function}]
trainer: {target: train:train}
sweep: {axes: {seed: range(2)}}
"""

TEST = """
from {name}.own import NUMBER
from emsweep import report


def test_mine():
    assert NUMBER == 7
    assert not report(1, loss=NUMBER).stop
"""


def project(folder: Path, name: str) -> Path:
    """A project with a package of a name of ours, a function that uses it, and its sweep."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    (folder / name / "own.py").write_text("NUMBER = 7\n")
    (folder / "train.py").write_text(TRAIN.format(name=name))
    (folder / "sweep.yaml").write_text(SWEEP)
    return folder


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'orchestrator/hydra_launcher/plugin'}",
    }
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def launch(
    folder: Path, *more: str, allowed: Sequence[str] = ("--allow-target", "train")
) -> subprocess.CompletedProcess[str]:
    words = ("launch", "sweep=sweep.yaml", "--dir", "out", "--pool", "local", "cluster.num_workers=1")
    return command(folder, "-P", "-m", "emsweep", *words, *more, *allowed, "--json")


def test_a_function_beside_a_package_named_analysis_works_with_its_own(tmp_path):
    done = launch(project(tmp_path, "analysis"))
    assert done.returncode == 0, done.stderr
    sweep = open_sweep(tmp_path / "out")
    assert list(sweep.runs()["found"]) == [7, 7]
    assert list(sweep.steps()["half"]) == [3.5, 3.5]


def test_functions_that_import_a_package_in_our_place_fail_with_the_folder_and_the_fix(tmp_path):
    names = ("sweeps", "trainers", "orchestrator")
    for name in names:
        project(tmp_path, name)
        (tmp_path / "train.py").rename(tmp_path / f"of_{name}.py")
    targets = ",".join(f"of_{name}:train" for name in names)
    allowed = [word for name in names for word in ("--allow-target", f"of_{name}")]
    done = launch(tmp_path, f"trainer.target={targets}", "seed=0", allowed=allowed)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["failed"] == 3
    runs = open_sweep(tmp_path / "out").runs().set_index("trainer.target")
    for name in names:
        error = runs.loc[f"of_{name}:train", "error"]
        assert f"No module named '{name}.own'" in error
        assert f"{tmp_path / name}: is passed over, for emsweep has a package {name} of its own" in error
        assert "rename it" in error


def test_a_projects_own_tests_find_its_packages_and_report(tmp_path):
    names = ("sweeps", "trainers", "orchestrator", "analysis")
    for name in names:
        project(tmp_path, name)
        (tmp_path / f"test_{name}.py").write_text(TEST.format(name=name))
    done = command(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", ".")
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_a_projects_tests_may_open_sweeps_beside_a_package_that_they_do_not_import(tmp_path):
    project(tmp_path, "analysis")
    (tmp_path / "test_open.py").write_text(
        "from emsweep import open_sweep\n\n\ndef test_open():\n    assert open_sweep\n"
    )
    done = command(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_open.py")
    assert done.returncode == 0, done.stdout
    assert f"{tmp_path / 'analysis'}: is passed over" in done.stdout
