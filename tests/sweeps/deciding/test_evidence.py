"""Evidence is what its formula says by another way, and stays below its bound where the null holds."""

from __future__ import annotations

from itertools import pairwise, product
from math import cosh, exp, log, sqrt

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from sweeps.deciding.evidence import SHAPE, TILT, BettingEvidence, NormalEvidence, SignEvidence

SIZES = [0.3, 1.1, 0.7, 2.0, 0.4, 1.5]


def run(evidence, values_EP, floor=0.0):
    """Evidence after each seed: logs above and below, shape (P, E)."""
    elements, above, below = np.arange(len(values_EP)), [], []
    for values in np.asarray(values_EP, dtype=float).T:
        evidence.update(elements, values, np.full(len(values), floor))
        above.append(evidence.above_E.copy())
        below.append(evidence.below_E.copy())
    return np.array(above), np.array(below)


def normal(values_EP, floor=0.0, shift=0.0):
    values_EP = np.atleast_2d(values_EP)
    return run(NormalEvidence(np.full(len(values_EP), shift)), values_EP, floor)


def sign_bet(values):
    bet = 1.0
    for n in range(1, len(values) + 1):
        z = values[n - 1] / sqrt(sum(x * x for x in values[:n]) / n)
        bet *= exp(TILT * z) / cosh(TILT * z)
    return bet


def predicted(values, floor):
    """Product of predictive densities of the values after the first, by integration over the variance
    with the floor as its least guess.
    """
    density = 1.0
    for n in range(1, len(values)):
        past = values[1:n]
        shape, rate, centre, weight = SHAPE, SHAPE * floor, values[0], 1.0
        for x in past:
            rate += 0.5 * (x - centre) ** 2 * weight / (weight + 1)
            centre, weight, shape = (weight * centre + x) / (weight + 1), weight + 1, shape + 0.5
        if rate / shape < floor:
            rate = floor * shape

        def weighed(precision, x=values[n], centre=centre, weight=weight, shape=shape, rate=rate):
            spread = sqrt((1 + 1 / weight) / precision)
            return stats.norm.pdf(x, centre, spread) * stats.gamma.pdf(precision, shape, scale=1 / rate)

        density *= integrate.quad(weighed, 0, np.inf, limit=200)[0]
    return density


def largest_likelihood(values, side):
    """Largest likelihood of values with a mean up to 0 (side 1) or from 0 on (side -1), by search."""

    def loss(parameters):
        return -stats.norm.logpdf(values, -side * parameters[0] ** 2, exp(parameters[1])).sum()

    starts = [(a, b) for a in (0.1, 1.0) for b in (-2.0, 0.0)]
    return exp(-min(optimize.minimize(loss, start, method="Nelder-Mead", tol=1e-10).fun for start in starts))


@pytest.mark.parametrize("signs", [(1, 1, 1, 1), (1, -1, 1, 1), (-1, -1, 1, -1)])
def test_normal_evidence_is_the_mean_of_its_two_parts_found_another_way(signs):
    values, floor = [s * size for s, size in zip(signs, SIZES, strict=False)], 0.2
    above, below = normal([values], floor)
    for side, found in ((1, above), (-1, below)):
        ratio = predicted(values, floor) / largest_likelihood(np.array(values[1:]), side)
        bet = sign_bet([side * x for x in values])
        assert exp(found[-1, 0]) == pytest.approx((bet + ratio) / 2, rel=1e-6)


def test_the_sign_bet_has_expectation_one_given_the_sizes():
    patterns = np.array(list(product([-1, 1], repeat=len(SIZES)))) * SIZES
    bets = [sign_bet(list(pattern)) for pattern in patterns]
    assert np.mean(bets) == pytest.approx(1, rel=1e-12)
    assert np.exp(run(SignEvidence(np.zeros(64)), patterns)[0][-1]) == pytest.approx(bets, rel=1e-10)
    assert np.exp(run(SignEvidence(np.zeros(64)), -patterns)[1][-1]) == pytest.approx(bets, rel=1e-10)


