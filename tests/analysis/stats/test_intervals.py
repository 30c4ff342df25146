from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.stats.intervals import (
    CHANGE,
    FEW_SEEDS,
    SHARE,
    iqm_interval,
    mean_interval,
    median_interval,
    t_interval,
)

STATISTICS = {
    iqm_interval: lambda values, axis=-1: stats.trim_mean(values, 0.25, axis=axis),
    median_interval: np.median,
}


def _cover(interval, truth):
    return np.mean((interval.low <= truth) & (interval.high >= truth))


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
    iqm = iqm_interval(values)
    assert np.isnan(iqm.low[1:]).all()
    assert iqm.value[1] == 5.0


@pytest.mark.parametrize("interval", list(STATISTICS), ids=lambda i: i.__name__)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 16, 31])
def test_the_estimate_is_the_independent_one(interval, n):
    values = np.random.default_rng(n).exponential(size=(3, n))
    assert interval(values).value == pytest.approx(STATISTICS[interval](values, axis=1))


@pytest.mark.parametrize("interval", list(STATISTICS), ids=lambda i: i.__name__)
@pytest.mark.parametrize("n", [6, 8, 16, 30])
def test_robust_intervals_cover_95_percent_from_six_seeds_on(interval, n):
    values = np.random.default_rng(n).normal(1.0, 3.0, (8000, n))
    assert 0.935 <= _cover(interval(values), 1.0) <= 0.975


def test_with_few_seeds_the_range_is_all_that_a_median_has():
    values = np.random.default_rng(1).normal(0, 1, (8000, FEW_SEEDS))
    interval = median_interval(values)
    assert np.array_equal(interval.low, values.min(axis=1))
    assert _cover(interval, 0.0) == pytest.approx(1 - 2.0 ** (1 - FEW_SEEDS), abs=0.01)


def test_the_interval_of_a_median_is_between_the_order_statistics_of_the_binomial():
    values = np.random.default_rng(2).normal(0, 1, (1, 20))
    ordered, interval = np.sort(values[0]), median_interval(values)  # P(at most 5 of 20 below it) is 2.07 %
    assert ordered[5] <= interval.low[0] <= ordered[6]
    assert ordered[13] <= interval.high[0] <= ordered[14]


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


@pytest.mark.parametrize("n", [4, 8, 16])
def test_shares_near_one_are_covered_where_students_interval_has_no_width(n):
    values = np.random.default_rng(n).binomial(50, 0.987, (8000, n)) / 50
    interval = mean_interval(values, bounds=SHARE, verdicts=50 * n)
    assert _cover(t_interval(values), 0.987) < 0.93
    assert _cover(interval, 0.987) >= 0.94
    assert (interval.high > interval.low).all()
    assert interval.low.min() >= 0
    assert interval.high.max() <= 1


@pytest.mark.parametrize("n", [4, 16])
def test_away_from_the_ends_a_share_has_students_interval(n):
    values = np.random.default_rng(n).binomial(50, 0.6, (500, n)) / 50
    student, interval = t_interval(values), mean_interval(values, bounds=SHARE, verdicts=50 * n)
    assert np.array_equal(interval.low, np.maximum(student.low, 0))
    assert np.array_equal(interval.high, np.minimum(student.high, 1))


def test_equal_gains_have_an_interval_all_the_same():
    interval = mean_interval(np.zeros((1, 4)), bounds=CHANGE, verdicts=200)
    assert -0.02 < interval.low[0] < 0 < interval.high[0] < 0.02


def test_no_band_leaves_the_range_of_its_metric():
    values = np.random.default_rng(0).exponential(size=(200, 4))
    assert t_interval(values).low.min() < 0
    assert mean_interval(values, bounds=(0.0, np.inf)).low.min() == 0


def test_groups_do_not_influence_each_other():
    values = np.random.default_rng(3).normal(size=(50, 16))
    together, alone = iqm_interval(values), iqm_interval(values[7:8])
    assert (together.low[7], together.high[7]) == pytest.approx((alone.low[0], alone.high[0]))
