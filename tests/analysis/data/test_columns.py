from __future__ import annotations

import numpy as np
import pytest

from analysis import open_sweep
from analysis.data import columns as columns_module
from analysis.data.sweep import SweepData


@pytest.mark.parametrize(
    "text", ["", "model=tiny-64", "lr>=1e-4 seed<3", "outcome=done", "outcome!=done", "example=car* seed=0"]
)
def test_columns_of_a_filtered_sweep_are_those_that_a_query_with_the_filter_gives(ragged, text):
    taken = open_sweep(ragged).where(text).columns(["gain_sampled"])
    read = SweepData([ragged], filters=[text]).columns(["gain_sampled"])
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
    for one, other in zip(*(c.step_values("accuracy_sampled") for c in (once, twice)), strict=True):
        assert one[0] == other[0]
        assert np.array_equal(one[1], other[1], equal_nan=True)


@pytest.mark.parametrize("at_once", [1, 200, 10_000])
def test_step_values_are_those_of_steps_however_many_are_held_at_once(ragged, monkeypatch, at_once):
    monkeypatch.setattr(columns_module, "STEP_VALUES", at_once)
    sweep = open_sweep(ragged).where("model=tiny-64")
    steps = sweep.steps(["index", "step", "accuracy_sampled"]).dropna()
    stored = steps.pivot_table(index="index", columns="step", values="accuracy_sampled")
    read = dict(sweep.columns().step_values("accuracy_sampled"))
    assert list(read) == list(stored.columns)
    index = sweep.runs(["index"])["index"]
    for step, value_R in read.items():
        expected = stored[step].reindex(index).to_numpy()
        assert np.array_equal(value_R, expected, equal_nan=True)
