"""Accuracy round by round: planted rises, falls and plateaus are found, and nothing is made up."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import open_sweep
from analysis.findings import find
from tests.analysis.synthetic import World, write_sweep

ROUNDS, EACH = 3, 2

PLANTED = {"uncurated": (0.80, 0.86, 0.86, 0.86), "escaping_collapse": (0.80, 0.84, 0.88, 0.92)}
"""Accuracy before the first round and after each."""

NOISE = 0.004
"""Standard deviation over seeds."""


def write_rounds(folder, planted=PLANTED, seeds=8):
    world = World(
        axes={"curate": tuple(planted), "seed": tuple(range(seeds))},
        num_steps=ROUNDS * EACH,
        eval_steps=(0, 2, 4, 6),
        item_steps=(0, 6),
        num_items=20,
    )
    write_sweep(folder, world)
    steps = pq.read_table(folder / "steps.parquet").to_pandas()
    procedure = pq.read_table(folder / "runs.parquet").to_pandas().set_index("index")["curate"]
    rng = np.random.default_rng(0)
    steps["round"] = np.where(steps["step"] > 0, -(-steps["step"] // EACH), np.nan)
    steps["accuracy_sampled"] = [
        planted[procedure[index]][step // EACH] + rng.normal(0, NOISE) if step % EACH == 0 else None
        for index, step in zip(steps["index"], steps["step"], strict=True)
    ]
    pq.write_table(pa.Table.from_pandas(steps, preserve_index=False), folder / "steps.parquet")
    return open_sweep(folder)


def test_its_figure_speaks_in_words(sweep):
    figure = find(sweep, "rounds").figure
    assert "accuracy_sampled" not in figure.svg()
    assert "16 runs, 8 seeds" in figure.caption


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_rounds(tmp_path_factory.mktemp("rounds") / "sweep")


def test_each_round_has_its_accuracy_with_an_interval_over_seeds(sweep):
    frame = find(sweep, "rounds").table.frame
    found = {(row.curate, row.round): (row.value, row.low, row.high, row.n) for row in frame.itertuples()}
    assert len(found) == 8
    for procedure, accuracies in PLANTED.items():
        for number, accuracy in enumerate(accuracies):
            value, low, high, seeds = found[procedure, number]
            assert value == pytest.approx(accuracy, abs=4 * NOISE / np.sqrt(8))
            assert low < value < high
            assert seeds == 8


def test_a_rise_that_goes_on_is_told_from_a_plateau(sweep):
    said = find(sweep, "rounds").sentences
    assert "it goes on rising" in next(s for s in said if s.startswith("curate=escaping_collapse: "))
    assert "no change after the first" in next(s for s in said if s.startswith("curate=uncurated: "))
    [against] = [s for s in said if "against curate=uncurated" in s]
    assert "+6." in against or "+5." in against


def test_a_fall_after_the_first_round_is_called_one(tmp_path):
    falling = {"uncurated": (0.8, 0.9, 0.85, 0.7)}
    [said] = find(write_rounds(tmp_path / "falling", falling), "rounds").sentences
    assert "it falls again" in said


def test_one_seed_is_said_to_give_no_interval(tmp_path):
    said = find(write_rounds(tmp_path / "single", seeds=1), "rounds").sentences
    assert all("no interval" in sentence for sentence in said)
    assert not any("rising" in sentence or "falls" in sentence for sentence in said)


def test_a_sweep_without_rounds_says_what_to_record(tmp_path):
    world = World(axes={"optim.lr": (1e-4,), "seed": (0, 1)}, num_items=10)
    write_sweep(tmp_path / "plain", world)
    assert "curate=escaping_collapse" in find(open_sweep(tmp_path / "plain"), "rounds").missing
