"""Which rate is tried next, and what the losses at it forecast."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.sharing.schedules import ProbedRate
from sweeps.spec.train_groups import CANDIDATES, LEAST_LOSSES
from trainers.step.probing import (
    DIVERGED,
    NOISE,
    Probed,
    Tried,
    forecast,
    matern,
    next_place,
    posterior,
    rate_at,
    without_outliers,
)

RATE = ProbedRate(2e-3, 0.01, 100, 10, 0)


def curve(a: float, b: float, c: float, num: int) -> list[float]:
    return [a * math.exp(b * x) + c for x in range(num)]


@given(a=st.floats(0.1, 2), b=st.floats(-0.3, -0.05), c=st.floats(0, 2), num=st.integers(30, 100))
def test_an_exponential_that_has_shown_its_end_is_forecast_to_it(a, b, c, num):
    """Smoothing bends the curve by some of its height."""
    assert forecast(curve(a, b, c, num), 10 * num) == pytest.approx(c, abs=0.25 * a)


@given(losses=st.lists(st.floats(-10, 10), min_size=LEAST_LOSSES, max_size=40))
def test_a_forecast_is_a_number_for_any_losses(losses):
    assert math.isfinite(forecast(losses, 10 * len(losses)))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 1e30])
def test_losses_that_diverge_count_as_the_published_million(loss):
    assert forecast([1.0] * 7 + [loss], 80) == DIVERGED == 1e6
    assert forecast([loss], 80) == DIVERGED


@given(scale=st.sampled_from([1e-6, 1e-2, 1e2]), seed=st.integers(0, 99))
def test_a_forecast_does_not_depend_on_the_scale_of_losses(scale, seed):
    losses = np.exp(-np.arange(12) / 4) + 0.1 * np.random.default_rng(seed).normal(size=12)
    assert forecast(scale * losses, 120) == pytest.approx(
        scale * forecast(losses, 120), rel=1e-6, abs=1e-9 * scale
    )


def test_equal_losses_are_forecast_to_stay_and_faster_falls_to_end_lower():
    assert forecast([0.7] * 10, 100) == pytest.approx(0.7)
    slow, fast = ([1 - rate * x for x in range(10)] for rate in (0.001, 0.01))
    assert forecast(fast, 100) < forecast(slow, 100) < 1
    assert forecast([1 + 0.01 * x for x in range(10)], 100) > 1.1


def test_outliers_are_cut_from_the_first_half_alone_and_only_where_there_are_enough_losses():
    x = np.arange(40.0)
    y = 2 * np.exp(-x / 10)
    early, late = y.copy(), y.copy()
    early[5], late[30] = 5.0, 5.0
    assert 5.0 not in without_outliers(x, early)[0]
    assert 30.0 in without_outliers(x, late)[0]
    assert len(without_outliers(x[:LEAST_LOSSES], early[:LEAST_LOSSES])[0]) == LEAST_LOSSES


@given(
    at=st.lists(st.integers(0, 20), min_size=1, max_size=9, unique=True),
    seed=st.integers(0, 99),
)
def test_the_process_is_that_of_the_textbook_by_its_inverse(at, seed):
    """k*ᵀK⁻¹y and 1 − k*ᵀK⁻¹k*, at the length whose likelihood is highest, written down with an inverse."""
    places, values = np.array(at) / 20, np.random.default_rng(seed).normal(size=len(at))
    asked = np.linspace(0, 1, 7)

    def likelihood(length):
        k = matern(places[:, None] - places, length) + NOISE * np.eye(len(at))
        return -0.5 * (values @ np.linalg.inv(k) @ values + np.linalg.slogdet(k)[1])

    length = max((0.05, 0.1, 0.2, 0.4, 0.8, 1.6), key=likelihood)
    inverse = np.linalg.inv(matern(places[:, None] - places, length) + NOISE * np.eye(len(at)))
    between = matern(places[:, None] - asked, length)
    mean, deviation = posterior(places, values, asked)
    assert mean == pytest.approx(between.T @ inverse @ values, abs=1e-6)
    assert deviation**2 == pytest.approx(1 - np.diag(between.T @ inverse @ between), abs=1e-6)


def test_the_process_is_scikit_learns():
    gaussian_process = pytest.importorskip("sklearn.gaussian_process")
    at, values = np.array([0.0, 0.3, 0.5, 1.0]), np.array([1.2, -0.4, -1.1, 0.3])
    asked = np.linspace(0, 1, 11)
    found = []
    for length in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
        kernel = gaussian_process.kernels.Matern(length_scale=length, nu=2.5)
        peer = gaussian_process.GaussianProcessRegressor(kernel, alpha=NOISE, optimizer=None)
        peer.fit(at[:, None], values)
        found.append((peer.log_marginal_likelihood_value_, peer.predict(asked[:, None], return_std=True)))
    mean, deviation = max(found, key=lambda fit: fit[0])[1]
    assert posterior(at, values, asked)[0] == pytest.approx(mean)
    assert posterior(at, values, asked)[1] == pytest.approx(deviation)


@given(seed=st.integers(0, 99), scale=st.sampled_from([0.0, 1e-9, 1.0, 1e6]))
def test_ten_rates_spread_over_the_range_whatever_the_forecasts(seed, scale):
    rng, tried = np.random.default_rng(seed), []
    for _ in range(CANDIDATES):
        place = next_place(tried)
        tried.append(Tried(place=place, lr=rate_at(RATE, place), forecast=float(scale * rng.normal())))
    places = sorted(t.place for t in tried)
    assert tried[0].place == 0.5
    assert (places[0], places[-1]) == (0.0, 1.0)
    assert np.diff(places).min() > 0
    assert np.diff(places).max() <= 0.25
    assert (min(t.lr for t in tried), max(t.lr for t in tried)) == (pytest.approx(2e-5), 2e-3)


def test_the_lowest_forecast_wins_and_of_equal_ones_the_lowest_rate():
    def probed(*pairs):
        return Probed(tried=[Tried(place=0.5, lr=lr, forecast=value) for lr, value in pairs])

    assert probed((1e-3, 0.5), (1e-4, 0.4), (1e-5, 0.6)).lr == 1e-4
    assert probed((1e-3, DIVERGED), (1e-5, DIVERGED), (1e-4, DIVERGED)).lr == 1e-5
    assert probed((1e-3, 0.5), (1e-4, 0.4)).measured == {
        "probe_lr_1": 1e-3,
        "probe_lr_2": 1e-4,
        "probe_forecast_1": 0.5,
        "probe_forecast_2": 0.4,
    }
