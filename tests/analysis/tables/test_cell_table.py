from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from analysis import open_sweep
from analysis.tables.cell_table import cell_table, closing_table, headline
from sweeps.spec.errors import UserError
from tests.analysis.by_hand import seed_values
from tests.analysis.synthetic import quickstart_world, write_sweep
from tests.orchestrator.sweeping import noop_manifest, run


def test_a_cells_mean_and_interval_are_those_of_scipy(quickstart):
    sweep = open_sweep(quickstart)
    frame = cell_table(sweep, over="seeds").frame
    runs = sweep.runs()
    assert len(frame) == 24
    plain = 0
    for _, row in frame.iterrows():
        same = (runs["model"] == row["model"]) & (runs["example"] == row["example"])
        values = runs.loc[same & (runs["optim.lr"] == row["optim.lr"]), "accuracy_sampled"]
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert row["mean"] == pytest.approx(values.mean())
        if 0.05 <= values.mean() <= 0.95:  # 40 of the 800 verdicts; beyond, see the tests of intervals
            assert (row["mean_low"], row["mean_high"]) == pytest.approx((expected.low, expected.high))
            plain += 1
        assert 0 <= row["mean_low"] < row["mean_high"] <= 1
        assert (row["best"], row["worst"], row["n"]) == (values.max(), values.min(), 4)
    assert plain >= 10


def test_a_row_of_several_cells_generalises_over_seeds_not_over_runs(quickstart):
    sweep = open_sweep(quickstart)
    row = cell_table(sweep, by=["lr"], over="seeds").frame.iloc[1]
    runs = sweep.runs()
    per_seed = runs[runs["optim.lr"] == row["optim.lr"]].groupby("seed")["gain_sampled"].mean()
    expected = stats.ttest_1samp(per_seed, 0).confidence_interval(0.95)
    assert (row["gain_low"], row["gain_high"]) == pytest.approx((expected.low, expected.high))
    assert row["n"] == 4


def test_a_seed_is_not_judged_by_which_cells_it_finished(tmp_path):
    """A seed whose hard cell is missing must not look lucky: cells and seeds are fitted together."""
    world = quickstart_world(num_items=8)
    directory = write_sweep(tmp_path / "holes", world)
    path = directory / "runs.parquet"
    runs = pd.read_parquet(path)
    runs["accuracy_sampled"] = np.where(runs["optim.lr"] == 1e-3, 0.1, 0.9)
    runs.loc[(runs["optim.lr"] == 1e-3) & (runs["seed"] == 0), ["accuracy_sampled", "outcome"]] = [
        np.nan,
        "failed",
    ]
    runs.to_parquet(path, index=False)
    row = cell_table(open_sweep(directory), by=[], over="seeds").frame.iloc[0]
    assert row["mean"] == pytest.approx(0.7)
    assert (row["mean_low"], row["mean_high"]) == pytest.approx((0.7, 0.7))
    assert row["missing"] == 6


def test_peak_and_fall_are_those_of_the_mean_curve(quickstart):
    sweep = open_sweep(quickstart)
    frame = cell_table(sweep, by=["lr"]).frame.set_index("optim.lr")
    steps = sweep.steps(["optim.lr", "step", "accuracy_sampled"]).dropna()
    curve = steps[steps["optim.lr"] == 1e-3].groupby("step")["accuracy_sampled"].mean()
    assert frame.loc[1e-3, "peak"] == pytest.approx(curve.max())
    assert frame.loc[1e-3, "peak_step"] == curve.idxmax()
    assert frame.loc[1e-3, "fall"] == pytest.approx(curve.loc[10] - curve.max())
    assert frame.loc[1e-3, "fall"] < -0.5


def test_missing_failed_and_diverged_runs_are_counted_and_the_rule_is_stated(ragged):
    sweep = open_sweep(ragged)
    counts = sweep.counts()
    table = cell_table(sweep, by=["model"])
    assert table.frame["diverged"].sum() == counts["diverged"] > 0
    assert table.frame["missing"].sum() == counts["failed"] + counts["pending"]
    assert table.frame["valued"].sum() == counts["done"]
    assert any("Rule:" in note and f"{counts['diverged']} diverged" in note for note in table.notes)


