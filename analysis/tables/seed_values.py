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
from analysis.stats.intervals import Bounds, Interval, mean_interval
from analysis.stats.seed_means import seed_means
from analysis.tables.bounds import bounds_of, verdicts_per_value
from sweeps.spec.metrics import MetricInfo

OVER_SEEDS = "95 % interval over seeds (Student-t)"
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

    def interval(self, value_R: np.ndarray, info: MetricInfo | None = None) -> Interval:
        """Mean over seeds of each group with its interval, inside the metric's range where it has one."""
        if info is None:
            return mean_interval(self.values(value_R))
        return mean_interval(
            self.values(value_R), bounds=bounds_of(info, value_R), verdicts=self.verdicts(value_R, info)
        )

    def verdicts(self, value_R: np.ndarray, info: MetricInfo) -> np.ndarray | None:
        """Verdicts behind each group's values of a share, shape (G,); ``None`` for another metric."""
        each = verdicts_per_value(info, value_R)
        return None if each is None else each * self.groups.count(~np.isnan(value_R))

    def estimate(self, value_R: np.ndarray, name: str, info: MetricInfo | None = None) -> pd.DataFrame:
        """One row per group that has a value: ``by``, then ``name``, ``low``, ``high``, ``n`` (seeds)."""
        return _with_interval(self.frame(), name, self.interval(value_R, info))


@dataclass(frozen=True, kw_only=True)
class SeedValues:
    """One metric, arranged by group and seed."""

    groups: pd.DataFrame
    """One row per group: the axes ``by``, then ``expected, valued, diverged, failed, skipped, stopped,
    missing, num_cells``."""
    values: np.ndarray
    """The estimator's value per group and seed, shape (groups, seeds); NaN where a seed has no run."""
    seeds: np.ndarray
    """The seeds that have a value, shape (S,)."""
    metric: str
    columns: RunArrays
    """The snapshot of the runs that the values come from."""
    bounds: Bounds
    """Range of the metric."""
    verdicts: np.ndarray | None
    """Verdicts behind each group of a share, shape (G,)."""

    def interval(self) -> Interval:
        """Mean over seeds of each group with its interval."""
        return mean_interval(self.values, bounds=self.bounds, verdicts=self.verdicts)


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
        skipped=groups.count(columns.is_outcome("skipped")),
        stopped=groups.count(columns.is_outcome("stopped")),
        missing=groups.count(~valued & ~diverged),
        num_cells=np.bincount(arranged.group_of_cell, minlength=groups.size),
        num_seeds=present.reshape(groups.size, num_seeds).sum(axis=1),
    )
    values_GS = arranged.values(value)
    known = ~np.isnan(values_GS).all(axis=0)
    info = sweep.info(metric)
    return SeedValues(
        groups=frame,
        values=values_GS[:, known],
        seeds=arranged.seeds[known],
        metric=metric,
        columns=columns,
        bounds=bounds_of(info, value),
        verdicts=arranged.verdicts(value, info),
    )


@dataclass(frozen=True, kw_only=True)
class SharedSteps:
    """Which runs are behind a group's curve: the same ones at every step of it."""

    members_R: np.ndarray
    """Runs that count: they have the metric at their end, and a curve."""
    shared_TG: dict[int, np.ndarray]
    """Per step, ascending, the groups whose members are all recorded there; steps that no group shares left
    out.
    """
    mixed_G: np.ndarray
    """Groups with steps at which only some of their members are recorded, as where horizons differ."""


def shared_steps(arranged: SeedGroups, metric: str, *, counted_by: str | None = None) -> SharedSteps:
    """Find the steps at which a curve is of a constant set of runs.

    A curve that averages other runs at every step bends for that reason alone: where horizons of 5 and 20
    steps share a row, its points beyond step 5 would be of the long runs only, and its end of no row.
    """
    counted = ~np.isnan(arranged.columns.metric(counted_by or metric))
    members = np.zeros(len(counted), dtype=bool)
    num_TG: dict[int, np.ndarray] = {}
    for step, value_R in arranged.columns.step_values(metric):
        recorded = counted & ~np.isnan(value_R)
        members |= recorded
        num_TG[step] = arranged.groups.count(recorded)
    all_G = arranged.groups.count(members)
    shared = {step: (num_G == all_G) & (all_G > 0) for step, num_G in num_TG.items()}
    mixed = np.zeros(len(all_G), dtype=bool)
    for num_G in num_TG.values():
        mixed |= (num_G > 0) & (num_G < all_G)
    return SharedSteps(
        members_R=members,
        shared_TG={step: groups for step, groups in shared.items() if groups.any()},
        mixed_G=mixed,
    )


def where_curves_end(sweep: SweepData, by: Sequence[str], metric: str) -> str:
    """A sentence for the caption of curves some of whose runs end, or are judged, at other steps."""
    if not shared_steps(SeedGroups(sweep.columns([metric]), by), metric).mixed_G.any():
        return ""
    return " Where the runs of a line differ in their steps, it has the steps that all of them share."


def values_by_step(
    arranged: SeedGroups, metric: str, *, counted_by: str | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Each step that has a value of a column of ``steps``, and the estimator's values there, shape (G, S).

    Only runs that have the metric ``counted_by`` (by default the same) at their end count, at every step, so
    that a curve does not bend because runs diverge; and a group has a value only at steps that all of these
    runs share (:func:`shared_steps`), so that it does not bend because some end earlier.
    """
    shared = shared_steps(arranged, metric, counted_by=counted_by)
    for step, value in arranged.columns.step_values(metric):
        if step in shared.shared_TG:
            values_GS = arranged.values(np.where(shared.members_R, value, np.nan))
            values_GS[~shared.shared_TG[step]] = np.nan
            yield step, values_GS


def curves(
    sweep: SweepData, by: Sequence[str], metric: str, *, counted_by: str | None = None
) -> pd.DataFrame:
    """Mean over seeds with its interval per group and step.

    Columns: the axes ``by``, ``step``, the metric under its name, ``low``, ``high``, ``n`` (seeds).
    With the seed among ``by``, each seed's value stands for itself, without an interval.
    """
    counted_by = counted_by or metric
    arranged, info = SeedGroups(sweep.columns([counted_by]), by), sweep.info(metric)
    counted = arranged.columns.metric(counted_by)
    verdicts = arranged.verdicts(counted, info) if counted_by == metric else None
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
            bounds = bounds_of(info, values_GS.ravel())
            part = _with_interval(frame, metric, mean_interval(values_GS, bounds=bounds, verdicts=verdicts))
        parts.append(part.assign(step=step))
    keys = [*by, "step"]
    if not parts:
        return pd.DataFrame(columns=[*keys, metric, "low", "high", "n"])
    rows = pd.concat(parts, ignore_index=True).sort_values(keys, ignore_index=True)
    return rows[[*keys, metric, "low", "high", "n"]]


def _with_interval(frame: pd.DataFrame, name: str, interval: Interval) -> pd.DataFrame:
    rows = frame.assign(**{name: interval.value, "low": interval.low, "high": interval.high, "n": interval.n})
    return rows[interval.n > 0].reset_index(drop=True)
