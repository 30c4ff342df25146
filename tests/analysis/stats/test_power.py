from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from analysis.stats.crossed import standard_error
from analysis.stats.power import Variances, student_power, variances_over_both, variances_over_seeds


@pytest.mark.parametrize(("effect", "deviation", "n"), [(0.01, 0.02, 16), (0.03, 0.02, 4), (0.0, 1.0, 8)])
def test_power_over_seeds_is_that_of_statsmodels(effect, deviation, n):
    theirs = TTestPower().power(effect / deviation, n, 0.05, alternative="two-sided")
    assert variances_over_seeds(deviation).power(effect, n) == pytest.approx(theirs, abs=1e-6)


def test_seeds_needed_is_the_smallest_number_with_the_power():
    variances = variances_over_seeds(0.02)
    n = int(variances.seeds_needed(0.01))
    assert variances.power(0.01, n) >= 0.8 > variances.power(0.01, n - 1)
    assert n == int(np.ceil(TTestPower().solve_power(0.5, power=0.8, alpha=0.05)))


def test_a_correction_for_many_asks_for_more_seeds():
    variances = variances_over_seeds(0.02)
    assert variances.seeds_needed(0.01, level=0.05 / 10) > variances.seeds_needed(0.01)


def test_the_planned_error_of_the_design_itself_is_the_one_of_its_test():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (9, 1)) + rng.normal(0, 2, (1, 30)) + rng.normal(0, 1, (9, 30))
    variances = variances_over_both(values)
    error, freedom = standard_error(values[None], "both")
    assert variances.error(9, 30) == pytest.approx(error[0])
    assert variances.freedom(9, 30) == pytest.approx(freedom[0])


def test_what_the_items_forbid_no_number_of_seeds_can_give():
    variances = Variances(seeds=1e-4, items=0.04, rest=0.01)
    assert variances.seeds_needed(0.01, items=50) == np.inf
    needed = variances.items_needed(0.01, seeds=16)
    assert np.isfinite(needed)
    assert variances.power(0.01, 16, needed) >= 0.8 > variances.power(0.01, 16, needed - 1)


def test_power_is_the_share_of_simulated_tests_that_reject():
    from analysis.stats.testing import crossed_difference

    rng = np.random.default_rng(1)
    truth = Variances(seeds=0.02**2, items=0.1**2, rest=0.3**2)
    hits = [
        crossed_difference(
            0.03 + rng.normal(0, 0.02, (6, 1)) + rng.normal(0, 0.1, (1, 100)) + rng.normal(0, 0.3, (6, 100)),
            "both",
        ).p
        < 0.05
        for _ in range(1500)
    ]
    assert np.mean(hits) == pytest.approx(truth.power(0.03, 6, 100), abs=0.05)


def test_nothing_is_said_of_what_cannot_be_estimated():
    assert np.isnan(student_power(0.01, float("nan"), 3))
    assert np.isnan(variances_over_seeds(0.0).power(0.01, 4))
    assert np.isnan(variances_over_seeds(0.02).seeds_needed(float("nan")))
    assert np.isnan(variances_over_seeds(0.02).items_needed(0.01, 4))
    assert variances_over_both(np.zeros((1, 5))) is None


def test_power_of_few_seeds_that_see_a_large_effect_is_known():
    """The far tail's series gives NaN there; the near one is all that counts."""
    shift, bar = 8.37, stats.t.ppf(0.975, 2)
    assert student_power(shift, 1.0, 2) == pytest.approx(stats.nct.sf(bar, 2, shift), abs=1e-9)
    assert np.isfinite([student_power(s, 1.0, f) for s in (1, 3, 8, 20, 90) for f in (1, 2, 3, 7, 40)]).all()
