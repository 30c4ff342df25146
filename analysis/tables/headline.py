"""What a sweep says in short: per value of one axis whether training raised the metric, and whether it fell
again.

All claims together are one family: with a 5 % chance at most is any of them false. The interval of a gain is
therefore simultaneous over the rows, and its verdict is whether it leaves out zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.data.sweep import SweepData
from analysis.stats.crossed import Estimate
from analysis.stats.intervals import CHANGE, LEVEL, Interval, mean_interval
from analysis.tables.crossed_means import crossed_means
from analysis.tables.falls import Fall, falls
from analysis.tables.item_means import over_or_default
from analysis.tables.peaks import peaks
from analysis.tables.seed_values import gather
from sweeps.spec.errors import UserError


@dataclass(frozen=True, kw_only=True)
class HeadlineRow:
    """One value of the headline axis."""

    group: dict[str, Any]
    """The axes of the row, ``num_cells`` and the counts of its runs."""
    n: int
    """Seeds."""
    gain: float
    low: float
    """Lower end of the gain's interval, simultaneous over all claims of the headline; NaN with one seed."""
    high: float
    fall: Fall | None
    """Its end minus its own peak; ``None`` where it has no curve."""
    peak_step: float


@dataclass(frozen=True, kw_only=True)
class Headline:
    """All rows with what their intervals mean."""

    rows: list[HeadlineRow]
    over: str
    level: float
    """Coverage of each interval, such that all claims hold together with 95 %."""
    sign: int
    """−1 where a smaller metric is better."""

    def claims_fall(self, row: HeadlineRow) -> bool:
        """Whether the row ends below its own peak, corrected for the steps and for the other claims."""
        return row.fall is not None and row.fall.is_claimed(self.sign, 1 - self.level)


def family_level(gains: int, falls: int) -> float:
    """Coverage of each of so many claims that all hold together with :data:`LEVEL` (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, gains + falls)


def headline_rows(
    sweep: SweepData, by: Sequence[str], metric: str, gain: str, over: str | None = None
) -> Headline:
    """Judge the gain and the end of each group of cells.

    Args:
        over: what the claims generalise over; both seeds and items where items are recorded.

    Raises:
        UserError: for an unknown word.
    """
    asked, over = over, over_or_default(sweep, metric, over, by)
    try:
        return _judged(sweep, by, metric, gain, over)
    except UserError:
        if asked is not None or over == "seeds":
            raise
        return _judged(sweep, by, metric, gain, "seeds")  # runs judged on different items have no common ones


def _judged(sweep: SweepData, by: Sequence[str], metric: str, gain: str, over: str) -> Headline:
    sign = sweep.info(metric).sign
    gathered = gather(sweep, by, gain)
    fallen = _falls(sweep, by, metric, over)
    testable = int(((~np.isnan(gathered.values)).sum(axis=1) > (0 if over == "items" else 1)).sum())
    level = family_level(testable, sum(fall is not None for fall, _ in fallen))
    if over == "seeds" or not len(gathered.seeds):
        interval = mean_interval(gathered.values, level, bounds=gathered.bounds, verdicts=gathered.verdicts)
    else:
        estimate: Estimate = crossed_means(sweep, gathered, by, gain, None, over)["mean"]
        interval = estimate.interval(level, CHANGE)
    return Headline(
        rows=_rows(gathered.groups.to_dict("records"), interval, fallen),
        over=over,
        level=level,
        sign=sign,
    )


def _rows(
    groups: list[dict], interval: Interval, fallen: list[tuple[Fall | None, float]]
) -> list[HeadlineRow]:
    return [
        HeadlineRow(
            group=group,
            n=int(interval.n[g]),
            gain=float(interval.value[g]),
            low=float(interval.low[g]),
            high=float(interval.high[g]),
            fall=fallen[g][0],
            peak_step=fallen[g][1],
        )
        for g, group in enumerate(groups)
    ]


def _falls(sweep: SweepData, by: Sequence[str], metric: str, over: str) -> list[tuple[Fall | None, float]]:
    """The fall of each group's end from its peak, and the step of the peak."""
    if metric not in sweep.arrow("SELECT * FROM steps LIMIT 0").column_names:
        return [(None, float("nan"))] * sweep.columns([metric]).group(by).size
    columns, _ = peaks(sweep, by, metric)
    peak_G = columns["peak_step"].astype(float)
    (fallen,) = falls(sweep, by, metric, peak_G, over)
    return list(zip(fallen, peak_G.tolist(), strict=True))
