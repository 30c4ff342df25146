"""The best cells, and what their lead is worth on seeds that did not choose them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.data.axes import cell_label
from analysis.data.sweep import SweepData
from analysis.output.table import SEEDS, ReportColumn, ReportTable, axis_columns, interval_column, percent
from analysis.stats.heldout import HeldOutBest, held_out_best
from analysis.tables.cell_table import is_share
from analysis.tables.seed_values import gather


@dataclass(frozen=True, kw_only=True)
class BestCells:
    """The best cells of a sweep."""

    table: ReportTable
    check: HeldOutBest | None
    """What the choice is worth; ``None`` with one seed."""
    sentence: str


def best_cells(sweep: SweepData, *, metric: str | None = None, top: int = 10) -> BestCells:
    """Rank cells by their mean and judge the choice on held-out seeds.

    Columns of the frame: the axes, ``mean`` with its interval, ``chosen`` (share of splits in which half of
    the seeds choose this cell), ``n``.

    Raises:
        UserError: for an unknown metric.
    """
    metric = sweep.metric(metric)
    keys = sweep.cell_keys
    gathered = gather(sweep, keys, metric)
    interval = gathered.interval()
    check = held_out_best(gathered.values)
    frame = gathered.groups[keys].assign(
        mean=interval.value,
        mean_low=interval.low,
        mean_high=interval.high,
        chosen=check.chosen if check else np.nan,
        n=interval.n,
    )
    winner = cell_label(frame.loc[check.winner, keys].to_dict()) if check else ""
    frame = frame.sort_values("mean", ascending=False, na_position="last").head(top).reset_index(drop=True)
    kind = "points" if is_share(metric) else "number"
    layout = (
        *axis_columns(keys),
        interval_column("mean", "mean", kind, ("mean_low", "mean_high")),
        ReportColumn(header="chosen by half the seeds, %", source="chosen", kind="points"),
        SEEDS,
    )
    sentence = _sentence(check, winner, len(gathered.groups), gathered.values.shape[1], metric)
    return BestCells(
        table=ReportTable(
            title=f"Best {len(frame)} of {len(gathered.groups):,} cells by {metric}",
            frame=frame,
            layout=layout,
            notes=(
                "Intervals: 95 %, over seeds, of each cell alone: they do not know that it was picked.",
                *sweep.warnings,
            ),
        ),
        check=check,
        sentence=sentence,
    )


def _sentence(check: HeldOutBest | None, winner: str, cells: int, seeds: int, metric: str) -> str:
    if check is None:
        return "One seed: the best cell cannot be judged on seeds that did not choose it."
    show = percent if is_share(metric) else _plain
    half = seeds // 2
    return (
        f"Best on all seeds: {winner}. Choosing the best of {cells:,} cells on {half} seeds reads "
        f"{show(check.apparent)} there and {show(check.held_out)} on the other {seeds - half}: "
        f"{show(check.drop, signed=True)} is the winner's curse ({check.num_splits} splits)."
    )


def _plain(value: float, *, signed: bool = False) -> str:
    return f"{value:+.4g}" if signed else f"{value:.4g}"
