"""The best of many cells, chosen on some seeds and judged on the others.

The best of many noisy means is too good: part of why it won is luck. Choosing on half of the seeds and
judging on the other half, over many splits, shows what the choice is worth and how large the luck was.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

MAX_SPLITS = 400
"""Splits of the seeds; with up to 11 seeds these are all there are."""


@dataclass(frozen=True, kw_only=True)
class HeldOutBest:
    """What choosing the best cell is worth."""

    apparent: float
    """Mean of the chosen cell on the seeds that chose it, averaged over splits."""
    held_out: float
    """Mean of the chosen cell on the other seeds, averaged over splits."""
    spread: float
    """Standard deviation of the held-out mean between splits (they overlap: no standard error)."""
    winner: int
    """Cell that is best on all seeds."""
    chosen: np.ndarray
    """How often each cell was chosen, as shares, shape (cells,)."""
    num_splits: int
    """Splits of the seeds."""

    @property
    def drop(self) -> float:
        """The winner's curse: held out minus apparent."""
        return self.held_out - self.apparent


def held_out_best(values_CS: np.ndarray, num_choose: int | None = None) -> HeldOutBest | None:
    """Choose the cell with the highest mean on ``num_choose`` seeds (default: half) and judge it on the rest.

    Args:
        values_CS: shape (cells, seeds); cells that lack a seed of a split do not take part in it.
        num_choose: seeds that choose.

    Returns:
        ``None`` with fewer than two seeds, or when no cell has them.
    """
    values_CS = np.asarray(values_CS, dtype=float)
    cells, seeds = values_CS.shape
    if seeds < 2 or not cells or np.isnan(values_CS).any(axis=1).all():
        return None
    num_choose = num_choose or seeds // 2
    pick_PS = _splits(seeds, num_choose)
    holes = np.isnan(values_CS)
    filled = np.where(holes, 0.0, values_CS)
    # A hole makes a mean unknown on its side of the split; such a cell can neither win nor be judged.
    inside = np.where(holes @ pick_PS.T, -np.inf, filled @ pick_PS.T / num_choose)
    outside = np.where(holes @ ~pick_PS.T, np.nan, filled @ ~pick_PS.T / (seeds - num_choose))
    inside = np.where(np.isnan(outside), -np.inf, inside)
    best_P = inside.argmax(axis=0)
    splits = np.arange(len(pick_PS))
    apparent_P, held_P = inside[best_P, splits], outside[best_P, splits]
    usable = np.isfinite(apparent_P)
    if not usable.any():
        return None
    means = np.where(holes.any(axis=1), -np.inf, filled.mean(axis=1))
    return HeldOutBest(
        apparent=float(apparent_P[usable].mean()),
        held_out=float(held_P[usable].mean()),
        spread=float(held_P[usable].std()),
        winner=int(means.argmax()),
        chosen=np.bincount(best_P[usable], minlength=cells) / usable.sum(),
        num_splits=int(usable.sum()),
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
