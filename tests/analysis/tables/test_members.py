"""Tables say of which runs they speak: nothing is left out in silence, and a curve is of the same runs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import find, open_sweep
from analysis.report import build_report
from analysis.tables.best_cells import best_cells
from analysis.tables.cell_table import cell_table, headline
from analysis.tables.importance import importance
from analysis.tables.peaks import MEMBERS_CHANGE
from analysis.tables.seed_values import curves
from sweeps.grid.filters import write_term
from sweeps.spec.errors import UserError
from tests.analysis.grids import write_grid
from tests.analysis.synthetic import World, quickstart_world, write_sweep


def _replace(directory, table, **columns):
    frame = pq.read_table(directory / f"{table}.parquet")
    for name, values in columns.items():
        frame = frame.set_column(frame.column_names.index(name), name, pa.array(values))
    pq.write_table(frame, directory / f"{table}.parquet")


@pytest.fixture
def horizons(tmp_path):
    """Runs of 5 steps end at 0.6; runs of 10 reach 0.9 at step 5 and end at 0.74."""
    axes = {"optim.lr": (1e-4, 2e-4), "steps": (5, 10), "seed": tuple(range(3))}
    directory = write_sweep(tmp_path / "horizons", World(axes=axes, num_items=20))
    horizon = dict(enumerate(open_sweep(directory).runs(["index", "steps"])["steps"]))
    steps = pq.read_table(directory / "steps.parquet")
    index, step = steps["index"].to_numpy(), steps["step"].to_numpy()
    ends = np.array([horizon[i] for i in index])
    value = np.select([step == 0, ends == 5, step <= 5], [0.5, 0.5 + 0.02 * step, 0.5 + 0.08 * step], 0.74)
    judged = np.isin(step, (0, 1, 2, 5, 10)) & (step <= ends)
    _replace(directory, "steps", accuracy_sampled=np.where(judged, value, np.nan))
    final = [0.6 if horizon[i] == 5 else 0.74 for i in range(len(horizon))]
    _replace(directory, "runs", accuracy_sampled=final)
    return open_sweep(directory)


def test_peak_and_fall_of_a_row_of_two_horizons_are_of_the_same_runs(horizons):
    frame = cell_table(horizons, by=["lr"]).frame
    # At step 5 the two horizons average 0.75, at their own ends 0.67: not 0.74 at step 10 without a fall.
    assert frame["peak"].tolist() == pytest.approx([0.75, 0.75])
    assert frame["peak_step"].tolist() == [5, 5]
    assert frame["final"].tolist() == pytest.approx([0.67, 0.67])
    assert frame["final"].tolist() == pytest.approx(frame["mean"].tolist())
    assert frame["fall"].tolist() == pytest.approx([-0.08, -0.08])
    assert MEMBERS_CHANGE in cell_table(horizons, by=["lr"]).notes


def test_a_row_of_one_horizon_has_its_own_last_step(horizons):
    frame = cell_table(horizons, by=["steps"]).frame.set_index("steps")
    assert frame["peak_step"].to_dict() == {5: 5, 10: 5}
    assert frame["fall"].to_dict() == pytest.approx({5: 0.0, 10: -0.16})


def test_a_curve_stops_where_its_runs_no_longer_are_the_same(horizons):
    assert curves(horizons, ["optim.lr"], "accuracy_sampled")["step"].max() == 5
    assert curves(horizons, ["steps"], "accuracy_sampled")["step"].max() == 10


def test_the_base_is_no_peak(tmp_path):
    """Judged at steps 0 and 10 only, and lower at the end: it was "0.6 points below its peak at step 0"."""
    world = quickstart_world(num_items=20, eval_steps=(0, 10), item_steps=(0, 10))
    directory = write_sweep(tmp_path / "s", world)
    step = pq.read_table(directory / "steps.parquet")["step"].to_numpy()
    _replace(directory, "steps", accuracy_sampled=np.select([step == 0, step == 10], [0.9, 0.8], np.nan))
    runs = pq.read_table(directory / "runs.parquet").num_rows
    _replace(directory, "runs", accuracy_sampled=[0.8] * runs, gain_sampled=[-0.1] * runs)
    sweep = open_sweep(directory)
    assert (cell_table(sweep).frame["peak_step"] == 10).all()
    assert "peak" not in " ".join(headline(sweep))
    assert find(sweep, "decoupling").missing is not None


@pytest.fixture
def gap(tmp_path):
    """96 runs of which one failed: the best cell's first seed."""
    directory = write_sweep(tmp_path / "gap", quickstart_world(num_items=20))
    runs = open_sweep(directory).runs()
    value = np.where((runs["model"] == "tiny-64") & (runs["optim.lr"] == 2e-4), 0.9, 0.5)
    value = value + 0.05 * (runs["example"] == "unsure") + 0.001 * runs["seed"]
    best = runs["example"].eq("unsure") & runs["model"].eq("tiny-64") & runs["optim.lr"].eq(2e-4)
    failed = int(np.flatnonzero(best & (runs["seed"] == 0))[0])
    value[failed] = np.nan
    outcome = ["failed" if i == failed else "done" for i in range(len(runs))]
    _replace(directory, "runs", accuracy_sampled=value.to_numpy(), outcome=outcome)
    return open_sweep(directory)


