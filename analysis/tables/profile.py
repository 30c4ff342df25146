"""How the values of an axis compare over whole distributions of runs: profiles and who beats whom.

    emsweep profile outputs/quickstart optim.lr

A mean can hide that one value wins on most tasks and loses badly on few. The profile says which share of a
value's runs reaches a score; the probability of improvement how often a run of one value beats one of another
on the same task. Tasks are the cells of all other axes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.axes import SEED
from analysis.data.sweep import SweepData
from analysis.output.table import ReportColumn, ReportTable, axis_columns, interval_column, value_kind
from analysis.stats.profiles import improvement, performance_profile
from analysis.tables.cell_table import require_runs
from sweeps.spec.errors import UserError
from sweeps.spec.text import label

NUM_THRESHOLDS = 11
"""Scores of a profile: deciles of all runs."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Both views of an axis."""

    profile: ReportTable
    """One row per value and score: ``share`` of runs that reach it with ``low, high``."""
    improvement: ReportTable
    """One row per pair of values: ``probability`` that a run of the second beats one of the first."""


def profile(sweep: SweepData, axis: str, *, metric: str | None = None) -> Profile:
    """Compare the values of ``axis`` by their runs' distributions.

    Raises:
        UserError: for an axis of which fewer than two values have results.
    """
    require_runs(sweep)
    key, metric = sweep.axis(axis).key, sweep.metric(metric)
    info, columns = sweep.info(metric), sweep.columns([metric])
    value_R = columns.metric(metric)
    known = np.flatnonzero(~np.isnan(value_R))
    tasks = columns.group([k for k in columns.cell_keys if k != key])
    seeds, seed_R = columns.levels(SEED)
    of_axis = columns.group([key])
    names = columns.frame(of_axis)[key].tolist()
    tables = {}
    for number, name in enumerate(names):
        rows = known[of_axis.number[known] == number]
        if len(rows):
            values_TS = np.full((tasks.size, len(seeds)), np.nan)
            values_TS[tasks.number[rows], seed_R[rows]] = value_R[rows]
            tables[name] = values_TS
    if len(tables) < 2:
        raise UserError(f"axis {key!r}: fewer than two values have results; a profile compares several")
    scores = np.unique(np.quantile(value_R[known], np.linspace(0, 1, NUM_THRESHOLDS)))
    parts = []
    for name, values_TS in tables.items():
        interval = performance_profile(values_TS, scores, info.sign)
        parts.append(
            pd.DataFrame(
                {"score": scores, "share": interval.value, "low": interval.low, "high": interval.high}
            ).assign(**{key: label(name)})
        )
    pairs = []
    for (a, a_TS), (b, b_TS) in itertools.combinations(tables.items(), 2):
        interval = improvement(a_TS, b_TS, info.sign)
        both = (~np.isnan(a_TS)).any(axis=1) & (~np.isnan(b_TS)).any(axis=1)
        pairs.append(
            {
                "a": label(a),
                "b": label(b),
                "probability": interval.value[0],
                "low": interval.low[0],
                "high": interval.high[0],
                "tasks": int(both.sum()),
                "seeds": int(interval.n[0]),
            }
        )
    better = "at most" if info.sign < 0 else "at least"
    notes = (f"Tasks: cells of the other axes. Rule: runs with a finite {metric}.", *sweep.warnings)
    return Profile(
        profile=ReportTable(
            title=f"Share of runs with {metric} of {better} a score, by {key}",
            frame=pd.concat(parts, ignore_index=True)[[key, "score", "share", "low", "high"]],
            layout=(
                *axis_columns([key]),
                ReportColumn(header=metric, source="score", kind=value_kind(info)),
                interval_column("runs, %", "share", "points"),
            ),
            notes=("Scores: deciles of all runs. Interval: 95 %, over seeds, of each score alone.", *notes),
        ),
        improvement=ReportTable(
            title=f"Probability that a run of B has a better {metric} than one of A on the same task",
            frame=pd.DataFrame(pairs),
            layout=(
                ReportColumn(header=f"A: {key}", source="a"),
                ReportColumn(header=f"B: {key}", source="b"),
                interval_column("B better, %", "probability", "points"),
                ReportColumn(header="tasks", source="tasks", kind="count"),
                ReportColumn(header="seeds", source="seeds", kind="count"),
            ),
            notes=("Ties count half. Interval: 95 %, jackknife over seeds, of each pair alone.", *notes),
        ),
    )
