"""The mean over seeds and its interval: the one estimator behind tables, findings, report and dashboard.

Let x_cs be the value of the run of cell c with seed s; a run without a finite value is left out. For a group
of cells, with m_c the mean of cell c over the seeds it has,

    v_s  = mean over the cells c that have seed s of (x_cs − m_c)  +  mean over the group's cells of m_c
    mean = mean over s of v_s,  interval = mean_interval(v)

Cells share their seeds' noise, so a seed's cells are averaged first and the seed is what is left to
generalise over. Centring keeps a seed from being judged by which cells it happened to finish; where no run is
missing, v_s is the plain mean of the seed's cells. A curve is the same estimator at every step, a gain or
another difference of two values of a run the same estimator of the runs' differences.
"""

from __future__ import annotations

import numpy as np


def seed_means(
    value: np.ndarray,
    seed: np.ndarray,
    cell: np.ndarray,
    group_of_cell: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """v_s of every group.

    Args:
        value: of each run, shape (R,); NaN where it has none.
        seed: number of each run's seed, shape (R,).
        cell: number of each run's cell, shape (R,).
        group_of_cell: number of each cell's group, shape (C,).
        shape: number of groups and of seeds.

    Returns:
        Shape ``shape``; NaN where a seed has no value.
    """
    group_seed, size = group_of_cell[cell] * shape[1] + seed, shape[0] * shape[1]
    if len(group_of_cell) == shape[0] or _is_complete(~np.isnan(value), seed, cell, group_of_cell, shape[1]):
        return means(value, group_seed, size).reshape(shape)
    cell_mean = means(value, cell, len(group_of_cell))
    group_mean = means(cell_mean, group_of_cell, shape[0])
    values_GS: np.ndarray = (
        means(value - cell_mean[cell], group_seed, size).reshape(shape) + group_mean[:, None]
    )
    return values_GS


def means(values: np.ndarray, bins: np.ndarray, size: int) -> np.ndarray:
    """Mean of the values of each bin, NaN left out; NaN for a bin without any."""
    known = ~np.isnan(values)
    if not known.all():
        values, bins = values[known], bins[known]
    count = np.bincount(bins, minlength=size)
    total = np.bincount(bins, weights=values, minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _is_complete(
    known: np.ndarray, seed: np.ndarray, cell: np.ndarray, group_of_cell: np.ndarray, num_seeds: int
) -> bool:
    """Whether every cell has equally many values of every seed, so that there is nothing to centre."""
    size = len(group_of_cell) * num_seeds
    if not size or np.count_nonzero(known) % size or not known.any():
        return False
    cell_seed = (cell * num_seeds + seed)[known]
    if len(cell_seed) == size:  # as usual: then one of each means that none is missing
        seen = np.zeros(size, dtype=bool)
        seen[cell_seed] = True
        return bool(seen.all())
    counts = np.bincount(cell_seed, minlength=size)
    return bool((counts == counts[0]).all())
