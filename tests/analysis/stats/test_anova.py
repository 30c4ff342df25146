from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from analysis.stats.anova import decompose

SIZES = (4, 3, 5)


def _grid(sizes=SIZES):
    return np.array(list(itertools.product(*(range(n) for n in sizes))))


def _planted(rng, sizes, shares, seed_share, noise_share, num_seeds):
    """Cells × seeds with exactly these shares, effects centred and scaled to their variance."""
    levels = _grid(sizes)
    cells = np.zeros(sizes)
    for axes, share in shares.items():
        part = rng.normal(size=[sizes[a] if a in axes else 1 for a in range(len(sizes))])
        for a in axes:
            part = part - part.mean(axis=a, keepdims=True)
        part = np.broadcast_to(part, sizes)
        cells = cells + part * np.sqrt(share / part.var())
    seeds = rng.normal(size=num_seeds)
    seeds = (seeds - seeds.mean()) / seeds.std() * np.sqrt(seed_share)
    noise = rng.normal(size=(len(levels), num_seeds)) * np.sqrt(noise_share)
    return cells[tuple(levels.T)][:, None] + seeds + noise, levels


def _statsmodels(values, levels, with_pairs=True):
    cell, seed = np.nonzero(~np.isnan(values))
    frame = pd.DataFrame(levels[cell], columns=list("abc")).assign(s=seed, y=values[cell, seed])
    pairs = " + C(a):C(b) + C(a):C(c) + C(b):C(c)" if with_pairs else ""
    return anova_lm(smf.ols(f"y ~ C(s) + C(a) + C(b) + C(c){pairs}", frame).fit(), typ=2)


NAMES = {
    (0,): "C(a)",
    (1,): "C(b)",
    (2,): "C(c)",
    (0, 1): "C(a):C(b)",
    (0, 2): "C(a):C(c)",
    (1, 2): "C(b):C(c)",
}


def test_the_exact_sums_of_squares_are_those_of_statsmodels():
    values, levels = _planted(np.random.default_rng(0), SIZES, {(0,): 0.3, (1, 2): 0.2}, 0.1, 0.4, 6)
    ours = decompose(values, levels)
    theirs = _statsmodels(values, levels)
    assert ours.balanced
    for effect in ours.effects:
        assert effect.sum_squares == pytest.approx(theirs.loc[NAMES[effect.axes], "sum_sq"])
        assert effect.freedom == theirs.loc[NAMES[effect.axes], "df"]


def test_the_unbalanced_sums_of_squares_are_statsmodels_type_two():
    rng = np.random.default_rng(1)
    values, levels = _planted(rng, SIZES, {(0,): 0.3, (2,): 0.2, (0, 1): 0.2}, 0.05, 0.25, 6)
    values[rng.random(values.shape) < 0.2] = np.nan
    ours = decompose(values, levels)
    theirs = _statsmodels(values, levels)
    assert not ours.balanced
    assert len(ours.effects) == 6
    for effect in ours.effects:
        assert effect.sum_squares == pytest.approx(theirs.loc[NAMES[effect.axes], "sum_sq"])
        assert effect.p == pytest.approx(theirs.loc[NAMES[effect.axes], "PR(>F)"], abs=1e-9)


def test_type_two_on_a_full_grid_equals_the_exact_decomposition():
    values, levels = _planted(np.random.default_rng(2), SIZES, {(0,): 0.4, (0, 2): 0.3}, 0.1, 0.2, 4)
    exact = decompose(values, levels, max_order=3)
    order = np.random.default_rng(0).permutation(len(levels))
    holed = values.copy()
    holed[0, 0] = np.nan
    near = decompose(holed[order], levels[order], max_order=3)
    for a, b in zip(exact.effects, near.effects, strict=True):
        assert a.axes == b.axes
        assert a.share == pytest.approx(b.share, abs=0.02)


@pytest.mark.parametrize("noise_share", [0.1, 0.4])
def test_omega_squared_recovers_planted_shares_within_two_points(noise_share):
    shares = {(0,): 0.25, (1,): 0.05, (0, 1): 0.15, (2,): 0.0}
    seed_share = 1 - noise_share - sum(shares.values())
    estimates = []
    for seed in range(20):
        values, levels = _planted(np.random.default_rng(seed), (6, 5, 7), shares, seed_share, noise_share, 16)
        result = decompose(values, levels)
        by_axes = {e.axes: e.share for e in result.effects}
        estimates.append([*(by_axes[axes] for axes in shares), result.seed_share, result.noise_share])
    planted = [*shares.values(), seed_share, noise_share]
    assert np.mean(estimates, axis=0) == pytest.approx(planted, abs=0.005)
    assert np.abs(np.array(estimates) - planted).max() < 0.02


def test_pure_noise_has_no_share_on_average_where_plain_eta_squared_has():
    rng = np.random.default_rng(3)
    levels = _grid()
    results = [decompose(rng.normal(size=(len(levels), 2)), levels) for _ in range(200)]
    omega = np.mean([e.share for r in results for e in r.effects if e.axes == (0, 2)])
    eta = np.mean([e.sum_squares for r in results for e in r.effects if e.axes == (0, 2)]) / (len(levels) * 2)
    assert abs(omega) < 0.01
    assert eta > 0.05


def test_shares_sum_to_one():
    values, levels = _planted(np.random.default_rng(4), SIZES, {(0,): 0.3, (0, 1, 2): 0.3}, 0.1, 0.3, 5)
    r = decompose(values, levels)
    total = sum(e.share for e in r.effects) + r.seed_share + r.higher_share + r.noise_share
    assert total == pytest.approx(1)
    assert r.higher_share == pytest.approx(0.3, abs=0.05)


def test_a_constant_metric_has_no_shares_and_no_error():
    levels = _grid()
    result = decompose(np.full((len(levels), 3), 0.5), levels)
    assert all(effect.share == 0 for effect in result.effects)


def test_one_seed_has_no_noise_estimate():
    values, levels = _planted(np.random.default_rng(5), SIZES, {(0,): 0.5}, 0.0, 0.5, 4)
    result = decompose(values[:, :1], levels)
    assert np.isnan(result.noise_share)
    assert all(np.isnan(effect.p) for effect in result.effects)
