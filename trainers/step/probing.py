"""Which rate to go on with: several are tried, the losses of each are fitted, and the best forecast wins.

AutoLRS (arXiv 2105.10762), after its authors' ``autolrs_server.py`` (YuchenJin/autolrs): an exponential
through smoothed losses tells where training at the rate will end, and a Gaussian process over the logarithm
of the rate which one to try next. Its exploration weight is so large that rates are tried where least is
known: they spread over the range, and only the choice among those tried follows the forecasts.

Other than there:

- Nothing is drawn at random; the first rate tried is the middle of the range.
- Losses are smoothed by a parabola, as the published spline is where losses are of order one; so a forecast
  does not depend on their scale.
- Decay is no slower than the stretch that is forecast: a straight line would be followed to any depth.
- Where the share of outliers comes to less than half a loss there are none; the published slice ``[-0:]``
  takes all of the first half.
- Losses are those of training, of the batches and noise of the steps to come, never of a validation set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial
from scipy.optimize import minimize_scalar

from sweeps.sharing.schedules import ProbedRate
from sweeps.spec.train_groups import CANDIDATES
from trainers.engine.engine import Engine

DIVERGED = 1e6
"""What counts as the forecast where a loss is not finite."""

SMOOTH_DEGREE = 2
OUTLIER_ROUNDS = 10
OUTLIER_SHARE = 0.03
"""Losses farthest from the parabola that are cut, each round, from the first half alone."""

FASTEST_DECAY = 5.0
"""Largest −b: to less than a hundredth in one step."""

KAPPA = 1e6
"""Standard deviations that the lower confidence bound lies below the mean."""

GRID = np.linspace(0.0, 1.0, 101)
"""Places of rates that may be tried, on a logarithmic scale from the lowest to the highest."""

LENGTHS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Length scales that the likelihood chooses from, as shares of the range."""

NOISE = 1e-4
"""Variance of a forecast's error over the variance of the forecasts."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A rate and what came of it."""

    place: float
    """Where it lies between the lowest (0) and the highest (1), on a logarithmic scale."""
    lr: float
    forecast: float
    """Loss after training at it for as long as the found rate is kept."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """All rates that were tried from one state."""

    tried: Sequence[Tried]

    @property
    def lr(self) -> float:
        """The rate with the lowest forecast; of equal ones the lowest."""
        return min(self.tried, key=lambda t: (t.forecast, t.lr)).lr

    @property
    def measured(self) -> dict[str, float]:
        """Columns of the record of the step before which they were tried, in the order of trying."""
        rates = {f"probe_lr_{n}": t.lr for n, t in enumerate(self.tried, 1)}
        return rates | {f"probe_forecast_{n}": t.forecast for n, t in enumerate(self.tried, 1)}


def probed(
    engine: Engine,
    rate: ProbedRate,
    first: int,
    loss_of: Callable[[int, float], float],
    is_called_off: Callable[[], bool],
) -> Probed | None:
    """Try rates from the engine's state, and put that back; ``None`` where it was called off meanwhile.

    Args:
        engine: what is trained.
        rate: what is looked for.
        first: number of the step that is to be taken at it.
        loss_of: takes a step, of a number and at a rate, and returns its loss; NaN where it diverged.
        is_called_off: asked before each step.
    """
    state, tried = engine.capture(), list[Tried]()
    while len(tried) < CANDIDATES:
        place = next_place(tried)
        lr, losses = rate_at(rate, place), list[float]()
        for step in range(first, first + rate.probe_steps):
            if is_called_off():
                return None
            losses.append(loss_of(step, lr))
            if math.isnan(losses[-1]):
                break
        tried.append(Tried(place=place, lr=lr, forecast=forecast(losses, rate.every_steps)))
        engine.restore(state)
    return Probed(tried=tried)


def next_place(tried: Sequence[Tried]) -> float:
    """Where to try next: the lowest confidence bound of the forecasts, among places not tried before."""
    if not tried:
        return 0.5
    at, forecasts = np.array([t.place for t in tried]), np.array([t.forecast for t in tried])
    spread = float(forecasts.std())
    mean, deviation = posterior(at, (forecasts - forecasts.mean()) / (spread or 1.0), GRID)
    bound = mean - KAPPA * deviation
    bound[np.isin(GRID, at)] = np.inf
    return float(GRID[int(np.argmin(bound))])


def rate_at(rate: ProbedRate, place: float) -> float:
    return rate.peak * rate.lowest_ratio ** (1.0 - place)


def posterior(at: np.ndarray, values: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a Gaussian process, of the length scale under which the values are most
    likely (Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1).

    Args:
        at: where values are known, shape (N,).
        values: of mean 0 and variance 1, shape (N,).
        places: where they are asked for, shape (M,).
    """
    fits = [_fit(at, values, length) for length in LENGTHS]
    length, root, alpha, _ = max(fits, key=lambda fit: fit[3])
    between = matern(at[:, None] - places, length)
    explained = np.linalg.solve(root, between)
    return between.T @ alpha, np.sqrt(np.maximum(1.0 - (explained**2).sum(axis=0), 0.0))


