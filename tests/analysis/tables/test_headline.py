"""The headline's claims: simultaneous, over seeds and items, and corrected for the chosen peak."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import find, open_sweep
from analysis.tables.cell_table import headline
from analysis.tables.headline import family_level, headline_rows
from tests.analysis.synthetic import quickstart_world, write_sweep


def test_intervals_of_all_rows_hold_together(quickstart):
    sweep = open_sweep(quickstart)
    answer = headline_rows(sweep, ["optim.lr"], "accuracy_sampled", "gain_sampled")
    assert answer.level == pytest.approx(1 - 0.05 / 8)  # four gains, four ends
    single = sweep.cells(by=["lr"])
    for row, alone in zip(answer.rows, single.to_dict("records"), strict=True):
        assert row.gain == pytest.approx(alone["gain"])
        assert row.low < alone["gain_low"] < alone["gain_high"] < row.high
    assert "simultaneous" in headline(sweep)[0]
    assert "over seeds and items" in headline(sweep)[0]
    assert "over seeds, simultaneous" in headline(sweep, over="seeds")[0]


def test_one_claim_alone_is_not_corrected():
    assert family_level(1, 0) == 0.95
    assert family_level(9, 8) == pytest.approx(1 - 0.05 / 17)


def _plateau(directory, rng, fall=0.0):
    """All evaluated steps around one mean; the last one lower by ``fall``. Items are left out."""
    (directory / "items.parquet").unlink(missing_ok=True)
    steps = pq.read_table(directory / "steps.parquet")
    index, step = steps["index"].to_numpy(), steps["step"].to_numpy()
    judged = ~np.isnan(steps["accuracy_sampled"].to_numpy(zero_copy_only=False))
    value = np.where(judged, 0.8 + rng.normal(0, 0.03, len(step)) - fall * (step == 10), np.nan)
    column = pa.array(value, pa.float64(), from_pandas=True)
    place = steps.column_names.index("accuracy_sampled")
    pq.write_table(steps.set_column(place, "accuracy_sampled", column), directory / "steps.parquet")
    runs = pd.read_parquet(directory / "runs.parquet")
    last = pd.Series(value[step == 10], index=index[step == 10])
    runs["accuracy_sampled"] = runs["index"].map(last)
    runs.to_parquet(directory / "runs.parquet", index=False)
    return open_sweep(directory)


def test_a_plateau_does_not_fall_from_its_peak(tmp_path):
    directory = write_sweep(tmp_path / "flat", quickstart_world(num_items=4))
    said = collapsed = 0
    for draw in range(15):
        sweep = _plateau(directory, np.random.default_rng(draw))
        said += any("below its own peak" in line for line in headline(sweep))
        collapsed += find(sweep, "decoupling").table.frame["collapse_step"].notna().any()
    assert said <= 2
    assert collapsed <= 2


def test_a_fall_beyond_noise_is_said_with_its_step(tmp_path):
    directory = write_sweep(tmp_path / "fall", quickstart_world(num_items=4))
    sweep = _plateau(directory, np.random.default_rng(0), fall=0.3)
    assert sum("below its own peak at step" in line for line in headline(sweep)) == 4
    assert (find(sweep, "decoupling").table.frame["collapse_step"] == 10).all()
