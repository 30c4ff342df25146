"""What an analysis returns, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.data.axes import SEED, cell_label
from analysis.data.sweep import SweepData
from analysis.data.views import finite_sql
from analysis.output.figure import Figure
from analysis.output.markup import in_notebook, lines_html, title_html
from analysis.output.table import ReportTable, end_of, in_numbers, unit_of_change
from analysis.stats.intervals import mean_of
from analysis.tables.cell_table import headline_axis
from analysis.tables.compare import Comparison
from analysis.tables.seed_values import gather
from sweeps.grid.filters import write_term
from sweeps.spec.errors import UserError
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.text import counted


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One question answered, or what is missing to answer it."""

    key: str
    """Short name, such as ``decoupling``."""
    question: str
    sentences: tuple[str, ...] = ()
    table: ReportTable | None = None
    figure: Figure | None = None
    """The answer as a picture; absent where the optional figure packages are."""
    missing: str | None = None
    """Which inputs the sweep lacks and how to record them; ``None`` when the question was answered."""

    def _repr_html_(self) -> str:
        said = [self.missing] if self.missing else self.sentences
        drawn = self.figure.html() if self.figure is not None else ""
        table = self.table.html() if self.table is not None else ""
        return in_notebook(title_html(self.question), lines_html(said), drawn, table)


def best_setting(sweep: SweepData, keys: Sequence[str], gain: str) -> tuple[SweepData, str]:
    """Narrow to the headline value with the best mean gain, so that collapsed runs do not hide a question.

    Returns:
        The narrowed sweep, and the words that say so for a caption; both unchanged and empty when the
        headline axis is one of ``keys``.
    """
    by = [key for key in headline_axis(sweep) if key not in keys]
    if not by:
        return sweep, ""
    gathered = gather(sweep, by, gain)
    best = np.nan_to_num(mean_of(gathered.values), nan=-np.inf).argmax()
    value = gathered.groups[by[0]].iloc[best]
    return sweep.where(write_term(by[0], value)), f" at {cell_label({by[0]: value})} (best mean gain)"


def has_metric(sweep: SweepData, name: str) -> bool:
    if name not in sweep.metrics:
        return False
    return bool(sweep.arrow(f"SELECT count({finite_sql(name)}) AS n FROM runs")["n"][0].as_py())


def runs_and_seeds(sweep: SweepData, metric: str | None = None) -> str:
    """``96 runs, 4 seeds`` for captions: the runs that ended or, of what is said about a metric, those that
    have a value of it.
    """
    used = f"{finite_sql(metric)} IS NOT NULL" if metric else "outcome IN ('done', 'diverged')"
    row = sweep.arrow(
        f"SELECT count(*) AS runs, count(DISTINCT {SEED}) AS seeds FROM runs WHERE {used}"
    ).to_pylist()[0]
    return f"{counted(row['runs'], 'run')}, {counted(row['seeds'], 'seed')}"


def said_by(comparing: Callable[[], Comparison]) -> tuple[str, ...]:
    """What a comparison says; nothing while a sweep that is under way has no two runs that match."""
    try:
        return comparing().sentences
    except UserError:
        return ()


def change_in_words(info: MetricInfo, value: float, low: float, high: float) -> str:
    """``+1.2 points [+0.4, +2.0]``; without ends where one seed gives none."""
    ends = "no interval" if low != low else f"{end_of(info, low)}, {end_of(info, high)}"
    return f"{in_numbers(info, value, signed=True)}{unit_of_change(info)} [{ends}]"