def _fit(at: np.ndarray, values: np.ndarray, length: float) -> tuple[float, np.ndarray, np.ndarray, float]:
    """The length scale, L, α and the log marginal likelihood without its constant."""
    root = np.linalg.cholesky(matern(at[:, None] - at, length) + NOISE * np.eye(len(at)))
    alpha = np.linalg.solve(root.T, np.linalg.solve(root, values))
    return length, root, alpha, float(-values @ alpha / 2 - np.log(np.diag(root)).sum())


def matern(distance: np.ndarray, length: float) -> np.ndarray:
    """(1 + r + r²/3)·e^−r, r = √5·|d|/ℓ: the Matérn covariance of ν = 5/2 (ibid., equation 4.17)."""
    r = math.sqrt(5.0) * np.abs(distance) / length
    return np.asarray((1.0 + r + r**2 / 3.0) * np.exp(-r))


def forecast(losses: Sequence[float], step: int) -> float:
    """The loss at ``step`` by a·e^(b·x) + c, b below 0, through losses of steps x = 0, 1, …; :data:`DIVERGED`
    where they or the forecast are not finite, or above it.
    """
    y = np.array(losses, dtype=np.float64)
    if not (np.isfinite(y).all() and np.abs(y).max() < DIVERGED):
        return DIVERGED
    x = np.arange(len(y), dtype=np.float64)
    smooth = Polynomial.fit(*without_outliers(x, y), SMOOTH_DEGREE)(x)

    def fit(log_decay: float) -> tuple[float, float, float]:
        """a, c and the sum of squares at a decay."""
        basis = np.stack([np.exp(-math.exp(log_decay) * x), np.ones_like(x)], axis=1)
        a, c = np.linalg.lstsq(basis, smooth, rcond=None)[0].tolist()
        return a, c, float(((basis @ (a, c) - smooth) ** 2).sum())

    slowest, fastest = -math.log(step), math.log(FASTEST_DECAY)
    found = minimize_scalar(lambda d: fit(d)[2], bounds=(slowest, fastest), method="bounded")
    a, c, _ = fit(float(found.x))
    value = a * math.exp(-math.exp(float(found.x)) * step) + c
    return value if math.isfinite(value) and value < DIVERGED else DIVERGED


def without_outliers(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses without those of the first half that lie farthest from the parabola."""
    bound = x[(len(x) - 1) // 2]
    for _ in range(OUTLIER_ROUNDS):
        num = round(OUTLIER_SHARE * len(x))
        off = np.abs(y - Polynomial.fit(x, y, SMOOTH_DEGREE)(x))
        farthest = np.argsort(off, kind="stable")[len(x) - num :]
        keep = np.ones(len(x), dtype=bool)
        keep[farthest] = x[farthest] >= bound
        x, y = x[keep], y[keep]
    return x, y
