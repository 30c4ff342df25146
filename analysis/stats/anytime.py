"""Intervals of means that hold at any stop: for sweeps whose runs were chosen by what earlier runs said."""

from __future__ import annotations

import numpy as np

from analysis.stats.intervals import LEVEL, Bounds, Interval
from sweeps.deciding.evidence import NormalEvidence
from sweeps.deciding.intervals import anytime_intervals


def anytime_interval(
    values_GS: np.ndarray, level: float = LEVEL, *, bounds: Bounds | None = None
) -> Interval:
    """Confidence sequence of each row's mean at its number of values, NaN entries left out.

    It holds at ``level`` whenever one stops and whatever one looks at, for values of independent seeds that
    are normal with any spread: the means that :class:`sweeps.deciding.evidence.NormalEvidence`, which decides
    races, has not rejected. Values are read in the order of the columns. Ends are NaN where nothing is known.

    Args:
        values_GS: shape (G, S), seeds in the order in which they were run.
        bounds: range of the metric.
    """
    n_G = (~np.isnan(values_GS)).sum(axis=1)
    total_G = np.where(np.isnan(values_GS), 0.0, values_GS).sum(axis=1)
    mean_G = np.divide(total_G, n_G, out=np.full(len(n_G), np.nan), where=n_G > 0)
    low_G, high_G = anytime_intervals(NormalEvidence, values_GS, np.zeros_like(values_GS), 1 - level)
    low, high = (np.where(np.isfinite(end_G) & (n_G > 1), end_G, np.nan) for end_G in (low_G, high_G))
    if bounds is not None:
        low, high = np.maximum(low, bounds[0]), np.minimum(high, bounds[1])
    return Interval(value=mean_G, low=low, high=high, n=n_G)
