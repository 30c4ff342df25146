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

from analysis.axes import SEED
from analysis.columns import Columns
from analysis.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class SeedValues:
    """One metric, arranged by group and seed."""

    groups: pd.DataFrame
    """One row per group: the axes ``by``, then ``expected, valued, diverged, failed, missing, num_cells``."""
    values: np.ndarray
    """Mean over the group's cells, shape (groups, seeds); NaN where a seed has no run."""
    seeds: np.ndarray
    """The seeds that have a value, shape (S,)."""
    columns: Columns
    """The snapshot of the runs that the values come from."""


def gather(sweep: Sweep, by: Sequence[str], metric: str) -> SeedValues:
    """Arrange ``metric`` by the axes ``by`` and the seed.

    ``expected`` counts runs of the manifest, ``valued`` those with a finite metric, ``missing`` those without
    one that did not diverge.
    """
    columns = sweep.columns([metric])
    by = [key for key in by if key != SEED]
    groups, cells = columns.group(by), columns.group(sweep.cell_keys)
    value, seed = columns.metric(metric), columns.codes(SEED)
    valued, diverged = ~np.isnan(value), columns.is_outcome("diverged")
    shape = (len(groups.frame), len(columns.levels(SEED)))
    place = groups.number * shape[1] + seed
    group_of_cell = np.zeros(len(cells.frame), dtype=int)
    group_of_cell[cells.number] = groups.number
    frame = groups.frame.assign(
        expected=groups.count(),
        valued=groups.count(valued),
        diverged=groups.count(diverged),
        failed=groups.count(columns.is_outcome("failed", "quarantined")),
        missing=groups.count(~valued & ~diverged),
        num_cells=np.bincount(group_of_cell, minlength=shape[0]),
        num_seeds=(np.bincount(place, minlength=shape[0] * shape[1]) > 0).reshape(shape).sum(axis=1),
    )
    if (frame["valued"] == frame["num_cells"] * frame["num_seeds"]).all() or set(by) >= set(sweep.cell_keys):
        values_GS = _means(value, place, shape[0] * shape[1]).reshape(shape)
    else:
        cell_mean = _means(value, cells.number, len(cells.frame))
        group_mean = _means(cell_mean, group_of_cell, shape[0])
        values_GS = _means(value - cell_mean[cells.number], place, shape[0] * shape[1]).reshape(shape)
        values_GS += group_mean[:, None]
    known = ~np.isnan(values_GS).all(axis=0)
    seeds = columns.levels(SEED).to_numpy(zero_copy_only=False)
    return SeedValues(groups=frame, values=values_GS[:, known], seeds=seeds[known], columns=columns)


def _means(values: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """Mean of the values at each place, NaN left out; NaN where there are none."""
    known = ~np.isnan(values)
    count = np.bincount(place[known], minlength=size)
    total = np.bincount(place[known], weights=values[known], minlength=size)
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
    size, num_steps = len(groups.frame), len(found.steps)
    group_of_cell = np.zeros(len(cells.frame), dtype=int)
    group_of_cell[cells.number] = groups.number
    place = (group_of_cell[:, None] * num_steps + np.arange(num_steps)).ravel()
    total, count = (
        np.bincount(place, weights=part.ravel(), minlength=size * num_steps)
        for part in (found.sums, found.counts)
    )
    known = np.flatnonzero(count)
    frame = groups.frame.iloc[known // num_steps].reset_index(drop=True)
    return frame.assign(
        step=found.steps[known % num_steps], value=total[known] / count[known], n=count[known].astype(int)
    )


def seed_means(rows: pd.DataFrame, cells: Sequence[str]) -> np.ndarray:
    """Mean ``value`` per seed, centred on the cells' own means where seeds lack cells; shape (seeds,).

    Args:
        rows: one row per (cell, seed) with a ``value``.
        cells: columns that tell cells apart.
    """
    if not cells or not len(rows):
        return rows.groupby(SEED)["value"].mean().to_numpy()
    cell_mean = rows.groupby(list(cells), dropna=False, observed=True)["value"].transform("mean")
    grand = rows.groupby(list(cells), dropna=False, observed=True)["value"].mean().mean()
    return ((rows["value"] - cell_mean).groupby(rows[SEED]).mean() + grand).to_numpy()
