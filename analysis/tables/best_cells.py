"""The best cells, and what their lead is worth on seeds that did not choose them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.race import is_race
from analysis.data.search import is_search
from analysis.data.sweep import SweepData
from analysis.output.markup import in_notebook, lines_html
from analysis.output.table import (
    SEEDS,
    ReportColumn,
    ReportTable,
    axis_columns,
    in_numbers,
    interval_column,
    value_kind,
)
from analysis.stats.heldout import HeldOutBest, held_out_best
from analysis.stats.intervals import mean_of
from analysis.tables.crossed_means import crossed_rows
from analysis.tables.item_means import OVER_WORDS, over_or_default
from analysis.tables.missing import require_runs, why_missing
from analysis.tables.seed_values import SeedValues, gather
from sweeps.spec.errors import UserError
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.text import counted


@dataclass(frozen=True, kw_only=True)
class BestCells:
    """The best cells of a sweep."""

    table: ReportTable
    check: HeldOutBest | None
    """What the choice is worth; ``None`` with one seed."""
    sentence: str

    def _repr_html_(self) -> str:
        return in_notebook(lines_html([self.sentence]), self.table.html())


def best_cells(
    sweep: SweepData, *, metric: str | None = None, top: int = 10, over: str | None = None
) -> BestCells:
    """Rank cells by their mean and judge the choice on held-out seeds.

    Columns of the frame: the axes, ``mean`` with its interval, ``chosen`` (share of splits in which half of
    the seeds choose this cell), ``n``.

    Raises:
        UserError: for an unknown metric, for a race, and for a search.
    """
    require_runs(sweep)
    if is_search(sweep.sources):
        raise UserError(
            "best cells: a search chose these cells by their results; its trials, and the best one on seeds "
            "that did not choose it, are in: emsweep table DIR --by trial"
        )
    if is_race(sweep.sources):
        raise UserError(
            "best cells: cells of a race have different seeds, so that none are left to judge the best "
            "one on; which cell is best is a race's own question (search.question=best)"
        )
    metric = sweep.metric(metric)
    info = sweep.info(metric)
    keys = sweep.cell_keys
    gathered = gather(sweep, keys, metric)
    interval = gathered.interval()
    check = held_out_best(gathered.values, smallest=info.direction == "min")
    took_part = ~np.isnan(gathered.values).any(axis=1)
    frame = gathered.groups[keys].assign(
        mean=interval.value,
        mean_low=interval.low,
        mean_high=interval.high,
        chosen=np.where(took_part, check.chosen, np.nan) if check else np.nan,
        n=interval.n,
    )
    winner = cell_label(frame.loc[check.winner, keys].to_dict()) if check else ""
    frame = frame.sort_values("mean", ascending=info.direction == "min", na_position="last").head(top)
    frame, over = _over_items(sweep, gathered, metric, frame, over)
    kind = value_kind(info)
    layout = (
        *axis_columns(keys),
        interval_column("mean", "mean", kind, ("mean_low", "mean_high")),
        ReportColumn(header="chosen by half the seeds, %", source="chosen", kind="points"),
        SEEDS,
    )
    lacking = _lacking(gathered, keys, info.sign)
    sentence = _sentence(check, winner, gathered.values.shape, lacking, info)
    return BestCells(
        table=ReportTable(
            title=f"Best {len(frame)} of {len(gathered.groups):,} cells by {metric}",
            frame=frame,
            layout=layout,
            notes=(
                f"Intervals: 95 %, over {OVER_WORDS[over]}, of each cell alone: they do not know that it was "
                "picked.",
                *sweep.warnings,
            ),
        ),
        check=check,
        sentence=sentence,
    )


def _over_items(
    sweep: SweepData, gathered: SeedValues, metric: str, frame: pd.DataFrame, asked: str | None
) -> tuple[pd.DataFrame, str]:
    """The rows with their intervals over what is asked for, and over what they are."""
    over = over_or_default(sweep, metric, asked, sweep.cell_keys)
    rows = frame.index.to_numpy()
    if over != "seeds" and len(rows) and len(gathered.seeds):
        try:
            estimate = crossed_rows(sweep, gathered, sweep.cell_keys, metric, rows, over)
        except UserError:
            if asked is not None:
                raise
            over = "seeds"
        else:
            interval = estimate.interval(bounds=gathered.bounds)
            frame = frame.assign(mean_low=interval.low, mean_high=interval.high)
    return frame.reset_index(drop=True), over


def _lacking(gathered: SeedValues, keys: Sequence[str], sign: int) -> str:
    """How many cells take no part in the choice for want of a seed, and why; by name if one of them leads."""
    gaps = np.isnan(gathered.values).any(axis=1)
    if not gaps.any() or gathered.values.shape[1] < 2:
        return ""
    mean_C = sign * mean_of(gathered.values)
    text = (
        f" {counted(gaps.sum(), 'cell')} of {len(gaps):,} took no part, for want of a seed "
        f"({why_missing(gathered.groups[gaps])})"
    )
    if np.nanmax(mean_C[gaps], initial=-np.inf) > np.nanmax(mean_C[~gaps], initial=-np.inf):
        leader = int(np.where(gaps, np.nan_to_num(mean_C, nan=-np.inf), -np.inf).argmax())
        named = cell_label(gathered.groups[keys].iloc[leader].to_dict())
        text += f", {named} among them, which leads on the seeds it has"
    return text + "."


def _sentence(
    check: HeldOutBest | None, winner: str, shape: tuple[int, ...], lacking: str, info: MetricInfo
) -> str:
    cells, seeds = shape
    if check is None:
        if seeds < 2:
            return "One seed: the best cell cannot be judged on seeds that did not choose it."
        lacks = f"No cell has all {seeds} seeds"
        return f"{lacks}: the best cannot be judged on seeds that did not choose it.{lacking}"
    half, whole = seeds // 2, int(check.num_cells)
    show = partial(in_numbers, info)
    among = f"{whole:,} cells" if whole == cells else f"the {whole:,} cells with all {seeds} seeds"
    best = "smallest" if info.direction == "min" else "best"
    unsaid = (
        " The sweep does not say which end is better; the largest was taken (trainer.metrics says it)."
        if info.direction == "none"
        else ""
    )
    return (
        f"Best on all seeds: {winner}. Choosing the {best} of {among} on {counted(half, 'seed')} reads "
        f"{show(check.apparent)} there and {show(check.held_out)} [{show(check.low)}, {show(check.high)}] on "
        f"the other {seeds - half} (at least 95 % CI, over seeds only, for they are what is split): "
        f"{show(check.drop, signed=True)} is the winner's curse ({counted(check.num_splits, 'split')})."
        f"{lacking}{unsaid}"
    )
