from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.stats.intervals import CHANGE
from analysis.stats.testing import (
    benjamini_hochberg,
    crossed_difference,
    holm,
    paired_difference,
    unpaired_difference,
)


@pytest.mark.parametrize("n", [2, 4, 9, 16])
def test_the_paired_test_is_scipys_paired_t_test(n):
    d = np.random.default_rng(n).normal(0.4, 1, n)
    assert paired_difference(d).p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


@pytest.mark.parametrize(("n", "m", "deviations"), [(9, 7, (1, 1)), (16, 4, (1, 4))])
def test_the_unpaired_test_is_welchs(n, m, deviations):
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, deviations[0], n), rng.normal(1, deviations[1], m)
    assert unpaired_difference(a, b).p == pytest.approx(stats.ttest_ind(b, a, equal_var=False).pvalue)


def test_unequal_numbers_and_deviations_do_not_reject_too_often():
    """16 against 4 seeds of a fourfold deviation: shuffled labels reject an equal mean in 31 % of samples."""
    rng = np.random.default_rng(6)
    p = [unpaired_difference(rng.normal(0, 1, 16), rng.normal(0, 4, 4)).p for _ in range(3000)]
    assert np.mean(np.array(p) < 0.05) <= 0.065


@pytest.mark.parametrize("n", [4, 8, 16])
def test_p_values_are_uniform_under_the_null(n):
    rng = np.random.default_rng(n)
    p = np.array([paired_difference(rng.normal(size=n)).p for _ in range(1500)])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.02)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8), st.sampled_from([None, 40.0, 1e4]))
def test_the_interval_leaves_zero_out_exactly_where_p_is_small(values, verdicts):
    difference = paired_difference(np.array(values) / 50, bounds=CHANGE, verdicts=verdicts)
    outside = difference.low > 1e-12 or difference.high < -1e-12
    if abs(difference.p - 0.05) > 1e-6:
        assert outside == (difference.p < 0.05)


def test_a_clear_difference_of_four_seeds_has_a_small_p():
    assert paired_difference(np.array([-0.80, -0.78, -0.785, -0.77])).p < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_and_benjamini_hochberg_are_those_of_statsmodels(p):
    assert holm(np.array(p)) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(np.array(p)) == pytest.approx(multipletests(p, method="fdr_bh")[1])


def test_a_paired_difference_is_scipys_paired_t_interval_and_cohens_d():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.80, 0.02, 16), rng.normal(0.83, 0.02, 16)
    difference = paired_difference(b - a)
    expected = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert difference.effect_size == pytest.approx(np.mean(b - a) / np.std(b - a, ddof=1))
    assert difference.superiority == np.mean(b > a)


def test_an_unpaired_difference_is_scipys_welch_interval():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 12), rng.normal(1, 3, 7)
    difference = unpaired_difference(a, b)
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert not difference.paired


def test_one_pair_has_neither_interval_nor_p():
    difference = paired_difference(np.array([0.1]))
    assert difference.mean == 0.1
    assert np.isnan([difference.low, difference.high, difference.p, difference.effect_size]).all()


def test_differences_that_do_not_vary_have_no_effect_size():
    difference = paired_difference(np.full(8, 0.1))
    assert np.isnan(difference.effect_size)
    assert (difference.low, difference.high) == pytest.approx((0.1, 0.1))
    assert difference.p == 0
    assert np.isnan(difference.power(0.1))


@pytest.mark.parametrize("over", ["seeds", "items", "both"])
def test_a_crossed_difference_has_one_interval_p_and_power(over):
    rng = np.random.default_rng(7)
    values = 0.1 + rng.normal(0, 0.05, (6, 1)) + rng.normal(0, 0.3, (1, 80)) + rng.normal(0, 0.3, (6, 80))
    difference = crossed_difference(values, over)
    assert difference.mean == pytest.approx(values.mean())
    assert (difference.low > 0) == (difference.p < 0.05)
    at_the_end = abs(difference.low - difference.mean)
    assert difference.power(at_the_end) == pytest.approx(0.5, abs=0.07)  # an effect of half the width
    if over == "seeds":
        assert difference.p == pytest.approx(stats.ttest_1samp(values.mean(axis=1), 0).pvalue)
    if over == "items":
        assert difference.p == pytest.approx(stats.ttest_1samp(values.mean(axis=0), 0).pvalue)


def test_a_method_that_differs_by_item_is_no_difference_between_methods():
    """No true difference, but a variance of method × item: seeds alone find one, seeds and items do not."""
    rng = np.random.default_rng(8)
    found = {"seeds": 0, "both": 0}
    for _ in range(600):
        values = rng.normal(0, 0.1, (1, 100)) + rng.normal(0, 0.4, (8, 100))
        for over in found:
            found[over] += crossed_difference(values, over).p < 0.05
    assert found["seeds"] / 600 > 0.1
    assert found["both"] / 600 <= 0.07


def test_no_changed_verdict_at_all_leaves_room_for_the_items_that_were_not_seen():
    difference = crossed_difference(np.zeros((4, 50)), "both", bounds=CHANGE)
    assert difference.low < -0.01
    assert difference.high > 0.01
    assert difference.p == 1
