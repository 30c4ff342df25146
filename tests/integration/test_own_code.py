"""Code that is not ours as it is: functions and scripts, in a project of their own, by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import open_sweep

EMSWEEP = [sys.executable, "-P", "-m", "orchestrator.cli"]
ROOT = Path(__file__).parents[2]

TRAIN = """
import os, signal, time
from pathlib import Path

IMPORTED = []

def train(params, seed, report):
    IMPORTED.append(seed)
    killed = Path(__file__).with_name("killed")
    if seed == params["kills"] and not killed.exists():
        killed.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(20)
    if seed == params["fails"]:
        raise ArithmeticError("two does not please me")
    return {"score": seed * params["a"], "nth": len(IMPORTED)}
"""
SWEEP = """# @package _global_
defaults: [{override /trainer: function}, {override /example: text}, {override /eval: none}]
trainer: {target: train:train, params: {a: 10, kills: -1, fails: -1}}
sweep: {axes: {seed: range(6)}}
"""


def emsweep(folder: Path, *words: str, code: int = 0, **more: str) -> str:
    """Output and errors of a command that ends so."""
    done = subprocess.run(
        [*EMSWEEP, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "sweep.yaml").write_text(SWEEP)
    return folder


LAUNCH = ("launch", "sweep=project/sweep.yaml", "--dir", "out", "--pool", "local", "--yes")


def test_a_function_is_a_trainer_kept_warm_by_import(project, tmp_path):
    assert "--allow-target train" in emsweep(tmp_path, *LAUNCH, code=2)
    answer = json.loads(
        emsweep(tmp_path, *LAUNCH, "cluster.num_workers=1", "--allow-target", "train", "--json")
    )
    assert (answer["committed"], answer["failed"]) == (6, 0)
    runs = open_sweep(tmp_path / "out").runs().sort_values("seed")
    assert runs["score"].tolist() == [0, 10, 20, 30, 40, 50]
    assert sorted(runs["nth"]) == [1, 2, 3, 4, 5, 6]  # one import for all


@pytest.mark.slow
def test_an_edited_function_never_passes_off_old_results_as_its_own(project, tmp_path):
    emsweep(tmp_path, *LAUNCH, "--allow-target", "train", "trainer.params.fails=2", code=1)
    (project / "train.py").write_text(TRAIN.replace('seed * params["a"]', "-seed"))
    assert "where you edit their own code, launch it again" in emsweep(tmp_path, "status", "out")
    for words in (("rerun", "out", "--failed"), ("replay", "out", "s1")):
        refused = emsweep(tmp_path, *words, code=2)
        assert "has changed since these runs were asked for" in refused
        assert "another chance" not in refused
    told = emsweep(tmp_path, "plan", "sweep=project/sweep.yaml", "--dir", "out", "trainer.params.fails=2")
    change = "train.py has changed since the last launch: 6 runs of the earlier file stay on disk, 6 to run"
    assert f"differs   {change}" in told
    assert "trainer.digest" not in told
    assert change in emsweep(tmp_path, *LAUNCH, "--allow-target", "train", "trainer.params.fails=2", code=1)
    runs = open_sweep(tmp_path / "out").runs()
    assert set(runs["score"].dropna()) == {0, -1, -3, -4, -5}


def test_a_killed_driver_is_resumed_from_elsewhere_with_the_same_file_only(project, tmp_path):
    launch = subprocess.run(
        [*EMSWEEP, *LAUNCH, "--allow-target", "train", "trainer.params.kills=3"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=200,
    )
    assert launch.returncode == -9
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (project / "train.py").write_text(TRAIN + "# edited\n")
    assert "has changed since" in emsweep(elsewhere, "resume", "../out", code=2)
    (project / "train.py").write_text(TRAIN)
    assert json.loads(emsweep(elsewhere, "resume", "../out", "--json"))["failed"] == 0
    assert open_sweep(tmp_path / "out").runs()["score"].sum() == 150
    assert json.loads(emsweep(elsewhere, "verify", "../out", "--json"))["ok"]
