"""``emsweep show``: one run, whole, as text and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.inspect.show import run_shown, shown_text
from sweeps.spec import spec_from_dict
from sweeps.spec.errors import UserError

ROOT = Path(__file__).parents[3]

TRAIN = """
def train(params, seed):
    for line in range(60):
        print(f"line {line} of seed {seed}")
    if params["rate"] > 1:
        raise ValueError("the rate is above one")
    return {"loss": params["rate"] * seed}
"""
SWEEP = """# @package _global_
defaults: [{override /trainer: function}]
trainer: {target: train:train}
sweep:
  axes: {trainer.params.rate: [0.5, 2.0], seed: [1, 2]}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    project = tmp_path_factory.mktemp("project")
    (project / "train.py").write_text(TRAIN)
    (project / "mine.yaml").write_text(SWEEP)
    words = ["launch", "sweep=mine.yaml", "--allow-target", "train", "--pool", "local"]
    command = [sys.executable, "-m", "orchestrator.cli", *words, "--dir", "results"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    return project / "results"


def test_a_finished_run_is_shown_with_what_it_measured_and_printed(directory):
    shown = run_shown(directory, "rate0.5·s2")
    assert shown["outcome"] == "done"
    assert shown["axes"] == {"trainer.params.rate": 0.5, "seed": 2}
    assert shown["metrics"]["loss"] == 1.0
    assert [line["text"] for line in shown["output"]] == [f"line {i} of seed 2" for i in range(60)]
    assert spec_from_dict(shown["config"]).run_id == shown["run_id"]


def test_a_failed_run_is_shown_with_its_attempts_and_no_metrics(directory):
    shown = run_shown(directory, "rate2·s1")
    assert shown["outcome"] in ("failed", "quarantined")
    assert shown["metrics"] == {}
    assert "above one" in shown["attempts"][0]["error"]
    assert {line["attempt"] for line in shown["output"]} == {a["attempt"] for a in shown["attempts"]}
    text = shown_text(shown)
    assert "above one" in text
    assert "metrics:" not in text


def test_the_text_names_what_the_sweep_set_and_leaves_out_what_an_own_trainer_does_not_read(directory):
    text = shown_text(run_shown(directory, "rate0.5·s2"))
    assert "trainer.target = train:train" in text
    assert "loss = 1" in text
    assert "model.path" not in text


def test_the_command_prints_the_last_lines_and_all_of_them_as_json(directory, capsys):
    run_id = run_shown(directory, "rate0.5·s1")["run_id"]
    assert main(["show", str(directory), run_id[:8], "--lines", "3"]) == 0
    printed = capsys.readouterr().out
    assert "line 57 of seed 1" in printed
    assert "line 56 of seed 1" not in printed
    assert main(["show", str(directory), run_id[:8], "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["output"]) == 60


def test_a_run_that_is_not_there_is_named(directory):
    with pytest.raises(UserError, match="no run has that id or name"):
        run_shown(directory, "zzzz")