def test_one_seed_has_no_interval_and_the_table_says_so(tmp_path):
    axes = {"model": ("tiny-64",), "example": ("carry",), "optim.lr": (1e-4, 2e-4), "seed": (7,)}
    sweep = open_sweep(write_sweep(tmp_path / "lone", quickstart_world(axes=axes, num_items=20)))
    table = cell_table(sweep)
    assert table.frame[["mean_low", "mean_high", "iqm_low", "gain_low"]].isna().all(axis=None)
    assert "[no interval]" in table.text()
    assert any("One seed gives no interval" in note for note in table.notes)


def test_a_constant_metric_has_an_interval_of_no_width(tmp_path):
    world = quickstart_world(num_items=8, extra_metrics={"num_things": 3.0})
    frame = cell_table(open_sweep(write_sweep(tmp_path / "flat", world)), metric="num_things").frame
    for name in ("mean", "iqm", "median"):
        assert (frame[f"{name}_low"] == 3.0).all()
        assert (frame[f"{name}_high"] == 3.0).all()


def test_an_unknown_metric_or_axis_names_the_nearest(quickstart):
    sweep = open_sweep(quickstart)
    with pytest.raises(UserError, match='did you mean "accuracy_sampled"'):
        cell_table(sweep, metric="acuracy_sampled")
    with pytest.raises(UserError, match="did you mean"):
        cell_table(sweep, by=["modle"])


