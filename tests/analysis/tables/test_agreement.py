from __future__ import annotations

import pandas as pd
import pytest

from analysis.tables.agreement import agreement
from sweeps.spec.errors import UserError
from tests.analysis.synthetic import quickstart_world, write_sweep


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return [write_sweep(folder / name, quickstart_world(num_items=4)) for name in ("one", "other")]


def shift(directory, by: float, steps: slice) -> None:
    """Move the losses of the first run at some steps."""
    path = directory / "steps.parquet"
    frame = pd.read_parquet(path)
    first_run = frame.index[frame["run_id"] == frame["run_id"].iloc[0]]
    frame.loc[first_run[steps], "loss"] += by
    frame.to_parquet(path, index=False)


def test_a_sweep_agrees_with_its_twin_to_the_last_bit(pair):
    result = agreement(*pair)
    assert result.runs == result.same_accuracy == 96
    assert result.equal == result.within_rounding == result.losses == 960
    assert (result.parted, result.first_parting, result.max_abs_diff) == (0, None, 0.0)


def test_rounding_is_told_from_a_parting_and_the_parting_is_dated(pair):
    shift(pair[1], 5e-7, slice(2, 3))
    result = agreement(*pair)
    assert (result.equal, result.within_rounding, result.parted) == (959, 960, 0)
    shift(pair[1], 0.02, slice(7, None))
    result = agreement(*pair)
    assert (result.within_rounding, result.parted, result.first_parting) == (956, 1, 7)
    assert result.max_abs_diff == pytest.approx(0.02)


def test_sweeps_without_a_run_in_common_are_refused(pair, tmp_path):
    steps = pd.read_parquet(pair[1] / "steps.parquet")
    steps.assign(run_id="0" * 32).to_parquet(pair[1] / "steps.parquet", index=False)
    with pytest.raises(UserError, match="no finished run in common"):
        agreement(*pair)