@pytest.mark.parametrize("floor", [0.0, 0.3])
@pytest.mark.parametrize("mean", [0.0, -0.4])
def test_the_expectation_over_two_seeds_is_at_most_one_under_the_null(mean, floor):
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    first, second = np.meshgrid(nodes + mean, nodes + mean)
    above, below = normal(np.column_stack([first.ravel(), second.ravel()]), floor)
    chance = np.outer(weights, weights).ravel() / (2 * np.pi)
    assert chance @ np.exp(above[-1]) <= 1 + 1e-3
    if mean == 0:
        assert chance @ np.exp(below[-1]) <= 1 + 1e-3


def test_a_stop_that_looks_at_another_cell_keeps_the_expectation():
    draw = np.random.default_rng(5)
    shared = draw.normal(size=(20_000, 12))
    cells = [0.7 * shared + sqrt(0.51) * draw.normal(size=shared.shape) for _ in range(2)]
    above = [normal(cell, 0.2)[0] for cell in cells]
    low = above[1].min(axis=0) < -1.5
    stop = np.where(low, (above[1] < -1.5).argmax(axis=0), 11)
    stopped = np.exp(above[0][stop, np.arange(20_000)])
    assert stopped.mean() <= 1 + 4 * stopped.std() / sqrt(20_000)
    for bound in (5, 20, 100):
        ever = (above[0].max(axis=0) >= log(bound)).mean()
        assert ever <= 1 / bound + 4 * sqrt(1 / bound / 20_000)


def test_equal_values_are_finite_evidence_and_zeros_are_none():
    above, below = normal([[0.1] * 8, [0.0] * 8], 0.0004)
    assert above[1, 0] < log(20) < above[7, 0] < 8 * log(2) + 8 * 0.5 * log(0.01 / 0.0004 + 1) + 8
    assert (below[:, 0] <= 0).all()
    assert (above[:, 1] <= 0).all()
    assert (below[:, 1] <= 0).all()


def test_a_higher_floor_slows_the_evidence_of_values_that_agree():
    values = [[0.1, 0.101, 0.099, 0.1, 0.1005, 0.1]]
    paths = [normal(values, floor)[0][1:, 0] for floor in (0.0001, 0.0004, 0.0016, 0.0064)]
    assert all((higher < lower).all() for lower, higher in pairwise(paths))


def test_evidence_has_no_unit():
    values = np.random.default_rng(1).normal(0.5, 1, (5, 9))
    for floor in (0.0, 0.3):
        for one, other in zip(normal(values, floor), normal(100 * values, 1e4 * floor), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)
        for one, other in zip(normal(values, floor), normal(-values, floor)[::-1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)


def test_betting_follows_its_formula():
    values, shift, alpha = [0.62, 0.55, 0.71, 0.4, 0.66], 0.5, 0.05
    wealth_up = wealth_down = 1.0
    total, squares, variance = 0.5, 0.25, 0.25
    for t, x in enumerate(values, start=1):
        bet = sqrt(2 * log(2 / alpha) / (t * log(1 + t) * variance))
        wealth_up *= 1 + min(bet, 0.5 / shift) * (x - shift)
        wealth_down *= 1 - min(bet, 0.5 / (1 - shift)) * (x - shift)
        total += x
        squares += (x - total / (t + 1)) ** 2
        variance = squares / (t + 1)
    scaled = [[10 * x - 5 for x in values]]
    above, below = run(BettingEvidence(np.zeros(1), (-5.0, 5.0), alpha), scaled)
    assert exp(above[-1, 0]) == pytest.approx(wealth_up, rel=1e-12)
    assert exp(below[-1, 0]) == pytest.approx(wealth_down, rel=1e-12)


def test_betting_holds_for_a_skewed_distribution_where_normal_evidence_does_not():
    draw = np.random.default_rng(2)
    skewed = np.where(draw.random((4_000, 60)) < 0.1, -0.9, 0.1)
    betting = run(BettingEvidence(np.zeros(4_000), (-1.0, 1.0), 0.05), skewed)[0]
    assert (betting.max(axis=0) >= log(20)).mean() <= 0.05
    assert (normal(skewed)[0].max(axis=0) >= log(20)).mean() > 0.2
