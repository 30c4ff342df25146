"""Runs that several of the directories read as one have finished: the same science, computed twice."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from analysis.data.views import finite_sql
from sweeps.spec.text import counted
from trainers.run_result import TIMING_SUFFIX

ROUNDING = 1e-6
"""Relative difference that another layout's order of summation explains."""

MEMORY_SUFFIX = "_mib"
"""Names of measured memory end so; like seconds it differs from one computation to the next."""


def told_copies(connection: duckdb.DuckDBPyConnection, metrics: Sequence[str]) -> list[str]:
    """A sentence on the runs in use of which there are several results, and on how many of them disagree.

    Args:
        connection: has the views ``runs`` and ``copies`` (:func:`analysis.data.views.definitions`).
        metrics: columns of ``runs``.
    """
    results = [name for name in metrics if not name.endswith((TIMING_SUFFIX, MEMORY_SUFFIX))]
    differs = " OR ".join(_differs(name) for name in results) or "false"
    by_run = (
        f"SELECT {differs} AS differs FROM copies WHERE run_id IN (SELECT run_id FROM runs) GROUP BY run_id"
    )
    row = connection.execute(f"SELECT count(*), count(*) FILTER (WHERE differs) FROM ({by_run})").fetchone()
    total, apart = row or (0, 0)
    if not total:
        return []
    text = f"{counted(total, 'run')} with a result in several directories: the first directory's counts"
    if apart:
        text += (
            f"; for {apart:,} of them the directories disagree by more than rounding, so that another order "
            "of the directories gives other numbers"
        )
    return [f"{text}."]


def _differs(metric: str) -> str:
    value = finite_sql(metric)
    gap = f"max({value}) - min({value}) > {ROUNDING} * greatest(1, abs(max({value})))"
    return f"count({value}) NOT IN (0, count(*)) OR coalesce({gap}, false)"
