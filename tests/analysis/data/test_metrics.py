"""What is said of a metric decides what is best, how it is printed, and nothing is guessed from its name."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import open_sweep
from analysis.dashboard.run_grid import grouped
from analysis.findings.seeds import seeds
from analysis.report import build_report
from analysis.tables.best_cells import best_cells
from analysis.tables.compare import compare
from sweeps.manifest.manifest_file import read_manifest
from tests.analysis.grids import write_grid
from tests.analysis.synthetic import quickstart_world, write_sweep

RMSE = {"rmse": {"direction": "min", "unit": "m", "range": [0, 10]}}


def own_sweep(folder, *, metrics=None, target="mine.Trainer", name="rmse", values=None):
    """24 cells × 4 seeds of an own trainer with one metric, which grows with the learning rate."""

    def error(axes, rng):
        return 1 + 1000 * np.asarray(axes["optim.lr"], dtype=float) + rng.normal(0, 0.01, len(axes["seed"]))

    world = quickstart_world(
        trainer={"target": target, "metrics": metrics or {}},
        extra_metrics={name: values or error},
        num_items=20,
    )
    directory = write_sweep(folder / "own", world)
    keep = {"index", "run_id", "name", "cell", "outcome", "attempt", "worker", "host", "finished_at"}
    keep |= {*world.axes, "wall_s", name, "sweep", "error", "fingerprint"}
    runs = pq.read_table(directory / "runs.parquet")
    pq.write_table(runs.select([c for c in runs.column_names if c in keep]), directory / "runs.parquet")
    for table in ("steps", "items"):
        (directory / f"{table}.parquet").unlink()
    return directory


def test_the_best_of_an_error_is_the_smallest_in_every_table(tmp_path):
    sweep = open_sweep(own_sweep(tmp_path, metrics=RMSE))
    assert sweep.metric() == "rmse"
    frame = sweep.cells()
    assert (frame["best"] <= frame["worst"]).all()
    best = best_cells(sweep)
    assert (best.table.frame["mean"].diff().dropna() >= 0).all()
    assert best.table.frame["optim.lr"].iloc[0] == 3e-5
    assert "optim.lr=3e-5" in best.sentence
    assert best.check.apparent <= best.check.held_out  # luck makes an error too small
    assert "smallest" in best.sentence


def test_the_best_of_several_seeds_of_an_error_stands_below_its_mean_in_words_and_figure(tmp_path):
    directory = own_sweep(tmp_path, metrics=RMSE)
    runs = pq.read_table(directory / "runs.parquet").to_pandas()
    runs.loc[:4, "rmse"] = np.nan
    runs.loc[:1, "outcome"] = "diverged"
    runs.to_parquet(directory / "runs.parquet", index=False)
    finding = seeds(open_sweep(directory), "rmse")
    assert all("-" not in sentence.split("stands ")[1] for sentence in finding.sentences)
    assert all("below the mean" in sentence for sentence in finding.sentences)
    assert "91 runs, 4 seeds" in finding.figure.caption, "96 runs, of which 5 have no value"
    (lifts,) = [
        rows for rows in finding.figure.chart.to_dict()["datasets"].values() if rows and "lift" in rows[0]
    ]
    assert all(row["lift"] <= 0 for row in lifts)


def test_a_unit_is_printed_and_points_are_for_shares_only(tmp_path):
    sweep = open_sweep(own_sweep(tmp_path, metrics=RMSE))
    (sentence,) = compare(sweep, "lr=3e-5", "lr=1e-3").sentences
    assert " m, 95 % CI" in sentence
    assert "points" not in sentence
    assert "Unit: m." in sweep.cell_table().notes


@pytest.mark.parametrize("name", ["accuracy", "accuracy_of_mine", "gain_in_sales"])
def test_scale_is_not_guessed_from_a_name(tmp_path, name):
    """12,000 of something called gain is not 1,200,000.0 per cent."""
    directory = own_sweep(tmp_path, name=name, values=12_000.0)
    sweep = open_sweep(directory)
    assert sweep.metric() == name
    assert not sweep.info(name).is_share
    assert "1.2e+04" in sweep.cell_table(by=["lr"]).text()
    assert "1200000" not in grouped(sweep, ["optim.lr"], name).text()
    assert "highest" in sweep.cell_table(by=["lr"]).text()
    assert "does not say which end is better" in best_cells(sweep).sentence


def test_an_own_metric_said_to_be_a_share_is_shown_in_per_cent(tmp_path):
    directory = own_sweep(
        tmp_path, name="passed", values=0.25, metrics={"passed": {"direction": "max", "unit": "share"}}
    )
    assert "25.0" in open_sweep(directory).cell_table(by=["lr"]).text()


def test_shipped_trainers_know_their_metrics(quickstart):
    sweep = open_sweep(quickstart)
    accuracy, gain, wall = (sweep.info(n) for n in ("accuracy_sampled", "gain_sampled", "wall_s"))
    assert (accuracy.direction, accuracy.is_share, accuracy.range) == ("max", True, (0.0, 1.0))
    assert (gain.difference, gain.range, gain.axis_unit) == (True, (-1.0, 1.0), "points")
    assert (wall.direction, wall.unit) == ("min", "s")
    assert sweep.info("loss").direction == "min"
    assert sweep.info("first_entropy_nats").unit == "nats"


def test_what_a_class_said_is_read_from_the_sweeps_own_file(tmp_path):
    directory = own_sweep(tmp_path)
    asked = json.loads((directory / "sweep.yaml").read_text())
    (directory / "sweep.yaml").write_text(json.dumps({**asked, "metrics": RMSE}, indent=1))
    assert open_sweep(directory).info("rmse").direction == "min"


def test_the_sweep_file_wins_over_the_class(tmp_path):
    directory = own_sweep(tmp_path, metrics={"rmse": {"direction": "max"}})
    asked = json.loads((directory / "sweep.yaml").read_text())
    (directory / "sweep.yaml").write_text(json.dumps({**asked, "metrics": RMSE}, indent=1))
    assert open_sweep(directory).info("rmse").direction == "max"


def test_the_default_metric_is_the_one_that_is_said_first(tmp_path):
    said = {"score": {"direction": "max"}, **RMSE}
    directory = own_sweep(tmp_path, metrics=said)
    runs = pq.read_table(directory / "runs.parquet")
    score = pa.array(np.arange(len(runs), dtype=float))
    pq.write_table(runs.append_column("score", score), directory / "runs.parquet")
    assert open_sweep(directory).metric() == "score"


def test_what_a_sweep_file_says_first_stays_first_in_its_manifest(tmp_path):
    """Not the first of the alphabet; and the order asks for no other runs."""
    manifests = []
    for order in (("rmse", "acc"), ("acc", "rmse")):
        file = tmp_path / f"{order[0]}.yaml"
        said = "".join(f"    {name}: {{direction: max}}\n" for name in order)
        file.write_text(
            f"# @package _global_\ntrainer:\n  target: trainers.noop.Noop\n  metrics:\n{said}"
            "sweep:\n  axes: {model: [tiny-64], seed: range(2)}\n"
        )
        folder = write_grid(tmp_path / order[0], file, lambda axes, rng: {"acc": 0.5, "rmse": rng.random()})
        assert open_sweep(folder).metric() == order[0]
        manifests.append(read_manifest(folder / "manifest.parquet"))
    assert manifests[0].digest == manifests[1].digest
    assert manifests[0].run_ids == manifests[1].run_ids


def test_a_metric_that_only_diverged_runs_have_is_not_the_default(tmp_path):
    directory = own_sweep(tmp_path)
    runs = pq.read_table(directory / "runs.parquet")
    outcome = np.array(["done"] * len(runs))
    outcome[:3] = "diverged"
    base = pa.array([1.0] * 3 + [None] * (len(runs) - 3))
    names = [n for n in runs.column_names if n not in ("rmse", "outcome")]
    table = runs.select(names).append_column("outcome", pa.array(outcome))
    table = table.append_column("base_score", base).append_column("rmse", runs["rmse"])
    pq.write_table(table, directory / "runs.parquet")
    assert open_sweep(directory).metric() == "rmse"


def test_the_report_of_a_trainer_that_should_be_small_reads_in_its_unit(tmp_path):
    text = build_report(open_sweep(own_sweep(tmp_path, metrics=RMSE)))
    assert "points" not in text.split("<h2>Questions")[0].replace("data points", "")
    assert "smallest" in text


def test_texts_of_a_few_runs_take_a_metric_from_no_other_and_are_told(tmp_path):
    directory = own_sweep(tmp_path, metrics=RMSE)
    whole = open_sweep(directory).cells()
    runs = pq.read_table(directory / "runs.parquet").to_pandas()
    texts = [json.dumps(value) for value in runs["rmse"]]
    lost = runs["cell"] == 0
    runs["rmse"] = np.where(lost, "n/a", texts)
    runs["note"] = "007"
    runs.to_parquet(directory / "runs.parquet", index=False)
    sweep = open_sweep(directory)
    assert sweep.metric() == "rmse"
    assert "note" not in sweep.metrics
    assert sweep.runs()["rmse"].tolist() == runs["rmse"].tolist()  # nothing is taken from the frame
    assert sweep.cells()["mean"].tolist()[1:] == whole["mean"].tolist()[1:]
    assert sweep.cells()["n"].tolist()[0] == 0
    assert [w for w in sweep.warnings if "rmse" in w] == [
        f"rmse: {lost.sum()} runs gave a text, such as 'n/a', which counts as missing."
    ]
