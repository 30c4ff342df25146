"""What an analysis returns, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.axes import SEED, cell_label
from analysis.data.sweep import Sweep
from analysis.data.views import finite_sql, quoted
from analysis.output.figures import Figure
from analysis.output.table import ReportTable
from analysis.stats.intervals import Interval, mean_interval
from analysis.tables.cell_table import headline_axis
from analysis.tables.compare import Comparison
from sweeps.grid.filters import write_term
from sweeps.spec.errors import UserError

OVER_SEEDS = "95 % interval over seeds (Student-t below 30 seeds, bootstrap from there on)"
"""Meaning of the intervals of most figures."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One question answered, or what is missing to answer it."""

    key: str
    """Short name, such as ``decoupling``."""
    question: str
    """What is asked."""
    sentences: tuple[str, ...] = ()
    """The answer in words."""
    table: ReportTable | None = None
    """The answer in numbers."""
    figure: Figure | None = None
    """The answer as a picture; absent where the optional figure packages are."""
    missing: str | None = None
    """Which inputs the sweep lacks and how to record them; ``None`` when the question was answered."""


def long_values(
    sweep: Sweep, by: Sequence[str], select: str, source: str, extra: Sequence[str] = ()
) -> pd.DataFrame:
    """Rows of (``by``, ``extra``, seed) with the averages named in ``select``, sorted in axis order."""
    keys = [*dict.fromkeys([*by, *extra, SEED])]
    frame = sweep.query(f"SELECT {quoted(keys)}, {select} FROM {source} GROUP BY ALL")
    return frame.sort_values(keys, ignore_index=True)


def best_setting(sweep: Sweep, keys: Sequence[str], gain: str) -> tuple[Sweep, str]:
    """Narrow to the headline value with the best mean gain, so that collapsed runs do not hide a question.

    Returns:
        The narrowed sweep, and the words that say so for a caption; both unchanged and empty when the
        headline axis is one of ``keys``.
    """
    by = [key for key in headline_axis(sweep) if key not in keys]
    if not by:
        return sweep, ""
    means = sweep.query(f"SELECT {quoted(by)}, avg({finite_sql(gain)}) AS gain FROM runs GROUP BY ALL")
    value = means.sort_values("gain", ascending=False, na_position="last")[by[0]].iloc[0]
    return sweep.where(write_term(by[0], value)), f" at {cell_label({by[0]: value})} (best mean gain)"


def over_seeds(rows: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Mean of ``value`` with its interval over seeds, one row per combination of ``by``.

    Returns:
        Columns ``by``, then ``value`` (renamed to itself), ``low``, ``high``, ``n``.
    """
    if not len(rows):
        return pd.DataFrame(columns=[*by, value, "low", "high", "n"])
    groups = rows[list(by)].drop_duplicates().reset_index(drop=True) if by else pd.DataFrame(index=[0])
    code = rows.groupby(list(by), sort=False, observed=True, dropna=False).ngroup() if by else 0
    seeds, column = np.unique(rows[SEED], return_inverse=True)
    values_GS = np.full((len(groups), len(seeds)), np.nan)
    values_GS[np.asarray(code), column] = rows[value].to_numpy(dtype=float)
    interval: Interval = mean_interval(values_GS)
    return groups.assign(
        **{value: interval.value, "low": interval.low, "high": interval.high, "n": interval.n}
    )


def has_metric(sweep: Sweep, name: str) -> bool:
    """Whether any run has a value of the metric."""
    if name not in sweep.metrics:
        return False
    return bool(sweep.arrow(f"SELECT count({finite_sql(name)}) AS n FROM runs")["n"][0].as_py())


def runs_and_seeds(sweep: Sweep) -> str:
    """``96 runs, 4 seeds`` for captions."""
    row = sweep.arrow(
        f"SELECT count(*) AS runs, count(DISTINCT {SEED}) AS seeds FROM runs "
        "WHERE outcome IN ('done', 'diverged')"
    ).to_pylist()[0]
    return f"{row['runs']:,} runs, {row['seeds']} seeds"


def said_by(comparing: Callable[[], Comparison]) -> tuple[str, ...]:
    """What a comparison says; nothing while a sweep that is under way has no two runs that match."""
    try:
        return comparing().sentences
    except UserError:
        return ()
