"""Wherever a command takes an axis or a filter, the last part of its key will do."""

from __future__ import annotations

import json
import shlex

import pytest

from orchestrator.cli import main

LINES = (
    "table D rate=0.1 --by rate",
    "table D 'rate<1' --by rate,seed --metric loss",
    "compare D rate",
    "compare D rate=0.1 rate=1.0 --match-on seed",
    "compare D seed=0 seed=1 --by rate --match-on rate",
    "pooled D 'rate<1'",
    "adjust D rate",
    "profile D rate",
    "bounds D --by rate --metric accuracy",
    "need D rate",
    "need D rate=0.1 rate=1.0 --effect 2",
    "report D 'rate<1'",
    "cancel D rate=0.1",
    "rerun D rate=0.1",
)

TRAIN = """
def train(params, seed):
    return {"accuracy": 0.5 + params["rate"] / 10 + seed / 100, "loss": params["rate"] * (seed + 1)}
"""
SWEEP = """# @package _global_
defaults: [{override /trainer: function}]
trainer:
  target: train:train
  metrics: {accuracy: {direction: max, unit: share, range: [0, 1]}}
sweep:
  axes: {trainer.params.rate: [0.1, 0.5, 1.0], seed: range(4)}
  exclude: [rate=0.5 seed=3]
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    project = tmp_path_factory.mktemp("project")
    (project / "train.py").write_text(TRAIN)
    (project / "mine.yaml").write_text(SWEEP)
    words = ["launch", f"sweep={project / 'mine.yaml'}", "--allow-target", "train", "--pool", "inline"]
    assert main([*words, "--dir", str(project / "results")]) == 0
    return project / "results"


@pytest.mark.parametrize("line", LINES)
def test_a_short_name_does_what_the_whole_key_does(directory, line, capsys):
    answers = []
    for name in ("rate", "trainer.params.rate"):
        words = shlex.split(line.replace("rate", name).replace(" D ", f" {directory} "))
        assert main([*words, "--json"]) == 0, capsys.readouterr().err
        answers.append(json.loads(capsys.readouterr().out))
    short, whole = answers
    assert short.get("rows") == whole.get("rows")
