"""Variance components of one metric over two crossed random factors, one run per combination."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True, kw_only=True)
class Components:
    """Shares of the variance of a single run; they add up to 1."""

    first: float
    """Share of the first factor, the rows."""
    second: float
    """Share of the second factor, the columns."""
    interaction: float
    """Share of their interaction, which one run per combination cannot tell from what remains."""
    first_low: float
    """Lower end of the 95 % interval of the first factor's share among runs of one column."""
    first_high: float


def crossed_components(values_RC: np.ndarray, level: float = 0.95) -> Components | None:
    """Estimate variance components by the method of moments, negative ones set to 0.

    The interval is that of the intraclass correlation ICC(3,1) of Shrout and Fleiss (1979): first / (first +
    interaction), exact for normal effects.

    Args:
        values_RC: one value per combination, shape (rows, columns), no hole.

    Returns:
        ``None`` with fewer than two rows or columns, or without any variance.

    Raises:
        ValueError: for a missing value.
    """
    values_RC = np.asarray(values_RC, dtype=float)
    if np.isnan(values_RC).any():
        raise ValueError("crossed_components needs a value for every combination; drop what has holes")
    rows, columns = values_RC.shape
    if rows < 2 or columns < 2:
        return None
    mean = values_RC.mean()
    row_R, column_C = values_RC.mean(axis=1), values_RC.mean(axis=0)
    freedom = (rows - 1) * (columns - 1)
    between_rows = columns * float(((row_R - mean) ** 2).sum()) / (rows - 1)
    between_columns = rows * float(((column_C - mean) ** 2).sum()) / (columns - 1)
    rest_RC = values_RC - row_R[:, None] - column_C + mean
    rest = float((rest_RC**2).sum()) / freedom
    first = max(0.0, (between_rows - rest) / columns)
    second = max(0.0, (between_columns - rest) / rows)
    total = first + second + rest
    if total == 0:
        return None
    ratio = between_rows / rest if rest else np.inf
    tail = (1 - level) / 2
    low, high = (
        _correlation(ratio / special.fdtri(rows - 1, freedom, quantile), columns)
        for quantile in (1 - tail, tail)
    )
    return Components(
        first=first / total,
        second=second / total,
        interaction=rest / total,
        first_low=low,
        first_high=high,
    )


def _correlation(ratio: float, columns: int) -> float:
    """Intraclass correlation that a ratio of mean squares stands for."""
    return float(np.clip((ratio - 1) / (ratio + columns - 1), 0, 1)) if np.isfinite(ratio) else 1.0
