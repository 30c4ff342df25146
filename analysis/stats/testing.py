"""Tests of a difference, corrections for many of them, effect sizes and power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.stats.intervals import LEVEL, t_interval

EXACT_UP_TO = 20
"""Pairs up to which every assignment of signs is tried: 2²⁰ sums take a few hundredths of a second."""

NUM_PERMUTATIONS = 100_000
"""Random permutations beyond that: a p of 0.05 is then known to ±0.0014."""

_ROUNDING = 1e-9
"""Relative slack by which two sums that are equal on paper may differ."""


def sign_flip_test(differences: np.ndarray) -> float:
    """Two-sided p of the paired permutation test: under the null each difference's sign is a coin.

    Exact up to :data:`EXACT_UP_TO` pairs, Monte Carlo with the identity counted beyond (Phipson and Smyth
    2010). With n pairs an exact p cannot be below 2^(1−n).

    Args:
        differences: shape (n,), without NaN.
    """
    differences = np.asarray(differences, dtype=float)
    if len(differences) == 0:
        return float("nan")
    size = np.abs(differences)
    bar = abs(differences.sum()) - _ROUNDING * size.sum()
    if len(size) <= EXACT_UP_TO:
        sums = np.zeros(1)
        for value in size:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= bar))
    rng = np.random.default_rng(len(size))
    hits = 0
    for _ in range(10):
        signs = rng.integers(0, 2, (NUM_PERMUTATIONS // 10, len(size))) * 2 - 1
        hits += int(np.sum(np.abs(signs @ size) >= bar))
    return (hits + 1) / (NUM_PERMUTATIONS + 1)


def label_permutation_test(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p of the unpaired permutation test of equal means, by Monte Carlo with the identity counted.

    Args:
        a: shape (n,), without NaN.
        b: shape (m,), without NaN.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if not len(a) or not len(b):
        return float("nan")
    pooled = np.concatenate([a, b])
    share = len(a) / len(pooled)
    # mean(b) − mean(a) is linear in the sum over a; permuting labels permutes which values are in that sum.
    observed = abs(a.sum() - share * pooled.sum()) - _ROUNDING * np.abs(pooled).sum()
    rng = np.random.default_rng([len(a), len(b)])
    rows = max(1, 2_000_000 // len(pooled))
    hits = done = 0
    while done < NUM_PERMUTATIONS:
        batch = min(rows, NUM_PERMUTATIONS - done)
        shuffled = rng.permuted(np.tile(pooled, (batch, 1)), axis=1)
        hits += int(np.sum(np.abs(shuffled[:, : len(a)].sum(axis=1) - share * pooled.sum()) >= observed))
        done += batch
    return (hits + 1) / (NUM_PERMUTATIONS + 1)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values: the chance of any false claim in the family stays below the level."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjusted p-values: the expected share of false claims stays below it."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted


def paired_power(effect: float, deviation: float, n: int, level: float = 0.05) -> float:
    """Chance that a two-sided paired t-test of ``n`` pairs sees a true ``effect``.

    Args:
        effect: true mean difference.
    """
    if n < 2 or not np.isfinite(deviation):
        return float("nan")
    if deviation == 0:
        return 1.0 if effect else level
    shift = abs(effect) / deviation * np.sqrt(n)
    bar = special.stdtrit(n - 1, 1 - level / 2)
    above, below = special.nctdtr(n - 1, shift, bar), special.nctdtr(n - 1, shift, -bar)
    return float(1 - above + below)


def pairs_needed(effect: float, deviation: float, power: float = 0.8, level: float = 0.05) -> float:
    """Smallest number of pairs with which :func:`paired_power` reaches ``power``; NaN without a deviation."""
    if not np.isfinite(deviation) or effect == 0:
        return float("nan")
    low, high = 1, 2
    while paired_power(effect, deviation, high, level) < power:
        low, high = high, high * 2
        if high > 10**7:
            return float("inf")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if paired_power(effect, deviation, middle, level) >= power else (middle, high)
        )
    return float(high)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A tested difference of means."""

    mean: float
    """Mean of B minus mean of A."""
    low: float
    """Lower end of the 95 % interval; NaN with one pair."""
    high: float
    n: int
    """Pairs of seeds, or for an unpaired test the smaller number of seeds."""
    p: float
    """Two-sided permutation p."""
    effect_size: float
    """Cohen's d_z of paired seeds (mean over standard deviation), d of unpaired ones; NaN if it does not
    vary.
    """
    superiority: float
    """Chance that B beats A: share of pairs won, ties counting half."""
    deviation: float
    paired: bool

    def power(self, effect: float) -> float:
        """Chance that this design sees a true difference of ``effect``."""
        return paired_power(effect, self.deviation, self.n)

    def pairs_needed(self, effect: float) -> float:
        """Seeds that see ``effect`` four times out of five."""
        return pairs_needed(effect, self.deviation)


def paired_difference(differences: np.ndarray, level: float = LEVEL) -> Difference:
    """Test paired differences, one per seed; NaN entries are left out."""
    values = np.asarray(differences, dtype=float)
    values = values[~np.isnan(values)]
    interval = t_interval(values[None] if len(values) else np.full((1, 1), np.nan), level)
    deviation = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    varies = len(values) > 1 and deviation > _ROUNDING * np.abs(values).max()
    return Difference(
        mean=float(interval.value[0]),
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        n=len(values),
        p=sign_flip_test(values) if len(values) > 1 else float("nan"),
        effect_size=float(values.mean() / deviation) if varies else float("nan"),
        superiority=float(np.mean((values > 0) + 0.5 * (values == 0))) if len(values) else float("nan"),
        deviation=deviation,
        paired=True,
    )


def unpaired_difference(a: np.ndarray, b: np.ndarray, level: float = LEVEL) -> Difference:
    """Test ``b`` against ``a`` with Welch's interval; one value per seed each, NaN left out."""
    a, b = (np.asarray(v, dtype=float) for v in (a, b))
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    nan = float("nan")
    mean = float(b.mean() - a.mean()) if len(a) and len(b) else nan
    low = high = deviation = nan
    if len(a) > 1 and len(b) > 1:
        parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
        error = np.sqrt(parts.sum())
        freedom = parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum() if error else 1.0
        half = special.stdtrit(freedom, 0.5 + level / 2) * error
        low, high = mean - half, mean + half
        deviation = float(error * np.sqrt(min(len(a), len(b))))
    pooled = 0.0
    if len(a) > 1 and len(b) > 1:
        squares = (len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)
        pooled = float(np.sqrt(squares / (len(a) + len(b) - 2)))
    wins = (b[:, None] > a).mean() + 0.5 * (b[:, None] == a).mean() if len(a) and len(b) else nan
    return Difference(
        mean=mean,
        low=low,
        high=high,
        n=min(len(a), len(b)),
        p=label_permutation_test(a, b) if len(a) > 1 and len(b) > 1 else nan,
        effect_size=mean / pooled if pooled > 0 else nan,
        superiority=float(wins),
        deviation=deviation,
        paired=False,
    )
