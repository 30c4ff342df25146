"""From runs to the arrays that statistics work on: one value per (group of cells, seed).

Of a group with several cells, each seed's cells are averaged first, because cells share their seeds' noise;
what is left to generalise over is the seed. Where runs are missing, values are centred on their cell's mean
before averaging, so that a seed is not judged by which cells it happened to finish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.axes import SEED
from analysis.data.columns import RunArrays
from analysis.data.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class SeedValues:
    """One metric, arranged by group and seed."""

    groups: pd.DataFrame
    """One row per group: the axes ``by``, then ``expected, valued, diverged, failed, missing, num_cells``."""
    values: np.ndarray
    """Mean over the group's cells, shape (groups, seeds); NaN where a seed has no run."""
    seeds: np.ndarray
    """The seeds that have a value, shape (S,)."""
    columns: RunArrays
    """The snapshot of the runs that the values come from."""


def gather(sweep: Sweep, by: Sequence[str], metric: str) -> SeedValues:
    """Arrange ``metric`` by the axes ``by`` and the seed.

    ``expected`` counts runs of the manifest, ``valued`` those with a finite metric, ``missing`` those without
    one that did not diverge.
    """
    columns = sweep.columns([metric])
    by = [key for key in by if key != SEED]
    groups, cells = columns.group(by), columns.group(sweep.cell_keys)
    value, (seeds, seed) = columns.metric(metric), columns.levels(SEED)
    valued, diverged = ~np.isnan(value), columns.is_outcome("diverged")
    num_seeds = len(seeds)
    place = groups.number * num_seeds + seed
    present_GS = np.bincount(place, minlength=groups.size * num_seeds).reshape(groups.size, num_seeds) > 0
    group_of_cell = groups.number[cells.members()]
    frame = columns.frame(groups).assign(
        expected=groups.count(),
        valued=groups.count(valued),
        diverged=groups.count(diverged),
        failed=groups.count(columns.is_outcome("failed", "quarantined")),
        missing=groups.count(~valued & ~diverged),
        num_cells=np.bincount(group_of_cell, minlength=groups.size),
        num_seeds=present_GS.sum(axis=1),
    )
    values_GS = seed_means(value, seed, cells.number, group_of_cell, (groups.size, num_seeds))
    known = ~np.isnan(values_GS).all(axis=0)
    return SeedValues(groups=frame, values=values_GS[:, known], seeds=seeds[known], columns=columns)


def seed_means(
    value: np.ndarray,
    seed: np.ndarray,
    cell: np.ndarray,
    group_of_cell: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """Mean per group and seed over the group's cells, centred on the cells' own means where seeds lack cells.

    Args:
        value: of each run, shape (R,); NaN where it has none.
        seed: number of each run's seed, shape (R,).
        cell: number of each run's cell, shape (R,).
        group_of_cell: number of each cell's group, shape (C,).
        shape: number of groups and of seeds.

    Returns:
        Shape ``shape``; NaN where a seed has no value.
    """
    place, size = group_of_cell[cell] * shape[1] + seed, shape[0] * shape[1]
    if len(group_of_cell) == shape[0] or _is_complete(~np.isnan(value), seed, cell, group_of_cell, shape[1]):
        return means(value, place, size).reshape(shape)
    cell_mean = means(value, cell, len(group_of_cell))
    group_mean = means(cell_mean, group_of_cell, shape[0])
    return means(value - cell_mean[cell], place, size).reshape(shape) + group_mean[:, None]


def _is_complete(
    known: np.ndarray, seed: np.ndarray, cell: np.ndarray, group_of_cell: np.ndarray, num_seeds: int
) -> bool:
    """Whether every cell has equally many values of every seed, so that there is nothing to centre."""
    size = len(group_of_cell) * num_seeds
    if not size or np.count_nonzero(known) % size or not known.any():
        return False
    place = (cell * num_seeds + seed)[known]
    if len(place) == size:  # as usual: then one of each means that none is missing
        seen = np.zeros(size, dtype=bool)
        seen[place] = True
        return bool(seen.all())
    counts = np.bincount(place, minlength=size)
    return bool((counts == counts[0]).all())


def means(values: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """Mean of the values at each place, NaN left out; NaN where there are none."""
    known = ~np.isnan(values)
    if not known.all():
        values, place = values[known], place[known]
    count = np.bincount(place, minlength=size)
    total = np.bincount(place, weights=values, minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def curves(sweep: Sweep, by: Sequence[str], metric: str) -> pd.DataFrame:
    """Mean of a step metric per group and step, over the runs that have the metric at their end.

    Runs that stopped early are left out of every step, so that a curve does not bend because its members
    change.
    """
    by = [key for key in by if key != SEED]
    columns = sweep.columns([metric])
    found = columns.step_means(metric)
    groups, cells = columns.group(by), columns.group(sweep.cell_keys)
    size, num_steps = groups.size, len(found.steps)
    group_of_cell = groups.number[cells.members()]
    place = (group_of_cell[:, None] * num_steps + np.arange(num_steps)).ravel()
    total, count = (
        np.bincount(place, weights=part.ravel(), minlength=size * num_steps)
        for part in (found.sums, found.counts)
    )
    known = np.flatnonzero(count)
    frame = columns.frame(groups).iloc[known // num_steps].reset_index(drop=True)
    return frame.assign(
        step=found.steps[known % num_steps], value=total[known] / count[known], n=count[known].astype(int)
    )