def test_every_form_holds_the_same_numbers(quickstart, tmp_path):
    table = cell_table(open_sweep(quickstart), by=["model", "lr"])
    back = pd.read_csv(io.StringIO(table.render("csv")))
    assert back["mean"].tolist() == pytest.approx(table.frame["mean"].tolist())
    table.write(tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet")["mean"].tolist() == table.frame["mean"].tolist()
    shown = f"{100 * table.frame['mean'].iloc[0]:.1f} ["
    for form in ("text", "md", "latex"):
        assert shown in table.render(form)
    assert table.render("latex").count(r"\\") == 1 + len(table.frame)
    assert r"\_" in table.render("latex")
    with pytest.raises(UserError, match="choose one of"):
        table.render("xlsx")


def test_the_headline_states_the_paired_gain_and_the_collapse(quickstart):
    lines = headline(open_sweep(quickstart))
    good = next(line for line in lines if "optim.lr=2e-4" in line)
    bad = next(line for line in lines if "optim.lr=1e-3" in line)
    assert "raises accuracy" in good
    assert "lowers accuracy" in bad
    assert "below its own peak at step" in bad


def test_the_closing_table_says_where_the_files_are_and_what_to_type_next(ragged):
    text = closing_table(ragged)
    assert "tiny-32" in text
    assert f"{ragged}/" in text
    assert f"emsweep table {ragged}" in text
    assert f"emsweep resume {ragged}" in text


def files_line(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("Files:"))


def test_the_closing_table_names_only_files_that_are_there(tmp_path):
    directory = write_sweep(tmp_path / "all", quickstart_world(num_items=4))
    (directory / "logs").mkdir(exist_ok=True)
    assert files_line(closing_table(directory)).endswith("runs.parquet, steps.parquet, items.parquet, logs/")
    launched = tmp_path / "unjudged"
    run(launched, noop_manifest(3))
    line = files_line(closing_table(launched))
    assert "items.parquet" not in line
    assert not (launched / "items.parquet").exists()
    named = line.removeprefix(f"Files: {launched}/ ").split(", ")
    assert "runs.parquet" in named
    assert all((launched / name).exists() for name in named)


def test_the_closing_table_of_a_large_sweep_stays_short(study):
    text = closing_table(study)
    assert len(text.splitlines()) < 45
    assert "best 10 of 840 cells" in text


def without(directory: Path, drop: Callable[[str], bool]) -> Path:
    """The sweep, its runs' columns thinned out."""
    runs = pd.read_parquet(directory / "runs.parquet")
    runs[[c for c in runs.columns if not drop(c)]].to_parquet(directory / "runs.parquet", index=False)
    return directory


def test_without_a_sampled_accuracy_a_sweep_is_about_the_greedy_one(tmp_path):
    directory = write_sweep(tmp_path / "greedy", quickstart_world(num_items=4))
    assert "accuracy_greedy by" in closing_table(without(directory, lambda name: "sampled" in name))


def test_the_closing_table_of_a_sweep_without_any_metric_gives_counts(tmp_path):
    directory = write_sweep(tmp_path / "bare", quickstart_world(num_items=4))
    metrics = open_sweep(directory).metrics
    assert "96 done; nothing was measured" in closing_table(without(directory, lambda name: name in metrics))


def test_intervals_say_what_they_generalise_over(quickstart):
    sweep = open_sweep(quickstart)
    tables = {over: cell_table(sweep, by=["lr"], over=over) for over in ("seeds", "items", "both")}
    for over, word in (
        ("seeds", "other seeds"),
        ("items", "other items"),
        ("both", "other seeds on other items"),
    ):
        assert word in tables[over].notes[0]
        assert tables[over].frame["mean"].tolist() == pytest.approx(tables["seeds"].frame["mean"].tolist())
        assert tables[over].frame["gain"].tolist() == pytest.approx(tables["seeds"].frame["gain"].tolist())
    width = {k: (t.frame["gain_high"] - t.frame["gain_low"]).iloc[2] for k, t in tables.items()}
    assert width["both"] > width["items"] > 0
    with pytest.raises(UserError, match="choose one of seeds, items, both"):
        cell_table(sweep, over="item")


def test_intervals_over_items_pair_each_item_with_its_base(ragged):
    """The gain is the per-item difference of the runs that have both, by hand from the stored lists, cells
    and seeds fitted so that missing runs move no seed.
    """
    sweep = open_sweep(ragged)
    frame = cell_table(sweep, by=["lr"], over="items").frame.set_index("optim.lr")
    items = sweep.where("lr=2e-4").items()
    done = items[(items["outcome"] == "done") & (items["mode"] == "sampled")]
    keys = ["model", "example", "seed"]
    last, first = (done[done["step"] == s].set_index(keys)["correct"] for s in (10, 0))
    gains = (last.map(np.asarray) - first.map(np.asarray)).map(np.mean).rename("gain").reset_index()
    assert frame.loc[2e-4, "gain"] == pytest.approx(seed_values(gains, keys[:2], "gain").mean())


def test_items_are_spoken_of_where_the_metric_is_judged_on_items_only(quickstart):
    sweep = open_sweep(quickstart)
    assert "of these cells on these items would give" in cell_table(sweep, over="seeds").notes[0]
    assert "of these cells would give" in cell_table(sweep, metric="wall_s").notes[0]


def test_a_metric_without_verdicts_has_no_interval_over_items(quickstart):
    with pytest.raises(UserError, match="has no verdicts per item"):
        cell_table(open_sweep(quickstart), metric="wall_s", over="items")


def test_an_axis_that_is_absent_for_some_runs_makes_rows_of_its_own(tmp_path):
    directory = write_sweep(tmp_path / "absent", quickstart_world(num_items=8))
    for name in ("runs", "manifest"):
        table = pq.read_table(directory / f"{name}.parquet")
        lr = table["optim.lr"].to_pylist()
        lr = pa.array([None if x == 3e-5 else x for x in lr], pa.float64())
        table = table.set_column(table.column_names.index("optim.lr"), "optim.lr", lr)
        pq.write_table(table, directory / f"{name}.parquet")
    frame = cell_table(open_sweep(directory), by=["model", "lr"]).frame
    assert len(frame) == 8
    assert frame["optim.lr"].isna().sum() == 2
    assert frame[["mean", "mean_low", "peak", "gain"]].notna().all(axis=None)
