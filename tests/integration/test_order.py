"""A sweep whose runs start from one another, from its file to its finding."""

from __future__ import annotations

import json

import pytest

from analysis import open_sweep
from analysis.findings import find
from orchestrator.cli import main

SWEEP = """
# @package _global_
eval: {steps: [0], limit: 20}
steps: 2
example: {answer_field: answer}
sweep:
  axes:
    model: [tiny-32]
    init_from: [base, objective=em, objective=grpo]
    objective: [em, grpo]
    seed: range(3)
"""


@pytest.mark.slow
def test_orders_are_launched_verified_replayed_and_told_apart(tmp_path, capsys):
    (tmp_path / "stages.yaml").write_text(SWEEP)
    folder = str(tmp_path / "out")
    words = ["launch", f"sweep={tmp_path}/stages.yaml", "--dir", folder, "--json"]
    assert main([*words, "--pool", "local", "cluster.num_workers=1", "seed=0,1"]) == 0
    assert main([*words, "--pool", "inline"]) == 0  # only the new seed runs, what it starts from included
    assert main(["verify", folder, "--json"]) == 0
    runs = open_sweep(folder).runs()
    assert len(runs) == 18
    later = runs[(runs["init_from"] == "objective=em") & (runs["objective"] == "grpo")]
    assert (later["init_s"] > 0).all()
    capsys.readouterr()
    assert main(["replay", folder, later["run_id"].iloc[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["equal"]
    finding = find(open_sweep(folder), "order")
    assert sum("objective=grpo:" in sentence for sentence in finding.sentences) == 3, finding.sentences
    assert finding.figure.svg().startswith("<svg")
