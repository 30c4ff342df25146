"""Intervals over seeds for many groups at once: Student-t for means, winsorised t for the interquartile mean,
order statistics for the median.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.stats.boundary import changed_error, share_ends

LEVEL = 0.95
"""Coverage that intervals aim at."""

FEW_SEEDS = 5
"""Seeds up to which no interval of a median or an interquartile mean holds what it promises: the range of
five values holds the median in 94 % of samples, that of four in 88 %."""

Bounds = tuple[float, float]
"""Smallest and largest value that a metric can take."""

SHARE: Bounds = (0.0, 1.0)
CHANGE: Bounds = (-1.0, 1.0)
"""Range of a difference of shares."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Estimates with their intervals, arrays of one shape; NaN where there is none."""

    value: np.ndarray
    """The estimate."""
    low: np.ndarray
    """Lower end; NaN with fewer than two values."""
    high: np.ndarray
    """Upper end; NaN with fewer than two values."""
    n: np.ndarray
    """Number of values behind the estimate."""


def mean_interval(
    values_GS: np.ndarray,
    level: float = LEVEL,
    *,
    bounds: Bounds | None = None,
    verdicts: np.ndarray | float | None = None,
) -> Interval:
    """Student-t interval of each row's mean, NaN entries left out, inside the metric's range.

    Args:
        values_GS: shape (G, S) or (S,).
        bounds: range of the metric; shares and differences of shares have intervals that hold near it.
        verdicts: number of verdicts behind each row, shape (G,), for shares and their differences.
    """
    student = t_interval(values_GS, level)
    if bounds is None:
        return student
    low, high = student.low, student.high
    if verdicts is not None and bounds in (SHARE, CHANGE):
        n, count = student.n, np.maximum(1.0, np.broadcast_to(verdicts, student.value.shape).astype(float))
        some = n > 1
        error, mean = _error(values_GS), student.value
        if bounds == SHARE:
            rarer = np.minimum(mean, 1 - mean) * count
            low, high = share_ends(
                np.clip(mean, 0, 1), error**2, np.maximum(n - 1, 1), 1 / count, level, rarer_G=rarer
            )
        else:
            half = special.ndtri(0.5 + level / 2) * changed_error(mean, count)
            low, high = np.minimum(low, mean - half), np.maximum(high, mean + half)
        low, high = np.where(some, low, np.nan), np.where(some, high, np.nan)
    return Interval(
        value=student.value, low=np.maximum(low, bounds[0]), high=np.minimum(high, bounds[1]), n=student.n
    )


def t_interval(values_GS: np.ndarray, level: float = LEVEL) -> Interval:
    """Student-t interval of each row's mean, NaN entries left out.

    Args:
        values_GS: shape (G, S) or (S,).
    """
    values_GS = np.atleast_2d(np.asarray(values_GS, dtype=float))
    n, mean = (~np.isnan(values_GS)).sum(axis=1), mean_of(values_GS)
    half = special.stdtrit(np.maximum(n - 1, 1), 0.5 + level / 2) * _error(values_GS)
    return Interval(value=mean, low=mean - half, high=mean + half, n=n)


def _error(values_GS: np.ndarray) -> np.ndarray:
    """Standard error of each row's mean; NaN with fewer than two values."""
    values_GS = np.atleast_2d(np.asarray(values_GS, dtype=float))
    present = ~np.isnan(values_GS)
    n, mean = present.sum(axis=1), mean_of(values_GS)
    deviation = np.where(present, values_GS - mean[:, None], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error_G: np.ndarray = np.sqrt((deviation**2).sum(axis=1) / np.where(n > 1, n - 1, np.nan) / n)
    return error_G


def mean_of(values_GS: np.ndarray) -> np.ndarray:
    """Mean of each row, NaN left out; NaN for a row without values."""
    present = ~np.isnan(values_GS)
    n = present.sum(axis=1)
    mean_G: np.ndarray = np.where(present, values_GS, 0.0).sum(axis=1) / np.where(n > 0, n, np.nan)
    return mean_G


def iqm_interval(values_GS: np.ndarray, level: float = LEVEL) -> Interval:
    """Interquartile mean of each row: a quarter, rounded down, is cut from each end.

    Its interval is Student's of the winsorised values (Tukey and McLaughlin 1963), their variance taken a
    share 1/n larger: without it 8 normal values are covered in 93.5 % of samples, with it in 94.3 %.
    """

    def interval(sorted_GN: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size = sorted_GN.shape[1]
        cut, kept = size // 4, size - 2 * (size // 4)
        middle_GN = sorted_GN[:, cut : size - cut]
        winsorised_GN = np.clip(sorted_GN, middle_GN[:, :1], middle_GN[:, -1:])
        value_G = middle_GN.mean(axis=1)
        error_G = np.sqrt(winsorised_GN.var(axis=1) * (size + 1) / (kept * (kept - 1)))
        half_G = special.stdtrit(kept - 1, 0.5 + level / 2) * error_G
        return value_G, value_G - half_G, value_G + half_G

    return _by_size(values_GS, interval)


def median_interval(values_GS: np.ndarray, level: float = LEVEL) -> Interval:
    """Median of each row between two order statistics, interpolated (Hettmansperger and Sheather 1986).

    With few values the range is the widest there is; it holds the median with chance 1 − 2^(1−n).
    """

    def interval(sorted_GN: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size = sorted_GN.shape[1]
        depths = np.arange(1, (size + 1) // 2 + 1)
        held = 1 - 2 * special.bdtr(depths - 1, size, 0.5)
        place = max(0, int((held >= level).sum()) - 1)
        share = 0.0
        if place + 1 < len(depths) and held[place] > level:
            depth, inner = int(depths[place]), (held[place] - level) / (held[place] - held[place + 1])
            share = (size - depth) * inner / (depth + (size - 2 * depth) * inner)
        inside = min(place + 1, size - 1)
        low_G = (1 - share) * sorted_GN[:, place] + share * sorted_GN[:, inside]
        high_G = (1 - share) * sorted_GN[:, -1 - place] + share * sorted_GN[:, -1 - inside]
        return np.median(sorted_GN, axis=1), low_G, high_G

    return _by_size(values_GS, interval)


def _by_size(
    values_GS: np.ndarray, interval: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> Interval:
    """An interval of sorted values, for the rows of each number of values at once."""
    values_GS = np.atleast_2d(np.asarray(values_GS, dtype=float))
    n = (~np.isnan(values_GS)).sum(axis=1)
    value, low, high = (np.full(len(values_GS), np.nan) for _ in range(3))
    ordered_GS = np.sort(values_GS, axis=1)  # NaN sorts last
    for size in np.unique(n[n > 0]):
        rows = np.flatnonzero(n == size)
        if size == 1:
            value[rows] = ordered_GS[rows, 0]
        else:
            value[rows], low[rows], high[rows] = interval(ordered_GS[rows, :size])
    return Interval(value=value, low=low, high=high, n=n)
