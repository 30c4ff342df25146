"""Rank correlation with a permutation p, for the few points that a handful of models or examples gives."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

EXACT_UP_TO = 7
"""Points up to which all orders are tried: 7! is 5,040."""

NUM_PERMUTATIONS = 10_000
"""Random orders beyond that."""


def rank_correlation(x: pd.Series, y: pd.Series) -> tuple[float, float]:
    """Spearman's ρ (ties get mean ranks) and its two-sided permutation p; NaN without variation or three
    points.
    """
    known = x.notna() & y.notna()
    rank_x, rank_y = x[known].rank().to_numpy(), y[known].rank().to_numpy()
    if len(rank_x) < 3 or np.ptp(rank_x) == 0 or np.ptp(rank_y) == 0:
        return float("nan"), float("nan")
    a = (rank_x - rank_x.mean()) / np.linalg.norm(rank_x - rank_x.mean())
    b = (rank_y - rank_y.mean()) / np.linalg.norm(rank_y - rank_y.mean())
    rho = float(a @ b)
    bar = abs(rho) - 1e-12
    if len(a) <= EXACT_UP_TO:
        hits = sum(abs(a @ np.array(order)) >= bar for order in itertools.permutations(b))
        return rho, hits / math.factorial(len(a))
    rng = np.random.default_rng(len(a))
    shuffled = rng.permuted(np.tile(b, (NUM_PERMUTATIONS, 1)), axis=1)
    return rho, (int((np.abs(shuffled @ a) >= bar).sum()) + 1) / (NUM_PERMUTATIONS + 1)
