"""Performance profiles and the probability of improvement (Agarwal et al. 2021), over tasks and seeds.

A task is a cell without the axis that is compared; seeds are shared by all, and are what intervals are over.
"""

from __future__ import annotations

import numpy as np

from analysis.stats.intervals import SHARE, Interval, mean_interval


def performance_profile(values_TS: np.ndarray, thresholds_X: np.ndarray, sign: int = 1) -> Interval:
    """Share of runs at least as good as each threshold, with its interval over seeds; arrays of shape (X,).

    Args:
        values_TS: per task and seed, NaN where a run is missing.
        sign: −1 where smaller is better.
    """
    known_TS = ~np.isnan(values_TS)
    reached_XTS = (sign * values_TS[None] >= sign * np.asarray(thresholds_X)[:, None, None]) & known_TS
    with np.errstate(invalid="ignore"):
        share_XS = reached_XTS.sum(axis=1) / np.where(known_TS.any(axis=0), known_TS.sum(axis=0), np.nan)
    return mean_interval(share_XS, bounds=SHARE, verdicts=float(known_TS.sum()))


def improvement(a_TS: np.ndarray, b_TS: np.ndarray, sign: int = 1) -> Interval:
    """Chance that a run of B is better than one of A on the same task, ties counting half.

    Every seed of one is held against every seed of the other and tasks weigh alike. The interval is Student's
    of the jackknife over seeds, inside 0 and 1.
    """
    both = (~np.isnan(a_TS)).any(axis=1) & (~np.isnan(b_TS)).any(axis=1)
    a_TS, b_TS = a_TS[both], b_TS[both]
    seeds = a_TS.shape[1]
    won_TSS = np.where(
        np.isnan(a_TS)[:, :, None] | np.isnan(b_TS)[:, None, :],
        np.nan,
        np.heaviside(sign * (b_TS[:, None, :] - a_TS[:, :, None]), 0.5),
    )
    whole = _mean_of_tasks(won_TSS)
    if seeds < 3 or not len(won_TSS):
        none = np.full(1, np.nan)
        return Interval(value=np.array([whole]), low=none, high=none, n=np.array([seeds]))
    pseudo = np.empty(seeds)
    for left_out in range(seeds):
        kept = np.arange(seeds) != left_out
        pseudo[left_out] = seeds * whole - (seeds - 1) * _mean_of_tasks(won_TSS[:, kept][:, :, kept])
    pairs = float(len(won_TSS) * seeds)
    interval = mean_interval(pseudo, bounds=(-np.inf, np.inf))
    spread = mean_interval(np.full((1, 2), whole), bounds=SHARE, verdicts=pairs)  # no less than of pairs
    low, high = np.minimum(interval.low, spread.low), np.maximum(interval.high, spread.high)
    return Interval(
        value=np.array([whole]), low=np.clip(low, 0, 1), high=np.clip(high, 0, 1), n=np.array([seeds])
    )


def _mean_of_tasks(won_TSS: np.ndarray) -> float:
    known = ~np.isnan(won_TSS)
    count = known.sum(axis=(1, 2))
    if not count.any():
        return float("nan")
    of_task = np.where(known, won_TSS, 0.0).sum(axis=(1, 2))[count > 0] / count[count > 0]
    return float(of_task.mean())
