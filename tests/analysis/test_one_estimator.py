"""A mean over seeds and its interval are the same wherever they are shown, on a sweep with holes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import find, open_sweep
from analysis.dashboard.pages.cells import Choice, heatmap
from analysis.dashboard.pages.panels import PANELS
from analysis.dashboard.run_grid import grouped
from analysis.dashboard.step_curves import by_step, draw_curves
from analysis.report import build_report
from analysis.stats.intervals import CHANGE, SHARE, mean_interval
from analysis.tables.best_cells import best_cells
from analysis.tables.peaks import MEMBERS_CHANGE
from analysis.tables.seed_values import curves
from tests.analysis.by_hand import seed_values
from tests.analysis.synthetic import World, quickstart_world, write_sweep

METRIC, GAIN, LAST, NUM_ITEMS = "accuracy_sampled", "gain_sampled", 10, 40
CELL = ["model", "example", "optim.lr"]


@pytest.fixture(scope="module")
def holes(tmp_path_factory):
    """5 % of the runs failed, 5 % diverged, 5 % are pending; the last seed lacks some examples altogether."""
    world = quickstart_world(failed=0.05, diverged=0.05, pending=0.05, num_items=40, eval_temperatures=(1.0,))
    return open_sweep(write_sweep(tmp_path_factory.mktemp("holes") / "holes", world))


@pytest.fixture(scope="module")
def truth(holes):
    """Mean and interval over seeds per learning rate, by a dense fit."""
    return _by_hand(holes, METRIC)


def _by_hand(sweep, metric):
    runs = sweep.runs().dropna(subset=[metric]).astype({"model": str, "example": str})
    rows = []
    for lr, part in runs.groupby("optim.lr"):
        by_seed = seed_values(part, CELL, metric)
        bounds = CHANGE if metric == GAIN else SHARE
        ends = mean_interval(by_seed.to_numpy(), bounds=bounds, verdicts=NUM_ITEMS * len(part))
        rows.append({"optim.lr": lr, "value": by_seed.mean(), "n": len(by_seed)})
        rows[-1] |= {"low": ends.low[0], "high": ends.high[0]}
    return pd.DataFrame(rows).set_index("optim.lr")


def _is(frame, truth, value, low, high):
    frame = frame.set_index("optim.lr")
    for column, name in ((value, "value"), (low, "low"), (high, "high")):
        assert frame[column].to_numpy() == pytest.approx(truth[name].to_numpy(), abs=1e-12), column


def test_the_cell_table_and_its_peak_are_the_estimators(holes, truth):
    frame = holes.cells(by=["lr"], over="seeds")
    _is(frame, truth, "mean", "mean_low", "mean_high")
    assert frame["final"].to_numpy() == pytest.approx(frame["mean"].to_numpy(), abs=1e-12)
    at_the_end = frame[frame["peak_step"] == LAST]
    assert len(at_the_end) > 0
    assert at_the_end["peak"].to_numpy() == pytest.approx(at_the_end["mean"].to_numpy(), abs=1e-12)
    assert (at_the_end["fall"] == 0).all()


def test_the_plain_mean_of_the_runs_is_another_number_on_this_sweep(holes, truth):
    """Else the other tests here could not fail."""
    pooled = holes.runs().groupby("optim.lr")[METRIC].mean()
    assert (pooled - truth["value"]).abs().max() > 1e-3


@pytest.mark.parametrize("over", ["items", "both"])
def test_intervals_over_items_are_around_the_same_mean(holes, truth, over):
    frame = holes.cell_table(by=["lr"], over=over).frame
    seeds = holes.cells(by=["lr"])
    assert frame["mean"].to_numpy() == pytest.approx(truth["value"].to_numpy(), abs=1e-9)
    assert frame["gain"].to_numpy() == pytest.approx(seeds["gain"].to_numpy(), abs=1e-9)


def test_curves_end_in_the_mean_of_the_table(holes, truth):
    frame = curves(holes, ["optim.lr"], METRIC)
    _is(frame[frame["step"] == LAST], truth, METRIC, "low", "high")


def test_the_decoupling_finding_ends_in_the_mean_of_the_table(holes, truth):
    frame = find(holes, "decoupling").table.frame.set_index("optim.lr")
    table = holes.cells(by=["lr"]).set_index("optim.lr")
    assert frame["final"].to_numpy() == pytest.approx(truth["value"].to_numpy(), abs=1e-12)
    for name in ("peak", "peak_step", "fall"):
        assert frame[name].to_numpy() == pytest.approx(table[name].to_numpy(), abs=1e-12), name


def test_findings_about_gains_show_the_gain_of_the_table(holes):
    form = find(holes, "form").table.frame.set_index("optim.lr")
    assert form["gain"].to_numpy() == pytest.approx(_by_hand(holes, GAIN)["value"].to_numpy(), abs=1e-12)
    gains = holes.cells(by=["lr"], metric=METRIC, over="both").set_index("optim.lr")
    for end in ("gain_low", "gain_high"):  # verdicts are added up in single precision
        assert form[end].to_numpy() == pytest.approx(gains[end].to_numpy(), abs=1e-7)
    best = holes.where("lr=2e-4")  # the learning rate with the best mean gain
    table = best.cells(by=["example"], metric=GAIN, over="both").set_index("example")
    shown = find(holes, "examples").table.frame.set_index("example").reindex(table.index)
    by_model = best.cells(by=["model", "example"], metric=GAIN, over="both").set_index(["model", "example"])
    entropy = find(holes, "entropy").table.frame.set_index(["model", "example"]).reindex(by_model.index)
    for frame, expected in ((shown, table), (entropy, by_model)):
        for name, source in (("gain", "mean"), ("low", "mean_low"), ("high", "mean_high")):
            assert frame[name].to_numpy() == pytest.approx(expected[source].to_numpy(), nan_ok=True)


def test_the_seeds_finding_shows_the_mean_of_the_table(holes, truth):
    frame = find(holes, "seeds").table.frame.set_index("optim.lr")
    assert frame["mean"].to_numpy() == pytest.approx(truth["value"].to_numpy(), abs=1e-12)


def test_cells_read_the_same_in_the_table_the_ranking_and_the_dashboard(holes):
    for over in ("seeds", "both"):
        table = holes.cells(over=over).set_index(CELL)
        ranked = best_cells(holes, top=100, over=over).table.frame.set_index(CELL).reindex(table.index)
        for name in ("mean", "mean_low", "mean_high"):
            assert ranked[name].to_numpy() == pytest.approx(table[name].to_numpy(), abs=1e-6, nan_ok=True)
    table, groups = holes.cells(over="seeds").set_index(CELL), grouped(holes, CELL, METRIC).frame
    for name in ("mean", "mean_low", "mean_high"):
        shown = groups.set_index(CELL)[name.removeprefix("mean_")]
        assert np.array_equal(shown, table[name], equal_nan=True)


def test_tables_rankings_and_panels_take_seeds_and_items_where_items_are_recorded(holes):
    both, default = holes.cells(by=["lr"], over="both"), holes.cells(by=["lr"])
    pd.testing.assert_frame_equal(both, default)
    assert best_cells(holes).table.frame.equals(best_cells(holes, over="both").table.frame)
    panel = PANELS["answer"].compute(holes).table.frame
    assert panel["mean_low"].tolist() == both["mean_low"].tolist()


def test_the_dashboards_groups_tiles_and_curves_show_the_mean_of_the_table(holes, truth):
    _is(grouped(holes, ["optim.lr"], METRIC).frame, truth, "mean", "low", "high")
    choice = Choice(x="optim.lr", y=None, metric=METRIC, filter="", fixed={})
    _is(heatmap(holes, choice).table.frame, truth, "value", "low", "high")
    curve = by_step(holes, "optim.lr", METRIC)[METRIC]
    _is(curve[curve["step"] == LAST], truth, METRIC, "low", "high")
    _, points = draw_curves(holes, "optim.lr", METRIC)
    last = points.frame[(points.frame["metric"] == METRIC) & (points.frame["step"] == LAST)]
    _is(last, truth, "value", "low", "high")


def test_a_curve_per_seed_averages_to_the_curve_of_all(holes):
    alone = curves(holes, ["seed"], METRIC)
    together = curves(holes, [], METRIC).set_index("step")
    averaged = alone.groupby("step")[METRIC].mean()
    assert averaged.to_numpy() == pytest.approx(together.loc[averaged.index, METRIC].to_numpy(), abs=1e-12)


def test_loss_is_drawn_of_the_runs_whose_accuracy_is_drawn(holes):
    runs = holes.runs(["index", METRIC])
    with_result = set(runs.loc[runs[METRIC].notna(), "index"])
    steps = holes.steps(["index", *CELL, "seed", "step", "loss"]).dropna()
    steps = steps[steps["index"].isin(with_result) & (steps["step"] == 1)].astype(
        {"model": str, "example": str}
    )
    expected = {lr: seed_values(part, CELL, "loss").mean() for lr, part in steps.groupby("optim.lr")}
    curve = by_step(holes, "optim.lr", METRIC, ["loss"])["loss"]
    shown = curve[curve["step"] == 1].set_index("optim.lr")["loss"]
    assert shown.to_dict() == pytest.approx(expected, abs=1e-12)


def test_the_report_prints_one_mean_per_group(holes):
    """Its table by model and learning rate, and the sentences about peaks, of either model alone."""
    for model in ("tiny-64", "tiny-32"):
        sweep = holes.where(f"model={model}")
        text = build_report(sweep)
        by_hand, table = _by_hand(sweep, METRIC), sweep.cells(by=["lr"]).set_index("optim.lr")
        peaks = find(sweep, "decoupling").table.frame.set_index("optim.lr")
        for lr, row in by_hand.iterrows():
            mean = f"{100 * row['value']:.1f}"
            low, high = (f"{100 * table.loc[lr, name]:.1f}" for name in ("mean_low", "mean_high"))
            assert f"{mean} [{low}, {high}]" in text, (model, lr)
            if peaks.loc[lr, "peak_step"] == LAST:
                said = (f"highest at step {LAST} ({mean})", f"peaks at {mean} at step {LAST}")
                assert any(words in text for words in said), (model, lr)
        assert (peaks["peak_step"] == LAST).any()


def test_tables_say_where_a_curve_bends_because_runs_end_at_different_steps(tmp_path, holes):
    axes = {"optim.lr": (1e-4, 2e-4), "steps": (5, LAST), "seed": tuple(range(3))}
    folder = write_sweep(tmp_path / "horizons", World(axes=axes, num_items=20))
    horizon = open_sweep(folder).runs(["index", "steps"]).set_index("index")["steps"]
    for name in ("steps", "items"):
        table = pq.read_table(folder / f"{name}.parquet")
        ends = horizon.loc[table["index"].to_pylist()].to_numpy()
        pq.write_table(table.filter(pa.array(table["step"].to_numpy() <= ends)), folder / f"{name}.parquet")
    mixed = open_sweep(folder)
    assert MEMBERS_CHANGE in mixed.cell_table(by=["lr"]).notes
    assert MEMBERS_CHANGE in find(mixed, "decoupling").table.notes
    for whole in (mixed.cell_table(), mixed.where("steps=5").cell_table(by=["lr"]), holes.cell_table()):
        assert MEMBERS_CHANGE not in whole.notes
