"""Groups that lie far from the rest get a panel of their own, and do not squeeze what is compared."""

from __future__ import annotations

import pandas as pd

SQUEEZE = 3.0
"""Times by which the axis of the rest must shrink for a panel of its own to be worth its place."""

SQUEEZE_OF_TWO = 6.0
"""The same where a single group is the rest: two groups are always apart."""

FLAT = 1e-3
"""Share of the whole below which the rest is flat, and has nothing to show on a scale of its own."""


def split_collapsed(
    frame: pd.DataFrame, group: str | None, low: str, high: str
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Part the groups that stretch the axis from the others; the second is ``None`` where none does.

    At most half of the groups are set apart, the one that reaches farthest first; and only where the span of
    the others is then a third of the whole, or less.
    """
    if group is None or frame[group].nunique(dropna=False) < 2:
        return frame, None
    key = frame[group].map(lambda v: None if v != v else v).astype(object)
    spans = pd.DataFrame(
        {"low": frame[low].fillna(frame[high]), "high": frame[high].fillna(frame[low]), "group": key}
    )
    ends = spans.groupby("group", sort=False, dropna=False).agg(low=("low", "min"), high=("high", "max"))
    ends = ends.dropna()
    whole = _span(ends)
    rest = ends
    apart: list[object] = []
    while len(apart) < len(ends) // 2 and not _is_relieved(rest, whole):
        farthest = min(rest.index, key=lambda name: _span(rest.drop(name)))
        apart.append(farthest)
        rest = rest.drop(farthest)
    if not apart or not _is_relieved(rest, whole) or _span(rest) < FLAT * whole:
        return frame, None
    far = key.isin(apart) | (key.isna() & any(name is None or name != name for name in apart))
    return frame[~far], frame[far]


def _span(ends: pd.DataFrame) -> float:
    return float(ends["high"].max() - ends["low"].min())


def _is_relieved(rest: pd.DataFrame, whole: float) -> bool:
    return _span(rest) * (SQUEEZE if len(rest) > 1 else SQUEEZE_OF_TWO) <= whole
