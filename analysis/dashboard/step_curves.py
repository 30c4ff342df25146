"""Curves by optimizer step with bands over seeds, drawn from the analysis' own means and intervals."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.dashboard.vega_figure import Drawing, draw
from analysis.data.axes import SEED
from analysis.data.sweep import SweepData
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import ReportTable
from analysis.tables.seed_values import OVER_SEEDS, curves, where_curves_end

LINES = ("loss", "entropy_nats")
"""Step columns drawn beside the metric."""

WIDTH, HEIGHT = 270, 190
"""Plot area of one of four in a row."""


def by_step(sweep: SweepData, by: str, metric: str, others: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Curves of the metric and of other columns of ``steps`` by the axis ``by``; those that are recorded.

    All of the same runs: those that have the metric at their end. By seed, each row stands for itself,
    without a band.
    """
    recorded = set(sweep.arrow("SELECT * FROM steps LIMIT 0").column_names) if sweep.has("steps") else set()
    names = [name for name in (metric, *others) if name in recorded]
    parts = {name: curves(sweep, [by], name, counted_by=metric) for name in names}
    return {name: part for name, part in parts.items() if len(part)}


def draw_metric(sweep: SweepData, by: str, metric: str) -> Drawing | None:
    """The metric alone; ``None`` where it was judged at fewer than two steps."""
    part = by_step(sweep, by, metric).get(metric)
    if part is None or part["step"].nunique() < 2:
        return None
    info = sweep.info(metric)
    kept, left_out = figures.keep_groups(part, by, metric, smallest=info.direction == "min")
    chart = figures.curves(
        kept,
        x="step",
        y=metric,
        color=by,
        x_title="optimizer step",
        y_title=info.title(metric),
        share=info.is_share,
    )
    ends = where_curves_end(sweep, [by], metric)
    caption = f"{metric} by step. Bands: {OVER_SEEDS}.{left_out}{ends}"
    return draw(Figure(chart=chart, caption=caption))


def draw_curves(sweep: SweepData, by: str, metric: str) -> tuple[Drawing | None, ReportTable]:
    """Curves with bands over seeds per value of ``by``, and the metric against the loss.

    ``None`` instead of a figure where no step is recorded. Of a cell, ``by`` may be the seed: then each line
    is one run, without a band.
    """
    parts = by_step(sweep, by, metric, LINES)
    table = _points(parts, by)
    if not parts:
        return None, table
    info, charts = sweep.info(metric), []
    first = metric if metric in parts else next(iter(parts))
    smallest = sweep.info(first).direction == "min"
    kept, left_out = figures.keep_groups(parts[first], by, first, smallest=smallest)
    drawn = set(kept[by])
    for name, part in parts.items():
        chart = figures.curves(
            part[part[by].isin(drawn)],
            x="step",
            y=name,
            color=by,
            x_title="optimizer step",
            y_title=sweep.info(name).title(name),
            share=sweep.info(name).is_share,
            width=WIDTH,
            height=HEIGHT,
        )
        charts.append(chart)
    if metric in parts and "loss" in parts:
        both = parts[metric].merge(parts["loss"][[by, "step", "loss"]], on=[by, "step"])
        both = both[both[by].isin(drawn)]
        if len(both):
            chart = figures.scatter(
                both,
                x="loss",
                y=metric,
                color=by,
                x_title="loss",
                y_title=info.title(metric),
                share=info.is_share,
                width=WIDTH,
                height=HEIGHT,
            )
            charts.append(chart)
    caption = (
        f"{', '.join(parts)} by step"
        + (f", and {metric} against the loss at the same step" if len(charts) > len(parts) else "")
        + (f". Bands: {OVER_SEEDS}." if by != SEED else ". One line per seed.")
        + left_out
        + (where_curves_end(sweep, [by], metric) if metric in parts else "")
    )
    return draw(Figure(chart=figures.beside(charts, fit=False), caption=caption)), table


def _points(parts: dict[str, pd.DataFrame], by: str) -> ReportTable:
    long = [
        part.rename(columns={name: "value"}).assign(metric=name)[
            ["metric", by, "step", "value", "low", "high", "n"]
        ]
        for name, part in parts.items()
    ]
    frame = pd.concat(long, ignore_index=True) if long else pd.DataFrame()
    return ReportTable(title=f"Curves by {by}", frame=frame, layout=())
