"""Which values a metric can take, and how many verdicts one of them is of: what intervals respect."""

from __future__ import annotations

import numpy as np

from analysis.stats.intervals import CHANGE, SHARE, Bounds
from sweeps.spec.metrics import MetricInfo

_LOOKED_AT = 10_000
"""Values among which the smallest step between two is looked for."""


def bounds_of(info: MetricInfo, value: np.ndarray) -> Bounds:
    """The range of a metric; of one without a known range no band goes below zero where no value does.

    Args:
        value: values that it takes, NaN left out.
    """
    low, high = info.range
    known = value[~np.isnan(value)]
    if low is None and len(known) and known.min() >= 0:
        low = 0.0
    return (-np.inf if low is None else float(low), np.inf if high is None else float(high))


def verdicts_per_value(info: MetricInfo, value: np.ndarray) -> float | None:
    """Verdicts that a share is of, read from the smallest step between two of its values, which is never too
    many; ``None`` for a metric that is no share.

    Args:
        value: of each run, NaN left out.
    """
    if not info.is_share or bounds_of(info, value) not in (SHARE, CHANGE):
        return None
    known = np.unique(np.round(value[~np.isnan(value)][:_LOOKED_AT], 9))
    steps = np.diff(np.append(known, 1.0)) if len(known) else np.zeros(0)
    steps = steps[steps > 1e-6]
    return float(max(1.0, np.round(1 / steps.min()))) if len(steps) else 1.0
