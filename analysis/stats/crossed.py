"""Intervals of a mean over seeds × items: what other seeds, other items, or both would give.

Seeds and items are crossed: every seed meets every item. The standard error is the two-way clustered one
(Cameron, Gelbach and Miller 2011) with Satterthwaite's degrees of freedom, which covers what it promises from
4 seeds on; interval, p and power all come from it. Near the ends of a metric's range it is widened as
:mod:`analysis.stats.boundary` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special

from analysis.stats.boundary import (
    FEW_CHANGED_ITEMS,
    FEW_ITEMS,
    discordant_error,
    item_floor,
    share_ends,
)
from analysis.stats.intervals import CHANGE, LEVEL, SHARE, Bounds, Interval

OVER = ("seeds", "items", "both")
"""What an interval can generalise over."""

_CHUNK_VALUES = 500_000
"""Values looked at at once (4 MB stay in the processor's cache)."""


class Values(Protocol):
    """What can be cut into groups: an array of shape (G, S, I), or what makes one of each slice."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of groups, seeds and items."""

    def __getitem__(self, groups: slice, /) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Means with the standard errors that intervals and tests rest on, arrays of shape (G,)."""

    value: np.ndarray
    error: np.ndarray
    """Standard error; NaN where there is none."""
    freedom: np.ndarray
    """Its degrees of freedom."""
    n: np.ndarray
    """Number of seeds."""
    floor: np.ndarray
    """Least design effect, see :mod:`analysis.stats.boundary`."""
    least_error: np.ndarray
    """Normal standard error below which a difference of shares is not known; 0 away from the boundary."""

    def interval(self, level: float = LEVEL, bounds: Bounds | None = None) -> Interval:
        half = self.half(level)
        low, high = self.value - half, self.value + half
        if bounds == SHARE:
            value = np.clip(self.value, 0, 1)  # centring may lead out by a rounding
            safe = share_ends(value, self.error**2, np.maximum(self.freedom, 1), self.floor, level)
            low, high = (np.where(np.isnan(half), np.nan, end) for end in safe)
        elif bounds is not None:
            low, high = np.maximum(low, bounds[0]), np.minimum(high, bounds[1])
        return Interval(value=self.value, low=low, high=high, n=self.n)

    def half(self, level: float = LEVEL) -> np.ndarray:
        """Half of the interval's width, away from the ends of the range."""
        own = special.stdtrit(np.maximum(self.freedom, 1e-9), 0.5 + level / 2) * self.error
        half_G: np.ndarray = np.maximum(own, special.ndtri(0.5 + level / 2) * self.least_error)
        return half_G

    def p(self) -> np.ndarray:
        """Two-sided p of a mean of zero: below 1 − level exactly where the interval of :meth:`half` leaves
        zero out.
        """
        own = two_sided_p(self.value, self.error, self.freedom)
        least = np.where(self.least_error > 0, two_sided_p(self.value, self.least_error, np.inf), 0.0)
        p_G: np.ndarray = np.maximum(own, least)
        return p_G


def two_sided_p(value: np.ndarray, error: np.ndarray, freedom: np.ndarray | float) -> np.ndarray:
    """Student's p of ``value`` being zero; with an error of zero it is 0, or 1 for zero itself."""
    value, error, freedom = np.broadcast_arrays(value, error, freedom)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.abs(value) / error
    normal = np.isinf(freedom)
    tail = np.where(normal, special.ndtr(-ratio), special.stdtr(np.where(normal, 1.0, freedom), -ratio))
    none = np.where(value == 0, 1.0, 0.0)
    return np.where(error > 0, 2 * tail, np.where(error == 0, none, np.nan))


def crossed_interval(
    values_GSI: Values,
    over: str = "both",
    level: float = LEVEL,
    *,
    bounds: Bounds | None = None,
    verdicts: np.ndarray | float = 1.0,
) -> Interval:
    """Interval of each group's mean over seeds and items.

    Args:
        values_GSI: shape (G, S, I), looked at in slices of groups; a seed that a group lacks is NaN
            throughout.
        over: ``seeds`` (these items, other seeds), ``items`` (these seeds, other items) or ``both``.
        bounds: range of the values; shares and their differences have intervals that hold near it.
        verdicts: number of verdicts behind one value, shape (G,).

    Returns:
        Intervals of shape (G,); NaN where the group has fewer than two seeds and ``over`` asks for seeds.
    """
    return crossed_estimate(values_GSI, over, bounds=bounds, verdicts=verdicts).interval(level, bounds)


def crossed_estimate(
    values_GSI: Values,
    over: str = "both",
    *,
    bounds: Bounds | None = None,
    verdicts: np.ndarray | float = 1.0,
) -> Estimate:
    """Mean of each group over seeds and items with its standard error; arguments as
    :func:`crossed_interval`.
    """
    groups, seeds, items = values_GSI.shape
    result_6G = np.full((6, groups), np.nan)
    result_6G[3:] = 0.0
    each_G = np.broadcast_to(np.asarray(verdicts, dtype=float), (groups,))
    step = max(1, _CHUNK_VALUES // max(1, seeds * items))
    for start in range(0, groups, step):
        part = slice(start, start + step)
        chunk_GSI = np.asarray(values_GSI[part], dtype=float)
        present_GS = ~np.isnan(chunk_GSI[:, :, 0])  # a missing seed is NaN throughout
        if present_GS.all():
            result_6G[:, part] = _estimate(chunk_GSI, over, bounds, each_G[part])
            continue
        patterns, member = np.unique(present_GS, axis=0, return_inverse=True)
        for pattern, kept in enumerate(patterns):
            rows = np.flatnonzero(member.ravel() == pattern)
            if kept.any():
                sample_GSI = chunk_GSI[np.ix_(rows, np.flatnonzero(kept))]
                result_6G[:, start + rows] = _estimate(sample_GSI, over, bounds, each_G[start + rows])
    value, error, freedom, n, floor, least = result_6G
    return Estimate(
        value=value, error=error, freedom=freedom, n=n.astype(int), floor=floor, least_error=least
    )


def _estimate(sample_GSI: np.ndarray, over: str, bounds: Bounds | None, verdicts_G: np.ndarray) -> np.ndarray:
    """Rows of :class:`Estimate` of groups without missing values."""
    groups, seeds, items = sample_GSI.shape
    value_G = sample_GSI.mean(axis=(1, 2))
    error_G, freedom_G = standard_error(sample_GSI, over)
    floor_G, least_G = np.zeros(groups), np.zeros(groups)
    if bounds in (SHARE, CHANGE):
        verdicts_G = np.maximum(1.0, verdicts_G * seeds * items)
        if bounds == SHARE:
            mean_GI = sample_GSI.mean(axis=1)
            rarer_GI, few_items = np.where((value_G > 0.5)[:, None], 1 - mean_GI, mean_GI), FEW_ITEMS
        else:
            rarer_GI, few_items = np.abs(sample_GSI).mean(axis=1), FEW_CHANGED_ITEMS
        floor_G = 1 / verdicts_G
        if over != "seeds":
            floor_G = item_floor(np.clip(rarer_GI, 0, 1), verdicts_G, few_items)
        if bounds == CHANGE:
            least_G = discordant_error(value_G, rarer_GI.mean(axis=1), np.nan_to_num(error_G**2), floor_G)
    return np.stack([value_G, error_G, freedom_G, np.full(groups, seeds), floor_G, least_G])


def standard_error(sample_GSI: np.ndarray, over: str) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of the mean and its degrees of freedom, each of shape (G,), from variance components."""
    groups, seeds, items = sample_GSI.shape
    absent = np.full(groups, np.nan)
    mean_GS, mean_GI = sample_GSI.mean(axis=2), sample_GSI.mean(axis=1)
    by_seed = mean_GS.var(axis=1, ddof=1) / seeds if seeds > 1 else absent
    by_item = mean_GI.var(axis=1, ddof=1) / items if items > 1 else absent
    if over == "seeds":
        return np.sqrt(by_seed), np.full(groups, max(seeds - 1.0, 0.0))
    if over == "items":
        return np.sqrt(by_item), np.full(groups, max(items - 1.0, 0.0))
    if seeds < 2 or items < 2:
        return absent, absent
    shared = residual_variance(sample_GSI, mean_GS, mean_GI) / (seeds * items)
    # Both one-way terms hold the residual once; it is taken away once. Never below the larger of the two.
    total = np.maximum(by_seed + by_item - shared, np.maximum(by_seed, by_item))
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = total**2 / (by_seed**2 / (seeds - 1) + by_item**2 / (items - 1))
    # Without any variance there is no telling which of the two would vary: the fewer degrees of freedom.
    return np.sqrt(total), np.where(total > 0, freedom, min(seeds, items) - 1.0)


def residual_variance(sample_GSI: np.ndarray, mean_GS: np.ndarray, mean_GI: np.ndarray) -> np.ndarray:
    """Variance beyond seeds and items, from the residual's sum of squares without an array of residuals."""
    _, seeds, items = sample_GSI.shape
    squares = np.einsum("gsi,gsi->g", sample_GSI, sample_GSI) + seeds * items * mean_GS.mean(axis=1) ** 2
    squares -= items * (mean_GS**2).sum(axis=1) + seeds * (mean_GI**2).sum(axis=1)
    variance_G: np.ndarray = np.maximum(squares, 0) / ((seeds - 1) * (items - 1))
    return variance_G
