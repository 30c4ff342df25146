"""The mean over seeds and its interval: the one estimator behind tables, findings, report and dashboard.

Let x_cs be the value of the run of cell c with seed s; a run without a finite value is left out. In a group
of cells a run is taken to be x_cs = μ_c + u_s + e_cs with Σ u_s = 0, both by least squares. Then

    v_s  = mean over the group's cells of μ_c  +  u_s
    mean = mean over s of v_s,  interval = mean_interval(v)

Cells share their seeds' noise, so a seed's cells are averaged first and the seed is what is left to
generalise over. The fit keeps a seed from being judged by which cells it happened to finish, and unlike
subtracting each cell's own mean it does not shrink what seeds differ by where cells have few of them. Where
no run is missing, v_s is the plain mean of the seed's cells. Seeds that share no cell, directly or through
others, with most of the group's runs cannot be told from their cells and have no v_s. A curve is the same
estimator at every step, a gain or another difference of two values of a run that of the runs' differences.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import connected_components


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
    values_GS = np.full(shape, np.nan)
    order = np.argsort(group_of_cell[cell], kind="stable")
    order = order[~np.isnan(value[order])]
    ends = np.searchsorted(group_of_cell[cell][order], np.arange(shape[0] + 1))
    for group in range(shape[0]):
        rows = order[ends[group] : ends[group + 1]]
        if len(rows):
            values_GS[group] = _additive(value[rows], seed[rows], cell[rows], shape[1])
    return values_GS


def _additive(value: np.ndarray, seed: np.ndarray, cell: np.ndarray, num_seeds: int) -> np.ndarray:
    """v_s of one group, by least squares with the cells absorbed."""
    cells, cell = np.unique(cell, return_inverse=True)
    place, size = cell * num_seeds + seed, len(cells) * num_seeds
    count_CS = np.bincount(place, minlength=size).reshape(len(cells), num_seeds).astype(float)
    total_CS = np.bincount(place, weights=value, minlength=size).reshape(len(cells), num_seeds)
    count_C, count_S = count_CS.sum(axis=1), count_CS.sum(axis=0)
    mean_C = total_CS.sum(axis=1) / count_C
    share_CS = count_CS / count_C[:, None]
    normal_SS = np.diag(count_S) - count_CS.T @ share_CS
    right_S = total_CS.sum(axis=0) - count_CS.T @ mean_C
    kept = _main_component(normal_SS, count_S)
    # One is added to every entry of a connected component: its effects then sum to zero.
    square_KK = normal_SS[np.ix_(kept, kept)] + 1.0
    effect_S = np.zeros(num_seeds)
    effect_S[kept] = np.linalg.solve(square_KK, right_S[kept])
    level = float((mean_C - share_CS @ effect_S).mean())
    values_S = np.full(num_seeds, np.nan)
    values_S[kept] = level + effect_S[kept]
    return values_S


def _main_component(normal_SS: np.ndarray, count_S: np.ndarray) -> np.ndarray:
    """Numbers of the seeds that share cells with each other and hold the most runs."""
    present = count_S > 0
    linked = np.abs(normal_SS) > 1e-12
    if present.all() and linked[0].all():  # as usual: every seed shares a cell with the first
        return np.arange(len(count_S))
    _, label_S = connected_components(linked, directed=False)
    runs = np.bincount(label_S, weights=count_S)
    return np.flatnonzero(present & (label_S == runs.argmax()))


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
    """Whether every cell has equally many values of every seed, so that there is nothing to fit."""
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