def test_the_best_of_many_cells_says_which_took_no_part_and_why(gap):
    sentence = best_cells(gap).sentence
    assert "the 23 cells with all 4 seeds" in sentence
    assert "1 cell of 24 took no part, for want of a seed" in sentence
    assert "1 failed" in sentence
    assert "best of 24 cells" not in sentence


def test_tables_say_why_runs_have_no_value(gap):
    assert "Of 96 runs 1 have none (1 failed)" in " ".join(cell_table(gap).notes)


@pytest.mark.parametrize("work", [cell_table, best_cells, importance, build_report])
def test_a_selection_without_runs_is_one_line_that_says_what_there_is(quickstart, work):
    sweep = open_sweep(quickstart).where("outcome=failed")
    with pytest.raises(UserError, match="no run matches outcome=failed; there are 96 done"):
        work(sweep)


def test_a_selection_of_failed_runs_is_a_table_of_counts(gap):
    table = cell_table(gap.where("outcome=failed"))
    assert table.frame["expected"].tolist() == [1]
    assert "–" in table.text()
    assert best_cells(gap.where("outcome=failed")).check is None
    build_report(gap.where("outcome=failed"))


def test_a_table_by_seed_has_a_row_a_seed_and_no_interval(quickstart):
    sweep = open_sweep(quickstart)
    table = cell_table(sweep, by=["lr", "seed"])
    runs = sweep.runs()
    expected = runs.groupby(["optim.lr", "seed"])["accuracy_sampled"].mean()
    found = table.frame.set_index(["optim.lr", "seed"])["mean"]
    assert found.to_dict() == pytest.approx(expected.to_dict())
    assert len(table.frame) == 16
    assert "CI" not in table.text()


def test_one_seed_cannot_be_tested_and_is_one_seed(tmp_path):
    axes = {"model": ("a", "b"), "optim.lr": (1e-4, 2e-4), "seed": (0,)}
    lines = headline(open_sweep(write_sweep(tmp_path / "one", quickstart_world(axes=axes, num_items=20))))
    assert all("an effect on accuracy cannot be tested" in line for line in lines[1:])
    assert all("1 seed × 2 cells" in line for line in lines[1:])
    assert "no clear effect" not in " ".join(lines)
    assert "1 seeds" not in " ".join(lines)


VALUES = ["star*", "starfish", "x y", "it's", 'a"b', "null", "true", "1", "a,b", "[x]", "{y}", "=z", "(p)"]
VALUES += ["*", "!q", "a\\b", "'", '"', " lead", "é", "<", ">=1", "[0,1]", "a=b c=d", "\tt"]


def test_a_value_selects_itself_whatever_it_is_and_a_report_bears_it(tmp_path):
    """``star*`` must not select ``starfish`` too: the best value is narrowed to on its own."""
    file = tmp_path / "odd.yaml"
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in VALUES if value != "\tt")
    file.write_text(
        "# @package _global_\n"
        "trainer: {target: trainers.noop.Noop}\n"
        f'sweep: {{axes: {{trainer.params.tag: [{listed}, "\\tt"], seed: range(3)}}}}\n'
    )

    def value(axes, rng):
        gain = 0.3 if axes["trainer.params.tag"] == "star*" else 0.1
        return {"accuracy_sampled": 0.5 + gain, "gain_sampled": gain + rng.normal(0, 0.01)}

    sweep = open_sweep(write_grid(tmp_path / "odd", file, value))
    for one in VALUES:
        assert (
            sweep.where(write_term("trainer.params.tag", one)).runs()["trainer.params.tag"].tolist()
            == [one] * 3
        )
    assert "star*" in best_cells(sweep).sentence
    assert "starfish" in build_report(sweep)


def test_a_row_that_averages_fewer_cells_than_others_is_named(tmp_path):
    directory = write_sweep(tmp_path / "s", quickstart_world(num_items=20))
    runs = open_sweep(directory).runs()
    lost = runs["optim.lr"].eq(1e-3) & runs["example"].ne("carry")
    outcome = np.where(lost, "diverged", "done")
    value = np.where(lost, np.nan, runs["accuracy_sampled"])
    _replace(directory, "runs", accuracy_sampled=value, outcome=outcome)
    notes = " ".join(cell_table(open_sweep(directory), by=["lr"]).notes)
    assert "Rows of fewer cells than asked for" in notes
    assert "optim.lr=1e-3 (2 of 6)" in notes
    assert "optim.lr=2e-4 (" not in notes


def test_a_left_out_cell_that_leads_on_the_seeds_it_has_is_named(gap):
    assert (
        "example=unsure optim.lr=2e-4 among them, which leads on the seeds it has" in best_cells(gap).sentence
    )


def test_runs_without_a_base_are_said_to_be_left_out_of_gains(tmp_path):
    directory = write_sweep(tmp_path / "s", quickstart_world(num_items=20))
    gain = open_sweep(directory).runs()["gain_sampled"].to_numpy(copy=True)
    gain[:8] = np.nan
    _replace(directory, "runs", gain_sampled=gain)
    notes = cell_table(open_sweep(directory), over="seeds").notes
    assert "8 runs of 96 have no base to gain over: gains leave them out." in notes


def test_captions_of_curves_say_where_their_runs_differ(horizons):
    said = "it has the steps that all of them share"
    assert said in find(horizons, "decoupling").figure.caption
    assert said not in find(horizons.where("steps=10"), "decoupling").figure.caption
