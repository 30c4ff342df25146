from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from analysis.stats.testing import (
    benjamini_hochberg,
    holm,
    label_permutation_test,
    paired_difference,
    paired_power,
    pairs_needed,
    sign_flip_test,
    unpaired_difference,
)


@pytest.mark.parametrize("n", [2, 4, 9, 12])
def test_the_sign_flip_test_is_scipys_exact_permutation_test(n):
    d = np.random.default_rng(n).normal(0.4, 1, n)
    theirs = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(d) == pytest.approx(theirs.pvalue)


def test_the_sign_flip_test_of_many_pairs_agrees_with_the_exact_one():
    d = np.random.default_rng(1).normal(0.35, 1, 20)
    more = np.concatenate([d, np.zeros(5)])  # zeros change no sum, but force the Monte Carlo path
    assert sign_flip_test(more) == pytest.approx(sign_flip_test(d), abs=0.005)


def test_four_seeds_cannot_give_a_p_below_one_eighth():
    assert sign_flip_test(np.array([5.0, 5.1, 5.2, 5.3])) == 2 / 16


@pytest.mark.parametrize("n", [4, 8, 16])
def test_p_values_are_uniform_under_the_null(n):
    rng = np.random.default_rng(n)
    p = np.array([sign_flip_test(rng.normal(size=n)) for _ in range(1500)])
    for level in (0.125, 0.25, 0.5, 0.75):  # values that an exact test of 4 pairs can attain
        assert np.mean(p <= level) == pytest.approx(level, abs=0.035)
    if n == 16:
        assert stats.kstest(p, "uniform").pvalue > 0.01
        assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.02)


def test_the_unpaired_test_agrees_with_scipys():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 1, 9), rng.normal(1, 1, 7)
    theirs = stats.permutation_test((a, b), lambda x, y: np.mean(x) - np.mean(y), n_resamples=50_000, rng=1)
    assert label_permutation_test(a, b) == pytest.approx(theirs.pvalue, abs=0.004)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_and_benjamini_hochberg_are_those_of_statsmodels(p):
    assert holm(np.array(p)) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(np.array(p)) == pytest.approx(multipletests(p, method="fdr_bh")[1])


@pytest.mark.parametrize(("effect", "deviation", "n"), [(0.01, 0.02, 16), (0.03, 0.02, 4), (0.0, 1.0, 8)])
def test_power_is_that_of_statsmodels(effect, deviation, n):
    theirs = TTestPower().power(effect / deviation, n, 0.05, alternative="two-sided")
    assert paired_power(effect, deviation, n) == pytest.approx(theirs, abs=1e-6)


def test_pairs_needed_is_the_smallest_number_with_the_power():
    n = int(pairs_needed(0.01, 0.02))
    assert paired_power(0.01, 0.02, n) >= 0.8 > paired_power(0.01, 0.02, n - 1)
    assert n == int(np.ceil(TTestPower().solve_power(0.5, power=0.8, alpha=0.05)))


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
    assert difference.p == 2 / 2**8
