"""Tests of a difference, corrections for many of them, effect sizes.

Each test rests on one estimate with one standard error: its interval leaves zero out exactly where its p is
below 5 %, and its power is that of the same test. Over seeds it is the paired t test (Welch's where seeds are
not paired), over items or both that of :mod:`analysis.stats.crossed`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.stats.boundary import changed_error
from analysis.stats.crossed import Estimate, crossed_estimate
from analysis.stats.intervals import CHANGE, LEVEL, Bounds
from analysis.stats.power import Variances, variances_over_both, variances_over_seeds

_ROUNDING = 1e-9
"""Relative slack by which two values that are equal on paper may differ."""


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
    """Two-sided p of the test that the interval belongs to."""
    effect_size: float
    """Cohen's d_z of paired seeds (mean over standard deviation), d of unpaired ones; NaN if it does not
    vary.
    """
    superiority: float
    """Chance that B beats A: share of pairs won, ties counting half."""
    deviation: float
    """Standard deviation between the seeds' differences."""
    paired: bool
    over: str = "seeds"
    """What the interval generalises over."""
    items: int = 0
    """Number of items, where the test is over them."""
    variances: Variances | None = None
    """By which planning goes; ``None`` where they cannot be estimated."""

    def power(self, effect: float, level: float = 0.05) -> float:
        """Chance that this design sees a true difference of ``effect``."""
        if self.variances is None:
            return float("nan")
        return self.variances.power(effect, self.n, max(1, self.items), level)

    def seeds_needed(self, effect: float, level: float = 0.05) -> float:
        """Seeds that see ``effect`` four times out of five on these items."""
        if self.variances is None:
            return float("nan")
        return self.variances.seeds_needed(effect, max(1, self.items), level)

    def items_needed(self, effect: float, level: float = 0.05) -> float:
        """Items on which these seeds see ``effect`` four times out of five; NaN for a test over seeds."""
        return float("nan") if self.variances is None else self.variances.items_needed(effect, self.n, level)


def paired_difference(
    differences: np.ndarray,
    level: float = LEVEL,
    *,
    bounds: Bounds | None = None,
    verdicts: float | None = None,
) -> Difference:
    """Test paired differences, one per seed, by Student's t; NaN entries are left out.

    Args:
        bounds: range of the differences.
        verdicts: number of verdicts behind each mean, where they are differences of shares.
    """
    values = np.asarray(differences, dtype=float)
    values = values[~np.isnan(values)]
    nan = float("nan")
    deviation = float(values.std(ddof=1)) if len(values) > 1 else nan
    varies = len(values) > 1 and deviation > _ROUNDING * np.abs(values).max()
    deviation = 0.0 if len(values) > 1 and not varies else deviation
    mean = float(values.mean()) if len(values) else nan
    least = 0.0
    if verdicts is not None and bounds == CHANGE and len(values) > 1:
        least = float(changed_error(np.array([mean]), np.array([float(verdicts)]))[0])
    estimate = _single(mean, deviation / np.sqrt(max(1, len(values))), len(values) - 1.0, len(values), least)
    return _difference(
        estimate,
        values,
        level,
        bounds=bounds,
        over="seeds",
        variances=variances_over_seeds(deviation) if varies else None,
    )


def crossed_difference(
    values_SI: np.ndarray,
    over: str,
    level: float = LEVEL,
    *,
    bounds: Bounds | None = None,
    verdicts: float = 1.0,
) -> Difference:
    """Test the mean of paired differences per seed and item, over ``seeds``, ``items`` or ``both``.

    Args:
        values_SI: shape (S, I); a seed without a value is NaN throughout.
        verdicts: number of verdicts behind one value.
    """
    values_SI = np.asarray(values_SI, dtype=float)
    values_SI = values_SI[~np.isnan(values_SI[:, 0])]
    if not len(values_SI):
        return paired_difference(np.zeros(0), level)
    estimate = crossed_estimate(values_SI[None], over, bounds=bounds, verdicts=verdicts)
    values_S = values_SI.mean(axis=1)
    if over == "seeds":
        varies = len(values_S) > 1 and values_S.std() > _ROUNDING
        variances = variances_over_seeds(float(values_S.std(ddof=1))) if varies else None
    elif over == "items":
        spread = float(values_SI.mean(axis=0).var(ddof=1)) if values_SI.shape[1] > 1 else 0.0
        variances = Variances(seeds=0.0, items=spread, rest=0.0) if spread > 0 else None
    else:
        variances = variances_over_both(values_SI)
    return _difference(
        estimate,
        values_S,
        level,
        bounds=bounds,
        over=over,
        items=values_SI.shape[1],
        variances=variances,
    )


