"""Intervals of a mean over seeds × items: what other seeds, other items, or both would give.

Seeds and items are crossed: every seed meets every item. Resampling both independently (the pigeonhole
bootstrap, Owen 2007) gives the distribution's shape. Its width is known to be off for few seeds: it is too
narrow by (S−1)/S and counts the residual three times. The deviations are therefore scaled to the two-way
clustered standard error (Cameron, Gelbach and Miller 2011) with Satterthwaite's degrees of freedom, which
covers what it promises from 4 seeds on.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy import special

from analysis.stats.intervals import LEVEL, Interval

OVER = ("seeds", "items", "both")
"""What an interval can generalise over."""

NUM_RESAMPLES = 1000
"""Crossed resamples; the standard error does not come from them, only the shape."""

MAX_BOOTSTRAPPED = 5000
"""Groups up to which the shape is resampled; beyond, intervals are symmetric with the same width."""

_CHUNK_VALUES = 4_000_000
"""Resampled values held at once (32 MB)."""


class Values(Protocol):
    """What can be cut into groups: an array of shape (G, S, I), or what makes one of each slice."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of groups, seeds and items."""

    def __getitem__(self, groups: slice, /) -> np.ndarray: ...


def crossed_interval(values_GSI: Values, over: str = "both", level: float = LEVEL) -> Interval:
    """Interval of each group's mean over seeds and items.

    Args:
        values_GSI: shape (G, S, I), looked at in slices of groups; a seed that a group lacks is NaN
            throughout.
        over: ``seeds`` (these items, other seeds), ``items`` (these seeds, other items) or ``both``.

    Returns:
        Intervals of shape (G,); NaN where the group has fewer than two seeds and ``over`` asks for seeds.
    """
    groups, seeds, items = values_GSI.shape
    value, low, high = (np.full(groups, np.nan) for _ in range(3))
    n = np.zeros(groups, dtype=int)
    step = max(1, _CHUNK_VALUES // 8 // max(1, seeds * items))
    for start in range(0, groups, step):
        part = slice(start, start + step)
        chunk_GSI = np.asarray(values_GSI[part], dtype=float)
        present_GS = ~np.isnan(chunk_GSI[:, :, 0])  # a missing seed is NaN throughout
        n[part] = present_GS.sum(axis=1)
        if present_GS.all():
            ends = _interval(chunk_GSI, over, level, resample=groups <= MAX_BOOTSTRAPPED)
            value[part], low[part], high[part] = ends
            continue
        patterns, member = np.unique(present_GS, axis=0, return_inverse=True)
        for pattern, kept in enumerate(patterns):
            rows = np.flatnonzero(member.ravel() == pattern)
            if kept.any():
                ends = _interval(chunk_GSI[rows][:, kept], over, level, resample=groups <= MAX_BOOTSTRAPPED)
                value[start + rows], low[start + rows], high[start + rows] = ends
    return Interval(value=value, low=low, high=high, n=n)


def _interval(
    sample_GSI: np.ndarray, over: str, level: float, *, resample: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lower and upper end per group, without missing values."""
    value_G = sample_GSI.mean(axis=(1, 2))
    error_G, freedom_G = standard_error(sample_GSI, over)
    half_G = special.stdtrit(np.maximum(freedom_G, 1e-9), 0.5 + level / 2) * error_G
    shape_G2 = _shape(sample_GSI, over, level) if resample else np.ones((len(value_G), 2))
    return value_G, value_G - half_G * shape_G2[:, 0], value_G + half_G * shape_G2[:, 1]


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
    grand_G = mean_GS.mean(axis=1)
    # The residual's sum of squares, without an array of residuals.
    squares = np.einsum("gsi,gsi->g", sample_GSI, sample_GSI) + seeds * items * grand_G**2
    squares -= items * (mean_GS**2).sum(axis=1) + seeds * (mean_GI**2).sum(axis=1)
    shared = np.maximum(squares, 0) / ((seeds - 1) * (items - 1)) / (seeds * items)
    # Both one-way terms hold the residual once; it is taken away once. Never below the larger of the two.
    total = np.maximum(by_seed + by_item - shared, np.maximum(by_seed, by_item))
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = total**2 / (by_seed**2 / (seeds - 1) + by_item**2 / (items - 1))
    return np.sqrt(total), np.where(total > 0, freedom, 1.0)


def _shape(sample_GSI: np.ndarray, over: str, level: float) -> np.ndarray:
    """How far the bootstrap's lower and upper ends lie from the mean, relative to a symmetric one; (G, 2)."""
    groups, seeds, items = sample_GSI.shape
    rng = np.random.default_rng([seeds, items])
    even_S = np.full((1, seeds), 1 / seeds, dtype=np.float32)
    even_I = np.full((1, items), 1 / items, dtype=np.float32)
    weight_BS = _weights(rng, seeds) if over != "items" else even_S
    weight_BI = _weights(rng, items) if over != "seeds" else even_I
    grand_G = sample_GSI.mean(axis=(1, 2))
    shape_G2 = np.ones((groups, 2))
    tail = (1 - level) / 2
    step = max(1, _CHUNK_VALUES // (seeds * NUM_RESAMPLES))
    for start in range(0, groups, step):
        part = slice(start, start + step)
        # Single precision: the shape needs three digits.
        over_items_GSB = sample_GSI[part].reshape(-1, items).astype(np.float32) @ weight_BI.T
        over_items_GSB = over_items_GSB.reshape(-1, seeds, len(weight_BI))
        boot_GB = (over_items_GSB * weight_BS.T).sum(axis=1) - grand_G[part, None]
        low_G, high_G = np.quantile(boot_GB, [tail, 1 - tail], axis=1)
        width_G = np.where(high_G > low_G, (high_G - low_G) / 2, np.nan)
        # A resampled end on the wrong side of the mean would turn the interval inside out.
        ends_G2 = np.clip(np.stack([-low_G, high_G], axis=1) / width_G[:, None], 0.25, 1.75)
        shape_G2[part] = np.where(np.isnan(ends_G2), 1.0, ends_G2)
    return shape_G2


def _weights(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.multinomial(size, np.full(size, 1 / size), NUM_RESAMPLES).astype(np.float32) / size
