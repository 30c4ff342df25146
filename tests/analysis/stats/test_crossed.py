from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.stats.crossed import crossed_interval, standard_error
from analysis.stats.intervals import CHANGE, SHARE


def _world(rng, groups, seeds, items, seed_sd=0.05, item_sd=0.3, noise_sd=0.3):
    return (
        0.5
        + rng.normal(0, seed_sd, (groups, seeds, 1))
        + rng.normal(0, item_sd, (groups, 1, items))
        + rng.normal(0, noise_sd, (groups, seeds, items))
    )


@pytest.mark.parametrize("seeds", [4, 16])
@pytest.mark.parametrize("seed_sd", [0.0, 0.02, 0.2])
def test_intervals_over_both_cover_new_seeds_and_new_items(seeds, seed_sd):
    values = _world(np.random.default_rng(seeds), 500, seeds, 60, seed_sd=seed_sd)
    interval = crossed_interval(values, "both")
    cover = np.mean((interval.low <= 0.5) & (interval.high >= 0.5))
    assert 0.92 <= cover <= 0.985


def test_over_seeds_is_the_student_interval_of_seed_means():
    values = _world(np.random.default_rng(1), 1, 12, 50)
    interval = crossed_interval(values, "seeds")
    expected = stats.ttest_1samp(values[0].mean(axis=1), 0).confidence_interval(0.95)
    assert (interval.low[0], interval.high[0]) == pytest.approx((expected.low, expected.high))


def test_the_standard_error_is_the_brute_force_two_way_clustered_one():
    """Sum over all pairs of values that share a seed or an item of the product of their deviations."""
    values = _world(np.random.default_rng(2), 1, 5, 7, seed_sd=0.5, item_sd=0.5)[0]
    deviation = values - values.mean()
    seeds, items = values.shape
    by_seed = sum(deviation[s].sum() ** 2 for s in range(seeds)) * seeds / (seeds - 1)
    by_item = sum(deviation[:, i].sum() ** 2 for i in range(items)) * items / (items - 1)
    residual = deviation - deviation.mean(1, keepdims=True) - deviation.mean(0, keepdims=True)
    shared = (residual**2).sum() * seeds * items / ((seeds - 1) * (items - 1))
    expected = np.sqrt(by_seed + by_item - shared) / values.size
    assert standard_error(values[None], "both")[0][0] == pytest.approx(expected)


def test_both_is_wider_than_either():
    values = _world(np.random.default_rng(3), 1, 8, 100)
    width = {}
    for over in ("seeds", "items", "both"):
        interval = crossed_interval(values, over)
        width[over] = (interval.high - interval.low)[0]
    assert width["both"] > max(width["seeds"], width["items"])


def test_one_seed_still_has_an_interval_over_items_but_none_over_seeds():
    values = _world(np.random.default_rng(4), 2, 1, 50)
    assert np.isfinite(crossed_interval(values, "items").low).all()
    assert np.isnan(crossed_interval(values, "seeds").low).all()
    assert np.isnan(crossed_interval(values, "both").low).all()


def test_a_missing_seed_is_left_out():
    values = _world(np.random.default_rng(5), 3, 6, 40)
    values[1, 4] = np.nan
    interval = crossed_interval(values, "both")
    assert list(interval.n) == [6, 5, 6]
    assert interval.value[1] == pytest.approx(np.nanmean(values[1]))


def _verdicts(rng, groups, seeds, items, logit, item_sd):
    chance = 1 / (1 + np.exp(-(logit + rng.normal(0, item_sd, (groups, 1, items)))))
    return (rng.random((groups, seeds, items)) < chance).astype(float)


@pytest.mark.parametrize(("logit", "item_sd"), [(4.4, 0.0), (5.8, 1.5)])
def test_shares_near_one_are_covered_over_seeds_and_items(logit, item_sd):
    rng = np.random.default_rng(6)
    many = rng.normal(0, item_sd, 400_000)
    truth = float((1 / (1 + np.exp(-(logit + many)))).mean())
    values = _verdicts(rng, 2000, 4, 50, logit, item_sd)
    plain, safe = crossed_interval(values), crossed_interval(values, bounds=SHARE)
    cover = {k: np.mean((i.low <= truth) & (i.high >= truth)) for k, i in (("plain", plain), ("safe", safe))}
    assert cover["plain"] < 0.93
    assert cover["safe"] >= 0.94
    assert (safe.high > safe.low).all()
    assert safe.low.min() >= 0
    assert safe.high.max() <= 1


def test_a_gain_without_a_changed_verdict_has_an_interval():
    interval = crossed_interval(np.zeros((2, 4, 50)), bounds=CHANGE)
    assert (interval.low < 0).all()
    assert (interval.high > 0).all()
