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
from analysis.sweep import Sweep
from analysis.views import quoted


@dataclass(frozen=True, kw_only=True)
class SeedValues:
    """One metric, arranged by group and seed."""

    groups: pd.DataFrame
    """One row per group: the axes ``by``, then ``expected, valued, diverged, failed, missing, num_cells``."""
    values: np.ndarray
    """Mean over the group's cells, shape (groups, seeds); NaN where a seed has no run."""
    seeds: np.ndarray
    """The seeds, shape (S,)."""


def gather(sweep: Sweep, by: Sequence[str], metric: str) -> SeedValues:
    """Arrange ``metric`` by the axes ``by`` and the seed.

    ``expected`` counts runs of the manifest, ``valued`` those with a finite metric, ``missing`` those without
    one that did not diverge.
    """
    by = [key for key in by if key != SEED]
    keys = quoted(by)
    source = f"(SELECT *, {finite_sql(metric)} AS value FROM runs)"
    cells = quoted(sweep.cell_keys) or "1"
    groups = sweep.query(
        f"""
        SELECT {keys + "," if keys else ""} count(*) AS expected, count(value) AS valued,
               count(*) FILTER (outcome = 'diverged') AS diverged,
               count(*) FILTER (outcome IN ('failed', 'quarantined')) AS failed,
               count(*) FILTER (value IS NULL AND outcome <> 'diverged') AS missing,
               count(DISTINCT ({cells})) AS num_cells, count(DISTINCT {SEED}) AS num_seeds
        FROM {source} {f"GROUP BY {keys}" if keys else ""}
        """
    )
    groups = groups.sort_values(by, ignore_index=True) if by else groups
    complete = (groups["valued"] == groups["num_cells"] * groups["num_seeds"]).all()
    if complete or set(by) >= set(sweep.cell_keys):
        body = f"SELECT {keys + ',' if keys else ''} {SEED}, avg(value) AS value FROM {source}"
    else:
        centre = (
            f"SELECT *, avg(cell_mean) OVER (PARTITION BY {keys or '1'}) AS group_mean FROM "
            f"(SELECT {quoted(sweep.cell_keys)}, avg(value) AS cell_mean FROM {source} GROUP BY ALL)"
        )
        on = " AND ".join(f"r.{quoted([k])} IS NOT DISTINCT FROM c.{quoted([k])}" for k in sweep.cell_keys)
        picked = ", ".join(f"r.{quoted([k])}" for k in by)
        body = (
            f"SELECT {picked + ',' if picked else ''} r.{SEED}, "
            f"avg(r.value - c.cell_mean) + any_value(c.group_mean) AS value "
            f"FROM {source} r JOIN ({centre}) c ON {on}"
        )
    prefix = "r." if " r JOIN " in body else ""
    long = sweep.query(f"{body} WHERE {prefix}value IS NOT NULL GROUP BY ALL")
    seeds, columns = np.unique(long[SEED].to_numpy(), return_inverse=True)
    rows = positions(groups, long, by)
    values_GS = np.full((len(groups), len(seeds)), np.nan)
    values_GS[rows, columns] = long["value"].to_numpy()
    return SeedValues(groups=groups, values=values_GS, seeds=seeds)


def curves(sweep: Sweep, by: Sequence[str], metric: str) -> pd.DataFrame:
    """Mean of a step metric per group and step, over the runs that have the metric at their end.

    Runs that stopped early are left out of every step, so that a curve does not bend because its members
    change.
    """
    by = [key for key in by if key != SEED]
    keys = quoted(by)
    finished = f"SELECT sweep, index FROM runs WHERE {finite_sql(metric)} IS NOT NULL"
    frame = sweep.query(
        f"""
        SELECT {keys + "," if keys else ""} step, avg(value) AS value, count(*) AS n
        FROM (SELECT *, {finite_sql(metric)} AS value FROM steps) SEMI JOIN ({finished}) USING (sweep, index)
        WHERE value IS NOT NULL GROUP BY ALL
        """
    )
    return frame.sort_values([*by, "step"], ignore_index=True)


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


def finite_sql(metric: str) -> str:
    """SQL for a metric as a number, null where it is missing, NaN or infinite."""
    return f"CASE WHEN isfinite({quoted([metric])}::DOUBLE) THEN {quoted([metric])}::DOUBLE END"


def positions(groups: pd.DataFrame, rows: pd.DataFrame, by: Sequence[str]) -> np.ndarray:
    """Row of ``groups`` that each of ``rows`` belongs to."""
    if not by:
        return np.zeros(len(rows), dtype=int)
    both = pd.concat([groups[list(by)], rows[list(by)]], ignore_index=True)
    codes = both.groupby(list(by), sort=False, observed=True, dropna=False).ngroup().to_numpy()
    place = np.empty(codes.max() + 1, dtype=int)
    place[codes[: len(groups)]] = np.arange(len(groups))
    return place[codes[len(groups) :]]
