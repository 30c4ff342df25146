"""Merges of a real sweep's kept weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis import open_sweep
from analysis.findings import find
from orchestrator.cli import main
from orchestrator.driver.session import Session
from orchestrator.store.earlier_sweep import EarlierSweep
from orchestrator.store.layout import Layout
from sweeps.manifest.manifest_file import read_manifest
from sweeps.manifest.merged import MergeRequest, merges_of
from sweeps.spec.errors import SpecError, UserError
from trainers.engine.checkpoint import check_weights

BENCHMARK = "pkg://trainers/tiny/data/addition_eval.jsonl"

SWEEP = """
# @package _global_
eval: {{steps: [0], limit: 40}}
steps: 2
resources: {{keep_checkpoints: {keep}}}
sweep:
  axes: {{model: [tiny-32, tiny-64], optim.lr: [4e-4], seed: range(2)}}
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A finished sweep of four runs whose weights were kept."""
    folder = tmp_path_factory.mktemp("merging")
    (folder / "sweep.yaml").write_text(SWEEP.format(keep="last"))
    words = [f"sweep={folder}/sweep.yaml", "--dir", str(folder / "kept"), "--pool", "inline", "--json"]
    assert main(["launch", *words]) == 0
    return folder / "kept"


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    path = tmp_path_factory.mktemp("held-out") / "pool.jsonl"
    rows = [{"problem": f"{a}+{b}=", "answer": f"{a + b:03d}"} for a, b in ((12, 34), (57, 54), (99, 29))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_merges_are_runs_with_rows_in_every_table(kept, held_out, tmp_path):
    words = ["--method", "soup,greedy,wise,lines", "--alphas", "0,1", "--held-out", held_out]
    words += ["--dir", str(tmp_path / "merged"), "--pool", "inline", "--keep", "--json"]
    assert main(["merge", str(kept), *words]) == 0
    merged, source = open_sweep(tmp_path / "merged").runs(), open_sweep(kept).runs()
    assert len(merged) == 2 + 2 + 8 + 8
    assert merged["run_id"].is_unique
    assert set(merged["run_id"]).isdisjoint(source["run_id"])
    keys = ["model", "seed"]
    for method, alpha, column in (
        ("wise", 1.0, "accuracy_sampled"),
        ("lines", 1.0, "accuracy_sampled"),
        ("wise", 0.0, "base_accuracy_sampled"),
    ):
        ours = merged[(merged["merge.method"] == method) & (merged["merge.alpha"] == alpha)]
        both = ours.merge(source, on=keys, suffixes=("", "_source"))
        assert len(both) == 4
        assert (both["accuracy_sampled"] == both[f"{column}_source"]).all()
    greedy = merged[merged["merge.method"] == "greedy"]
    assert (greedy["held_out_accuracy"] >= greedy["held_out_best_member"]).all()
    assert (merged["outcome"] == "done").all()
    assert main(["verify", str(tmp_path / "merged"), "--json"]) == 0
    soups = merged[merged["merge.method"] == "soup"]
    saved = tmp_path / "merged" / "checkpoints" / soups["run_id"].iloc[0] / "step-1"
    assert check_weights(saved)["run_id"] == soups["run_id"].iloc[0]
    finding = find(open_sweep(tmp_path / "merged"), "order")
    assert any("merge.alpha=1.0 minus merge.alpha=0.0, merge.method=wise" in s for s in finding.sentences)
    assert finding.figure.svg().startswith("<svg")
    before = merges_of(MergeRequest(sweep=kept, methods=["soup"]), EarlierSweep).run_ids
    assert before == merges_of(MergeRequest(sweep=kept, methods=["soup"]), EarlierSweep).run_ids


def test_filters_and_axes_choose_what_goes_together(kept):
    one = merges_of(MergeRequest(sweep=kept, methods=["soup"], filters=["seed=0"]), EarlierSweep)
    assert [len(one.spec(i).init.runs) for i in range(len(one))] == [1, 1]
    curve = merges_of(
        MergeRequest(
            sweep=kept, methods=["wise"], filters=["model=tiny-32", "lr=4e-4"], alphas=[0.0, 0.5, 1.0]
        ),
        EarlierSweep,
    )
    assert len(curve) == 2 * 3
    assert curve.num_cells == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"methods": ["suop"]}, 'did you mean "soup"'),
        ({"methods": ["soup"], "by": ["optim.lr"]}, "different architectures"),
        ({"methods": ["soup"], "by": ["colour"]}, "choose one of model"),
        ({"methods": ["wise"], "alphas": [1.5]}, "--alphas 1.5"),
        ({"methods": ["greedy"]}, "--held-out"),
        (
            {"methods": ["greedy"], "held_out": "pkg://trainers/tiny/data/addition_eval.jsonl"},
            "are in benchmark",
        ),
        ({"methods": ["soup"], "filters": ["seed=9"]}, "no run"),
    ],
)
def test_mistakes_are_told_before_anything_is_merged(kept, change, says):
    with pytest.raises((SpecError, UserError), match=says):
        merges_of(MergeRequest(sweep=kept, **change), EarlierSweep)


def test_runs_that_kept_no_weights_name_the_policy_that_would(kept, tmp_path):
    manifest = read_manifest(kept / "manifest.parquet")
    with Session(Layout(tmp_path)) as session:
        session.freeze(manifest, pool="inline")
    with pytest.raises(SpecError, match=r"keep_checkpoints=last"):
        merges_of(MergeRequest(sweep=Path(tmp_path), methods=["soup"]), EarlierSweep)
