"""The best of many cells, chosen on some seeds and judged on the others.

The best of many noisy means is too good: part of why it won is luck. Choosing on half of the seeds and
judging on the other half, over many splits, shows what the choice is worth and how large the luck was.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.stats.intervals import LEVEL

MAX_SPLITS = 400
"""Splits of the seeds; with up to 11 seeds these are all there are."""

_CHUNK_VALUES = 1_000_000
"""Means held at once: 8 MB stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class HeldOutBest:
    """What choosing the best cell is worth."""

    apparent: float
    """Mean of the chosen cell on the seeds that chose it, averaged over splits."""
    held_out: float
    """Mean of the chosen cell on the other seeds, averaged over splits."""
    low: float
    """Lower end of an interval of the held-out value that covers at least 95 %: Student's, of the spread of
    the chosen cells over seeds, as wide as for one split though all are averaged.
    """
    high: float
    spread: float
    """Standard deviation of the held-out mean between splits (they overlap: no standard error)."""
    winner: int
    """Cell that is best on all seeds."""
    chosen: np.ndarray
    """How often each cell was chosen, as shares, shape (cells,)."""
    num_splits: int
    num_cells: int
    """Cells that took part: those with every seed."""

    @property
    def drop(self) -> float:
        """The winner's curse: held out minus apparent."""
        return self.held_out - self.apparent


def held_out_best(
    values_CS: np.ndarray, num_choose: int | None = None, *, smallest: bool = False
) -> HeldOutBest | None:
    """Choose the cell with the best mean on ``num_choose`` seeds (default: half) and judge it on the rest.

    Args:
        values_CS: shape (cells, seeds); a cell that lacks a seed takes no part, since splits need them all.
        smallest: the best mean is the smallest, not the largest.

    Returns:
        ``None`` with fewer than two seeds, or when no cell has them all.
    """
    sign = -1 if smallest else 1
    values_CS = sign * np.asarray(values_CS, dtype=float)
    cells, seeds = values_CS.shape
    whole = np.flatnonzero(~np.isnan(values_CS).any(axis=1))
    if seeds < 2 or not len(whole):
        return None
    num_choose = num_choose or seeds // 2
    pick_PS = _splits(seeds, num_choose)
    splits = np.arange(len(pick_PS))
    apparent_P, best_P = np.full(len(pick_PS), -np.inf), np.zeros(len(pick_PS), dtype=int)
    step = max(1, _CHUNK_VALUES // len(pick_PS))
    for start in range(0, len(whole), step):
        mean_CP = values_CS[whole[start : start + step]] @ pick_PS.T / num_choose
        top_P = mean_CP.argmax(axis=0)
        better = mean_CP[top_P, splits] > apparent_P
        apparent_P[better] = mean_CP[top_P, splits][better]
        best_P[better] = whole[start + top_P[better]]
    held_P = (values_CS[best_P] * ~pick_PS).sum(axis=1) / (seeds - num_choose)
    variance_P = values_CS[best_P].var(axis=1, ddof=1)
    half = special.stdtrit(seeds - 1, 0.5 + LEVEL / 2) * np.sqrt(variance_P.mean() / (seeds - num_choose))
    held = sign * float(held_P.mean())
    return HeldOutBest(
        low=held - half,
        high=held + half,
        apparent=sign * float(apparent_P.mean()),
        held_out=held,
        spread=float(held_P.std()),
        winner=int(whole[values_CS[whole].mean(axis=1).argmax()]),
        chosen=np.bincount(best_P, minlength=cells) / len(pick_PS),
        num_splits=len(pick_PS),
        num_cells=len(whole),
    )


def _splits(seeds: int, num_choose: int) -> np.ndarray:
    """Which seeds choose in each split, shape (splits, seeds); all splits if few, else random ones."""
    if math.comb(seeds, num_choose) <= MAX_SPLITS:
        chosen = list(itertools.combinations(range(seeds), num_choose))
    else:
        rng = np.random.default_rng(seeds)
        chosen = [tuple(rng.permutation(seeds)[:num_choose]) for _ in range(MAX_SPLITS)]
    pick_PS = np.zeros((len(chosen), seeds), dtype=bool)
    for row, members in enumerate(chosen):
        pick_PS[row, list(members)] = True
    return pick_PS
