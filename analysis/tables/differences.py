"""Tested differences of groups of runs, over seeds, over items, or over both."""

from __future__ import annotations

import numpy as np

from analysis.stats.intervals import Bounds
from analysis.stats.testing import Difference, crossed_difference, paired_difference


def tested(
    difference_GS: np.ndarray,
    count_GS: np.ndarray,
    over: str,
    *,
    bounds: Bounds | None,
    verdicts: np.ndarray | None,
    items_GSI: np.ndarray | None,
) -> list[Difference]:
    """The paired test of every group.

    Args:
        difference_GS: per group and seed, NaN where there is none.
        count_GS: number of pairs of runs behind each.
        verdicts: behind each group's difference over seeds, shape (G,).
        items_GSI: the differences item by item; they are shifted so that each seed's mean is its difference,
            which missing runs may have moved.
    """
    if over == "seeds" or items_GSI is None:
        many = [None] * len(difference_GS) if verdicts is None else verdicts.tolist()
        return [
            paired_difference(row, bounds=bounds, verdicts=each)
            for row, each in zip(difference_GS, many, strict=True)
        ]
    values_GSI = items_GSI + (difference_GS - items_GSI.mean(axis=2))[:, :, None]
    fewest_G = np.where(count_GS > 0, count_GS, np.inf).min(axis=1)
    return [
        crossed_difference(
            values_SI, over, bounds=bounds, verdicts=float(fewest) if np.isfinite(fewest) else 1.0
        )
        for values_SI, fewest in zip(values_GSI, fewest_G, strict=True)
    ]