def _single(mean: float, error: float, freedom: float, n: int, least: float) -> Estimate:
    def one(value: float) -> np.ndarray:
        return np.array([value], dtype=float)

    return Estimate(
        value=one(mean),
        error=one(error),
        freedom=one(freedom),
        n=np.array([n]),
        floor=one(0.0),
        least_error=one(least),
    )


def _difference(
    estimate: Estimate,
    values_S: np.ndarray,
    level: float,
    *,
    bounds: Bounds | None,
    over: str,
    items: int = 0,
    variances: Variances | None,
) -> Difference:
    nan, n = float("nan"), len(values_S)
    interval = estimate.interval(level, bounds)
    deviation = float(values_S.std(ddof=1)) if n > 1 else nan
    varies = n > 1 and deviation > _ROUNDING * np.abs(values_S).max()
    mean = float(interval.value[0])
    return Difference(
        mean=mean,
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        n=n,
        p=float(estimate.p()[0]),
        effect_size=mean / deviation if varies else nan,
        superiority=float(np.mean((values_S > 0) + 0.5 * (values_S == 0))) if n else nan,
        deviation=deviation,
        paired=True,
        over=over,
        items=items,
        variances=variances,
    )


def unpaired_difference(a: np.ndarray, b: np.ndarray, level: float = LEVEL) -> Difference:
    """Test ``b`` against ``a`` by Welch's t, whatever their numbers and variances; one value per seed each,
    NaN left out.
    """
    a, b = (np.asarray(v, dtype=float) for v in (a, b))
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    nan = float("nan")
    mean = float(b.mean() - a.mean()) if len(a) and len(b) else nan
    error = deviation = nan
    freedom, pooled = 1.0, 0.0
    if len(a) > 1 and len(b) > 1:
        parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
        error = float(np.sqrt(parts.sum()))
        freedom = float(parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum()) if error else 1.0
        deviation = float(error * np.sqrt(min(len(a), len(b))))
        squares = (len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)
        pooled = float(np.sqrt(squares / (len(a) + len(b) - 2)))
    n = min(len(a), len(b))
    estimate = _single(mean, error, freedom, n, 0.0)
    interval = estimate.interval(level)
    wins = (b[:, None] > a).mean() + 0.5 * (b[:, None] == a).mean() if len(a) and len(b) else nan
    return Difference(
        mean=mean,
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        n=n,
        p=float(estimate.p()[0]),
        effect_size=mean / pooled if pooled > 0 else nan,
        superiority=float(wins),
        deviation=deviation,
        paired=False,
        variances=variances_over_seeds(deviation) if deviation > 0 else None,
    )


def unpaired_items(a_SI: np.ndarray, b_SI: np.ndarray, over: str, level: float = LEVEL) -> Difference:
    """Test ``b`` against ``a`` on the same items with seeds of their own, over ``seeds``, ``items`` or
    ``both``.

    Args:
        a_SI: one value per seed and item; a seed without a value is NaN throughout.
        b_SI: the same of the other side, on the same items.
    """
    a_SI, b_SI = (np.asarray(v, dtype=float)[~np.isnan(v[:, 0])] for v in (a_SI, b_SI))
    plain = unpaired_difference(a_SI.mean(axis=1), b_SI.mean(axis=1), level)
    sizes, items = np.array([len(a_SI), len(b_SI)]), a_SI.shape[1]
    if over == "seeds" or sizes.min() == 0 or items < 2 or (over == "both" and sizes.min() < 2):
        return plain
    by_item = float((b_SI.mean(axis=0) - a_SI.mean(axis=0)).var(ddof=1)) / items
    variances = Variances(seeds=0.0, items=by_item * items, rest=0.0)
    total, freedom = by_item, items - 1.0
    if over == "both":
        by_seed = np.array([side.mean(axis=1).var(ddof=1) for side in (a_SI, b_SI)]) / sizes
        parts = [variances_over_both(side) for side in (a_SI, b_SI)]
        rest = np.array([part.rest if part else 0.0 for part in parts])
        shared, smaller = float((rest / (sizes * items)).sum()), float(sizes.min())
        total = max(float(by_seed.sum()) + by_item - shared, float(by_seed.sum()), by_item)
        freedom = (
            total**2 / float((by_seed**2 / (sizes - 1)).sum() + by_item**2 / (items - 1)) if total else 1.0
        )
        variances = Variances(
            seeds=max(0.0, float(by_seed.sum()) - shared) * smaller,
            items=max(0.0, by_item - shared) * items,
            rest=shared * smaller * items,
        )
    estimate = _single(plain.mean, float(np.sqrt(total)), freedom, plain.n, 0.0)
    interval = estimate.interval(level)
    return replace(
        plain,
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        p=float(estimate.p()[0]),
        over=over,
        items=items,
        variances=variances if total > 0 else None,
    )
