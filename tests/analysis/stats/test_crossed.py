from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.stats.crossed import crossed_interval, standard_error


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


def test_over_seeds_is_the_student_interval_of_seed_means_up_to_the_shape():
    values = _world(np.random.default_rng(1), 1, 12, 50)
    interval = crossed_interval(values, "seeds")
    expected = stats.ttest_1samp(values[0].mean(axis=1), 0).confidence_interval(0.95)
    assert interval.high[0] - interval.low[0] == pytest.approx(expected.high - expected.low, rel=1e-6)


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
