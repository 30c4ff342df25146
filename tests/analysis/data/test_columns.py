from __future__ import annotations

import numpy as np
import pytest

from analysis import open_sweep
from analysis.data.sweep import Sweep


@pytest.mark.parametrize(
    "text", ["", "model=tiny-64", "lr>=1e-4 seed<3", "outcome=done", "outcome!=done", "example=car* seed=0"]
)
def test_columns_of_a_filtered_sweep_are_those_that_a_query_with_the_filter_gives(ragged, text):
    taken = open_sweep(ragged).where(text).columns(["gain_sampled"])
    read = Sweep([ragged], filters=[text]).columns(["gain_sampled"])
    everything = open_sweep(ragged).arrow("SELECT index FROM runs")
    assert np.array_equal(taken.locate(everything), read.locate(everything))
    assert np.array_equal(taken.metric("gain_sampled"), read.metric("gain_sampled"), equal_nan=True)
    assert np.array_equal(taken.metric("wall_s"), read.metric("wall_s"), equal_nan=True)
    for key in (*open_sweep(ragged).axis_keys, "outcome", "sweep"):
        for one, other in zip(taken.levels(key), read.levels(key), strict=True):
            assert np.array_equal(one, other)
    for by in ([], ["model"], ["optim.lr", "example"], ["seed"]):
        one, other = taken.group(by), read.group(by)
        assert np.array_equal(one.number, other.number)
        assert taken.frame(one).equals(read.frame(other))


def test_filters_narrow_step_by_step_as_at_once(ragged):
    once = open_sweep(ragged).where("model=tiny-64 lr>=1e-4").columns(["gain_sampled"])
    twice = open_sweep(ragged).where("model=tiny-64").where("lr>=1e-4").columns(["gain_sampled"])
    assert np.array_equal(once.metric("gain_sampled"), twice.metric("gain_sampled"), equal_nan=True)
    sums = [columns.step_means("accuracy_sampled").sums for columns in (once, twice)]
    assert np.array_equal(*sums)
