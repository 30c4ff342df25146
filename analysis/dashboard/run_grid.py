"""The table of runs: from the choices in a URL to one page of rows, or to rows of groups.

A page is found in two queries, the first over the sorted column alone and the second over the rows shown: a
million runs sort in the time it takes to read one column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.data.axes import SEED
from analysis.data.filters_sql import comparison_sql
from analysis.data.sweep import SweepData
from analysis.data.views import literal, quoted
from analysis.output.table import SEEDS, ReportColumn, ReportTable, interval_column, value_kind
from analysis.tables.seed_values import gather
from sweeps.grid.axes import resolve, short_names
from sweeps.grid.filters import parse_filter
from sweeps.spec.errors import UserError

SIZES = (25, 50, 100, 250)
"""Rows of a page to choose from."""

DEFAULT_SIZE = 50
"""Rows of a page: about two screens."""

HIDDEN = (
    "sweep",
    "index",
    "cell",
    "attempt",
    "worker",
    "host",
    "finished_at",
    "numerics",
    "error",
    "fingerprint",
)
"""Columns that are not shown unless chosen."""

FIRST_METRICS = ("accuracy_sampled", "gain_sampled", "accuracy_greedy", "last_entropy_nats", "wall_s")
"""Metrics shown beside the one that a sweep is about, unless others are chosen, where it has them."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the table shows."""

    filter: str = ""
    """Filter in the command line's grammar, over axes, the outcome, and any other column."""
    sort: str = "index"
    """Column to sort by, by its whole name."""
    descending: bool = False
    """Largest first; what is missing always comes last."""
    columns: tuple[str, ...]
    """Columns shown, in order."""
    page: int = 1
    size: int = DEFAULT_SIZE


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some rows of many."""

    rows: list[dict[str, Any]]
    """The rows: ``run_id``, ``name``, ``outcome`` and the chosen columns."""
    total: int
    """Runs that the filter means."""
    number: int
    """This page, from 1; the last one where fewer pages exist than were asked for."""
    pages: int


def all_columns(sweep: SweepData) -> list[str]:
    names = sweep.arrow("SELECT * FROM runs LIMIT 0").column_names
    first = [n for n in ("run_id", "name", "outcome", *sweep.axis_keys) if n in names]
    return [*first, *(n for n in names if n not in (*first, *HIDDEN)), *(n for n in HIDDEN if n in names)]


def default_columns(sweep: SweepData) -> tuple[str, ...]:
    """Id, outcome, axes, and the first few metrics; the name repeats the axes."""
    metrics = sweep.metrics
    try:
        about = [sweep.metric()]
    except UserError:  # nothing is measured yet
        about = []
    shown = list(dict.fromkeys([*about, *(name for name in FIRST_METRICS if name in metrics)]))
    return ("run_id", "outcome", *sweep.axis_keys, *shown)


def page_of(sweep: SweepData, choice: Choice) -> Page:
    """The rows of one page.

    Raises:
        UserError, SpecError: for a filter that means nothing here.
    """
    where = condition(sweep, choice.filter)
    total = sweep.arrow(f"SELECT count(*) AS n FROM runs WHERE {where}")["n"][0].as_py()
    pages = max(1, -(-total // choice.size))
    number = min(choice.page, pages)
    way = "DESC" if choice.descending else "ASC"
    indices = sweep.arrow(
        f"SELECT index FROM runs WHERE {where} "
        f"ORDER BY {quoted([choice.sort])} {way} NULLS LAST, index {way} "
        f"LIMIT {choice.size} OFFSET {(number - 1) * choice.size}"
    )["index"].to_pylist()
    columns = dict.fromkeys(["index", "run_id", "name", "outcome", *choice.columns])
    listed = ", ".join(map(literal, indices)) or "NULL"
    rows = sweep.arrow(f"SELECT {quoted(columns)} FROM runs WHERE index IN ({listed})").to_pylist()
    position = {index: number for number, index in enumerate(indices)}
    rows.sort(key=lambda row: position[row["index"]])
    return Page(rows=rows, total=total, number=number, pages=pages)


def condition(sweep: SweepData, text: str) -> str:
    """SQL over ``runs`` for a filter; beyond axes and outcome it may name any column.

    Raises:
        UserError, SpecError: for an unknown column or value; names the nearest.
    """
    terms, parts = parse_filter(text).terms, []
    types = {f.name: f.type for f in sweep.arrow("SELECT * FROM runs LIMIT 0").schema} if terms else {}
    for written in terms:
        term = replace(written, key=resolve(written.key, types, "column"))
        if term.key in (*sweep.axis_keys, "outcome"):
            parts.append(sweep.condition(str(term)))
        else:
            is_text = str(types[term.key]) in ("string", "large_string")
            parts.append(comparison_sql(term, is_text=is_text))
    return " AND ".join(f"({part})" for part in parts) or "true"


def grouped(sweep: SweepData, by: Sequence[str], metric: str) -> ReportTable:
    """One row per combination of the axes ``by``: mean over seeds with its interval, and what is missing.

    The same numbers as :func:`analysis.tables.cell_table.cell_table`, without the columns that need every
    step of every run.

    Raises:
        UserError: for an unknown axis or metric.
    """
    metric = sweep.metric(metric)
    by = [sweep.axis(word).key for word in by]
    gathered = gather(sweep, by, metric)
    interval = gathered.interval()
    frame = gathered.groups.assign(
        mean=interval.value, low=interval.low, high=interval.high, n=(~np.isnan(gathered.values)).sum(axis=1)
    )
    layout = [ReportColumn(header=short, source=key) for key, short in short_names(by).items()]
    layout.append(interval_column(metric, "mean", value_kind(sweep.info(metric))))
    layout += [
        SEEDS,
        ReportColumn(header="cells", source="num_cells", kind="count"),
        ReportColumn(header="runs", source="expected", kind="count"),
        *(
            ReportColumn(header=name, source=name, kind="count")
            for name in ("diverged", "failed", "missing")
            if frame[name].sum()
        ),
    ]
    return ReportTable(
        title=f"{metric} by {', '.join(by)}",
        frame=frame,
        layout=tuple(layout),
        notes=(
            "Intervals: 95 %, over seeds; a group of several cells averages them within each seed first. "
            f"Rule: means are over runs with a finite {metric}; the others are counted, not imputed.",
        ),
    )


def without_seed(sweep: SweepData, names: Sequence[str]) -> list[str]:
    """Axes to group by; the seed is what groups are averaged over.

    Raises:
        UserError: for an unknown axis.
    """
    return [key for word in names if (key := resolve(word, sweep.cell_keys, "axis")) != SEED]
