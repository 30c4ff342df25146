"""Means of groups of cells, with intervals over seeds and items where items are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.data.sweep import SweepData
from analysis.tables.crossed_means import crossed_means, over_items_too
from analysis.tables.seed_values import gather


@dataclass(frozen=True, kw_only=True)
class GroupMeans:
    """Means of groups of cells."""

    frame: pd.DataFrame
    """One row per group that has a value: the axes, the mean under its name, its interval as ``low`` and
    ``high``, and ``n`` (seeds).
    """
    over: str
    """What the intervals generalise over: ``both`` or ``seeds``."""


def group_means(sweep: SweepData, by: Sequence[str], metric: str, name: str) -> GroupMeans:
    """Estimate the mean of ``metric`` in each group of cells that agree on ``by``."""
    gathered = gather(sweep, by, metric)
    interval = gathered.interval()
    estimate = over_items_too(
        sweep,
        metric,
        by,
        interval.n,
        lambda: crossed_means(sweep, gathered, by, metric, None, "both")["mean"],
    )
    ends = interval if estimate is None else estimate.interval(bounds=gathered.bounds)
    frame = gathered.groups[list(by)].assign(
        **{name: interval.value, "low": ends.low, "high": ends.high, "n": interval.n}
    )
    return GroupMeans(
        frame=frame[interval.n > 0].reset_index(drop=True), over="seeds" if estimate is None else "both"
    )
