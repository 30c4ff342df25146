"""The arrays that tables rest on, against frames grouped by pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import open_sweep
from analysis.tables.seed_values import gather
from tests.analysis.by_hand import seed_values
from tests.analysis.synthetic import quickstart_world, write_sweep


@pytest.mark.parametrize("by", [[], ["optim.lr"], ["example", "model"], ["model", "example", "optim.lr"]])
@pytest.mark.parametrize("filters", [[], ["optim.lr>=1e-4", "!example=carry"]])
def test_values_are_those_of_a_dense_fit(ragged, by, filters):
    sweep = open_sweep(ragged).where(*filters)
    runs = sweep.runs()
    known = runs[runs["accuracy_sampled"].notna()]
    gathered = gather(sweep, by, "accuracy_sampled")
    assert list(gathered.seeds) == sorted(known["seed"].unique())
    for g, (_, group) in enumerate(gathered.groups.iterrows()):
        inside = np.logical_and.reduce([known[key] == group[key] for key in by] or [known["index"] >= 0])
        expected = seed_values(known[inside], ["model", "example", "optim.lr"], "accuracy_sampled")
        assert gathered.values[g] == pytest.approx(expected.reindex(gathered.seeds).to_numpy(), nan_ok=True)


def test_counts_are_those_of_the_runs(ragged):
    sweep = open_sweep(ragged)
    runs = sweep.runs()
    for _, group in gather(sweep, ["model"], "accuracy_sampled").groups.iterrows():
        group_runs = runs[runs["model"] == group["model"]]
        without = group_runs["accuracy_sampled"].isna()
        assert group["expected"] == len(group_runs)
        assert group["valued"] == (~without).sum()
        assert group["diverged"] == (group_runs["outcome"] == "diverged").sum()
        assert group["failed"] == (group_runs["outcome"] == "failed").sum()
        assert group["missing"] == (without & (group_runs["outcome"] != "diverged")).sum()
        assert (group["num_cells"], group["num_seeds"]) == (12, 4)


def test_groups_come_in_yaml_order_of_names_and_ascending_numbers(quickstart):
    groups = gather(open_sweep(quickstart), ["model", "optim.lr"], "gain_sampled").groups
    assert list(groups["model"].unique()) == ["tiny-64", "tiny-32"]
    assert list(groups["optim.lr"])[:4] == [3e-5, 1e-4, 2e-4, 1e-3]
    assert groups["model"].cat.ordered


def test_infinite_and_missing_values_do_not_count(tmp_path):
    directory = write_sweep(tmp_path / "infinite", quickstart_world(num_items=4))
    runs = pd.read_parquet(directory / "runs.parquet")
    runs.loc[runs["seed"] == 1, "accuracy_sampled"] = np.inf
    runs.loc[runs["seed"] == 2, "accuracy_sampled"] = np.nan
    runs.to_parquet(directory / "runs.parquet", index=False)
    gathered = gather(open_sweep(directory), ["model"], "accuracy_sampled")
    assert list(gathered.seeds) == [0, 3]
    assert list(gathered.groups["missing"]) == [24, 24]


def test_runs_of_two_directories_are_told_apart(tmp_path):
    axes = {"model": ("tiny-64",), "optim.lr": (1e-4, 2e-4), "seed": (0, 1)}
    one = write_sweep(tmp_path / "one", quickstart_world(axes=axes, num_items=8))
    more = axes | {"optim.lr": (4e-4, 8e-4)}
    two = write_sweep(tmp_path / "two", quickstart_world(axes=more, num_items=8, rng_seed=1))
    sweep = open_sweep(one, two)
    runs = sweep.runs().set_index(["optim.lr", "seed"])["accuracy_sampled"]
    gathered = gather(sweep, ["optim.lr"], "accuracy_sampled")
    for g, lr in enumerate(gathered.groups["optim.lr"]):
        assert list(gathered.values[g]) == [runs[lr, 0], runs[lr, 1]]
