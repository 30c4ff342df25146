from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.stats.intervals import (
    iqm_weights,
    l_interval,
    mean_interval,
    mean_weights,
    median_weights,
    t_interval,
)

STATISTICS = {
    mean_weights: np.mean,
    iqm_weights: lambda values, axis=-1: stats.trim_mean(values, 0.25, axis=axis),
    median_weights: np.median,
}


@pytest.mark.parametrize("n", [2, 4, 16, 64])
def test_the_student_interval_is_scipys(n):
    values = np.random.default_rng(n).normal(3, 2, (5, n))
    ours = t_interval(values)
    for row in range(5):
        expected = stats.ttest_1samp(values[row], 0).confidence_interval(0.95)
        assert (ours.low[row], ours.high[row]) == pytest.approx((expected.low, expected.high))


def test_absent_values_are_left_out_and_one_value_has_no_interval():
    values = np.array([[1.0, 2.0, np.nan, 4.0], [5.0, np.nan, np.nan, np.nan], [np.nan] * 4])
    ours = t_interval(values)
    assert list(ours.n) == [3, 1, 0]
    assert ours.value[0] == pytest.approx(7 / 3)
    assert ours.value[1] == 5.0
    assert np.isnan(ours.value[2])
    assert np.isnan(ours.low[1:]).all()
    boot = l_interval(values, iqm_weights)
    assert np.isnan(boot.low[1:]).all()
    assert boot.value[1] == 5.0


@pytest.mark.parametrize("weights", list(STATISTICS), ids=lambda w: w.__name__)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 16, 31])
def test_the_estimate_is_the_independent_one(weights, n):
    values = np.random.default_rng(n).exponential(size=(3, n))
    assert l_interval(values, weights).value == pytest.approx(STATISTICS[weights](values, axis=1))


@pytest.mark.parametrize("weights", list(STATISTICS), ids=lambda w: w.__name__)
@pytest.mark.parametrize("n", [8, 16, 40])
def test_the_bootstrap_interval_agrees_with_scipys_bca(weights, n):
    values = np.random.default_rng(n).exponential(size=n)
    ours = l_interval(values[None], weights, num_resamples=40_000)
    theirs = stats.bootstrap(
        (values,), STATISTICS[weights], method="BCa", n_resamples=40_000, rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low[0] == pytest.approx(theirs.low, abs=0.06 * width)
    assert ours.high[0] == pytest.approx(theirs.high, abs=0.06 * width)


@pytest.mark.parametrize("n", [4, 16, 64])
def test_mean_intervals_cover_95_percent_on_normal_data(n):
    values = np.random.default_rng(n).normal(1.0, 3.0, (8000, n))
    interval = mean_interval(values)
    cover = np.mean((interval.low <= 1.0) & (interval.high >= 1.0))
    assert 0.93 <= cover <= 0.97


def test_student_covers_less_on_skewed_data_and_the_figure_is_known():
    """Reported, not promised: 16 log-normal seeds are covered about 87 % of the time, 64 about 91 %."""
    rng = np.random.default_rng(0)
    truth = np.exp(0.5)
    cover = {}
    for n in (16, 64):
        interval = mean_interval(rng.lognormal(size=(4000, n)))
        cover[n] = np.mean((interval.low <= truth) & (interval.high >= truth))
    assert 0.83 <= cover[16] <= 0.92
    assert cover[16] < cover[64] <= 0.95


def test_groups_do_not_influence_each_other():
    values = np.random.default_rng(3).normal(size=(50, 16))
    together = l_interval(values, iqm_weights)
    alone = l_interval(values[7:8], iqm_weights)
    assert (together.low[7], together.high[7]) == pytest.approx((alone.low[0], alone.high[0]))
