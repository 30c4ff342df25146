"""From runs to the arrays that statistics work on: one value per (group of cells, seed).

Feeds runs to the estimator of :mod:`analysis.stats.seed_means`, where its formula is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.axes import SEED
from analysis.data.columns import RunArrays
from analysis.data.sweep import SweepData
from analysis.stats.intervals import Interval, mean_interval
from analysis.stats.seed_means import seed_means

OVER_SEEDS = "95 % interval over seeds (Student-t below 30 seeds, bootstrap from there on)"
"""Meaning of the intervals of most figures."""


class SeedGroups:
    """The runs of a snapshot by group of cells and by seed."""

    def __init__(self, columns: RunArrays, by: Sequence[str]) -> None:
        """Group by the axes ``by``; the seed, should it be among them, makes no group."""
        self.by = [key for key in by if key != SEED]
        self.columns = columns
        self.groups = columns.group(self.by)
        self.cells = columns.group(columns.cell_keys)
        self.group_of_cell = self.groups.number[self.cells.members()]
        self.seeds, self.seed = columns.levels(SEED)

    def frame(self) -> pd.DataFrame:
        """One row per group: the axes ``by``."""
        return self.columns.frame(self.groups)

    def values(self, value_R: np.ndarray) -> np.ndarray:
        """Estimator's value per group and seed of one value per run; NaN where a run, or a seed, has none."""
        shape = (self.groups.size, len(self.seeds))
        return seed_means(value_R, self.seed, self.cells.number, self.group_of_cell, shape)

    def estimate(self, value_R: np.ndarray, name: str) -> pd.DataFrame:
        """One row per group that has a value: ``by``, then ``name``, ``low``, ``high``, ``n`` (seeds)."""
        return _with_interval(self.frame(), name, mean_interval(self.values(value_R)))


@dataclass(frozen=True, kw_only=True)
class SeedValues:
    """One metric, arranged by group and seed."""

    groups: pd.DataFrame
    """One row per group: the axes ``by``, then ``expected, valued, diverged, failed, missing, num_cells``."""
    values: np.ndarray
    """The estimator's value per group and seed, shape (groups, seeds); NaN where a seed has no run."""
    seeds: np.ndarray
    """The seeds that have a value, shape (S,)."""
    columns: RunArrays
    """The snapshot of the runs that the values come from."""

    def interval(self) -> Interval:
        """Mean over seeds of each group with its interval."""
        return mean_interval(self.values)


def gather(sweep: SweepData, by: Sequence[str], metric: str) -> SeedValues:
    """Arrange ``metric`` by the axes ``by`` and the seed.

    ``expected`` counts runs of the manifest, ``valued`` those with a finite metric, ``missing`` those without
    one that did not diverge.
    """
    columns = sweep.columns([metric])
    arranged = SeedGroups(columns, by)
    groups, num_seeds = arranged.groups, len(arranged.seeds)
    value = columns.metric(metric)
    valued, diverged = ~np.isnan(value), columns.is_outcome("diverged")
    present = np.bincount(groups.number * num_seeds + arranged.seed, minlength=groups.size * num_seeds) > 0
    frame = arranged.frame().assign(
        expected=groups.count(),
        valued=groups.count(valued),
        diverged=groups.count(diverged),
        failed=groups.count(columns.is_outcome("failed", "quarantined")),
        missing=groups.count(~valued & ~diverged),
        num_cells=np.bincount(arranged.group_of_cell, minlength=groups.size),
        num_seeds=present.reshape(groups.size, num_seeds).sum(axis=1),
    )
    values_GS = arranged.values(value)
    known = ~np.isnan(values_GS).all(axis=0)
    return SeedValues(groups=frame, values=values_GS[:, known], seeds=arranged.seeds[known], columns=columns)


def values_by_step(
    arranged: SeedGroups, metric: str, *, counted_by: str | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Each step that has a value of a column of ``steps``, and the estimator's values there, shape (G, S).

    Only runs that have the metric ``counted_by`` (by default the same) at their end count, at every step, so
    that a curve does not bend because runs diverge. Where runs are recorded at different steps it still does
    (:func:`members_change`), and its end is not the mean of the runs' ends.
    """
    counted = ~np.isnan(arranged.columns.metric(counted_by or metric))
    for step, value in arranged.columns.step_values(metric):
        value_R = np.where(counted, value, np.nan)
        if not np.isnan(value_R).all():
            yield step, arranged.values(value_R)


def members_change(arranged: SeedGroups, metric: str) -> bool:
    """Whether the runs behind a group's curve differ from step to step, as where they end at different
    steps.
    """
    counted = ~np.isnan(arranged.columns.metric(metric))
    most = np.zeros(arranged.groups.size, dtype=np.int64)
    for _, value_R in arranged.columns.step_values(metric):
        num_G = arranged.groups.count(counted & ~np.isnan(value_R))
        if ((num_G != most) & (num_G > 0) & (most > 0)).any():
            return True
        most = np.maximum(most, num_G)
    return False


def curves(
    sweep: SweepData, by: Sequence[str], metric: str, *, counted_by: str | None = None
) -> pd.DataFrame:
    """Mean over seeds with its interval per group and step.

    Columns: the axes ``by``, ``step``, the metric under its name, ``low``, ``high``, ``n`` (seeds).
    With the seed among ``by``, each seed's value stands for itself, without an interval.
    """
    counted_by = counted_by or metric
    arranged = SeedGroups(sweep.columns([counted_by]), by)
    frame, parts = arranged.frame(), []
    for step, values_GS in values_by_step(arranged, metric, counted_by=counted_by):
        if SEED in by:
            group, seed = np.nonzero(~np.isnan(values_GS))
            value = values_GS[group, seed]
            part = frame.iloc[group].reset_index(drop=True)
            part = part.assign(
                **{SEED: arranged.seeds[seed], metric: value, "low": value, "high": value, "n": 1}
            )
        else:
            part = _with_interval(frame, metric, mean_interval(values_GS))
        parts.append(part.assign(step=step))
    keys = [*by, "step"]
    if not parts:
        return pd.DataFrame(columns=[*keys, metric, "low", "high", "n"])
    rows = pd.concat(parts, ignore_index=True).sort_values(keys, ignore_index=True)
    return rows[[*keys, metric, "low", "high", "n"]]


def _with_interval(frame: pd.DataFrame, name: str, interval: Interval) -> pd.DataFrame:
    rows = frame.assign(**{name: interval.value, "low": interval.low, "high": interval.high, "n": interval.n})
    return rows[interval.n > 0].reset_index(drop=True)
