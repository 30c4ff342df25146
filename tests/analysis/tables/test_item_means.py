"""Verdicts per item, against the lists of ``items()`` averaged one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import open_sweep
from analysis.tables.item_means import item_means
from analysis.tables.seed_values import gather
from tests.analysis.synthetic import quickstart_world, write_sweep


def _by_hand(sweep, by, group, seed, step_of) -> np.ndarray:
    """Mean verdict per item over the finished runs of one group and seed."""
    items = sweep.items()
    runs = sweep.runs(["run_id", "accuracy_sampled"])
    items = items.merge(runs[runs["accuracy_sampled"].notna()], on="run_id")
    items = items[(items["mode"] == "sampled") & (items["temperature"] == 1.0) & (items["seed"] == seed)]
    for key in by:
        items = items[items[key] == group[key]]
    rows = [step_of(rows_of_run) for _, rows_of_run in items.groupby("run_id")]
    return np.mean([np.asarray(row["correct"]) / row["num_samples"] for row in rows], axis=0)


def _last(evaluations: pd.DataFrame) -> pd.Series:
    return evaluations.loc[evaluations["step"].idxmax()]


def _first(evaluations: pd.DataFrame) -> pd.Series:
    return evaluations.loc[evaluations["step"].idxmin()]


@pytest.fixture(scope="module", params=[1, 3])
def several(request, tmp_path_factory):
    """A small sweep with holes, judged with one or three samples an item."""
    world = quickstart_world(num_items=7, num_samples=request.param, diverged=0.1)
    return write_sweep(tmp_path_factory.mktemp("verdicts") / "several", world)


@pytest.mark.parametrize("by", [["optim.lr"], ["model", "example", "optim.lr"]])
def test_means_are_those_of_the_stored_lists(several, by):
    sweep = open_sweep(several)
    gathered = gather(sweep, by, "accuracy_sampled")
    last, base = item_means(sweep, gathered, by, "accuracy_sampled")
    last_GSI, base_GSI = last[:], base[:]
    for g in (0, len(gathered.groups) - 1):
        group = gathered.groups.iloc[g]
        for s, seed in enumerate(gathered.seeds):
            if np.isnan(gathered.values[g, s]):
                assert np.isnan(last_GSI[g, s]).all()
                continue
            assert last_GSI[g, s] == pytest.approx(_by_hand(sweep, by, group, seed, _last))
            assert base_GSI[g, s] == pytest.approx(_by_hand(sweep, by, group, seed, _first))
    assert last.minus(base)[:] == pytest.approx(last_GSI - base_GSI, nan_ok=True)


def test_runs_that_drew_differently_often_weigh_alike(several):
    """Half of the runs get ten times the samples and counts: shares, and so means, stay what they were."""
    sweep = open_sweep(several)
    before, _ = item_means(sweep, gather(sweep, ["model"], "accuracy_sampled"), ["model"], "accuracy_sampled")
    expected = before[:]
    path = several / "items.parquet"
    stored = path.read_bytes()
    items = pd.read_parquet(path)
    factor = np.where(items["index"] % 2 == 0, 10, 1)
    items["correct"] = [k * np.asarray(c) for k, c in zip(factor, items["correct"], strict=True)]
    items["num_samples"] *= factor
    items.to_parquet(path, index=False)
    try:
        sweep = open_sweep(several)
        gathered = gather(sweep, ["model"], "accuracy_sampled")
        means, _ = item_means(sweep, gathered, ["model"], "accuracy_sampled")
        assert means[:] == pytest.approx(expected, rel=1e-5)
    finally:
        path.write_bytes(stored)
