"""Two axes against each other: a heatmap whose tiles lead to their runs, and the curves behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from starlette.responses import Response

from analysis.dashboard.context import Context, csv, svg
from analysis.dashboard.links import join
from analysis.dashboard.step_curves import draw_curves
from analysis.dashboard.vega_figure import HERE, Drawing, draw
from analysis.data.axes import SEED, cell_label
from analysis.data.sweep import SweepData
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, interval_column, percent, value_kind
from analysis.output.words import axis_words
from analysis.tables.cell_table import headline_axis
from analysis.tables.seed_values import OVER_SEEDS, gather
from sweeps.grid.axes import resolve
from sweeps.grid.filters import write_filter, write_term
from sweeps.spec.errors import UserError
from sweeps.spec.text import label

MAX_TILES = 1_500
"""Tiles of a heatmap that can still be read, and drawn in time."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is shown."""

    x: str
    """Axis from left to right."""
    y: str | None
    """Axis from above; ``None`` where the sweep has one axis."""
    metric: str
    filter: str
    """Runs used: the filter box and the axes held fixed."""
    fixed: dict[str, str]
    """Axes held at one value, as in the address."""


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """The picture, and its numbers."""

    figure: Drawing
    table: ReportTable


def choice_of(context: Context) -> Choice:
    """What the address asks for.

    Raises:
        UserError: for an unknown axis or metric.
    """
    sweep, params = context.snapshot.sweep, context.params
    varied = [a.key for a in sweep.axes if a.key != SEED and len(a.values) > 1] or sweep.cell_keys
    if not varied:
        raise UserError("this sweep has no axis but the seed: there are no cells to compare")
    x = (
        resolve(params["x"], sweep.cell_keys, "axis")
        if params.get("x")
        else (headline_axis(sweep) or varied)[0]
    )
    others = [key for key in varied if key != x]
    y = resolve(params["y"], sweep.cell_keys, "axis") if params.get("y") else (others[0] if others else None)
    if y == x:
        y = others[0] if others else None
    metric = context.metric()
    fixed = {}
    for key in sweep.cell_keys:
        text = params.get(f"at.{key}", "")
        if text and key not in (x, y):
            fixed[key] = text
    terms = [params.get("filter", "").strip(), *(f"{key}={text}" for key, text in fixed.items())]
    return Choice(x=x, y=y, metric=metric, filter=" ".join(w for w in terms if w), fixed=fixed)


def cells(context: Context) -> Response:
    choice = choice_of(context)
    sweep = context.snapshot.sweep
    values = {axis.key: [(filter_word(v), label(v)) for v in axis.values] for axis in sweep.axes}
    others = [k for k in sweep.cell_keys if k not in (choice.x, choice.y) and len(values[k]) > 1]
    return context.page(
        "cells.html",
        choice=choice,
        map=_heatmap(context, choice),
        axes=sweep.cell_keys,
        others=others,
        values=values,
        metrics=context.snapshot.metrics,
        curves=join("/curves", {"by": choice.x, "metric": choice.metric, "filter": choice.filter}),
        code=context.python(
            f"sweep.cells(by={[k for k in (choice.y, choice.x) if k]!r}, metric={choice.metric!r})",
            filters=choice.filter,
        ),
    )


def filter_word(value: object) -> str:
    """A value as a filter spells it, without its key."""
    return write_term("x", value).removeprefix("x=")


def cells_svg(context: Context) -> Response:
    return svg(_heatmap(context, choice_of(context)).figure, "cells.svg")


def cells_csv(context: Context) -> Response:
    return csv(_heatmap(context, choice_of(context)).table, "cells.csv")


def _heatmap(context: Context, choice: Choice) -> Heatmap:
    return context.answer(
        ("heatmap", choice.x, choice.y, choice.metric),
        lambda sweep: heatmap(sweep, choice),
        filters=choice.filter,
        lane="quick",
    )


def heatmap(sweep: SweepData, choice: Choice) -> Heatmap:
    """Mean over seeds with its interval for each pair of values.

    Raises:
        UserError: when there is nothing to show, or more tiles than can be read.
    """
    by = [key for key in (choice.y, choice.x) if key]
    gathered = gather(sweep, by, choice.metric)
    if len(gathered.groups) > MAX_TILES:
        raise UserError(
            f"{len(gathered.groups):,} tiles cannot be read: filter, or choose axes with fewer values"
        )
    if np.isnan(gathered.values).all():
        raise UserError(f"none of these runs has a value of {choice.metric} yet")
    interval = gathered.interval()
    frame = gathered.groups[by].assign(
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        runs=gathered.groups["expected"],
        missing=gathered.groups["missing"] + gathered.groups["diverged"],
    )
    info = sweep.info(choice.metric)
    places = [dict(zip(by, row, strict=True)) for row in frame[by].itertuples(index=False)]

    def show(value: float) -> str:
        return percent(value, signed=info.difference) if info.is_share else f"{value:.3g}"

    drawn = frame.assign(
        shown=[show(value) for value in frame["value"]],
        says=[
            f"{cell_label(values)}: {show(row.value)} [{show(row.low)}, {show(row.high)}], {row.n} seeds, "
            f"{row.runs} runs"
            for values, row in zip(places, frame.itertuples(), strict=True)
        ],
        address=[
            HERE + join("/runs", {"filter": f"{choice.filter} {write_filter(values)}".strip()})
            for values in places
        ],
    )
    if choice.y is None:
        drawn = drawn.assign(all="all cells")
    chart = figures.heatmap(
        drawn,
        x=choice.x,
        y=choice.y or "all",
        value="value",
        text="shown",
        x_title=axis_words(choice.x),
        y_title=axis_words(choice.y) if choice.y else "",
        signed=info.difference,
        says="says",
        address="address",
    )
    unit = f" in {info.axis_unit}" if info.axis_unit else ""
    averaged = [k for k in sweep.cell_keys if k not in by and len(set(sweep.axis(k).values)) > 1]
    rest = f"; {', '.join(averaged)} averaged within each seed" if averaged else ""
    where = f", runs where {choice.filter}" if choice.filter else ""
    caption = f"Mean {choice.metric}{unit} over seeds{where}{rest}. A tile leads to its runs."
    table = ReportTable(
        title=f"{choice.metric} by {', '.join(by)}",
        frame=frame,
        layout=(
            *(ReportColumn(header=key, source=key) for key in by),
            interval_column("mean", "value", value_kind(info)),
            SEEDS,
            ReportColumn(header="runs", source="runs", kind="count"),
            ReportColumn(header="without a value", source="missing", kind="count"),
        ),
        notes=(f"Intervals: {OVER_SEEDS}. Other axes are averaged within each seed first.",),
    )
    return Heatmap(figure=draw(Figure(chart=chart, caption=caption)), table=table)


def curves(context: Context) -> Response:
    """Metric, loss and entropy by step, and loss against the metric, per value of one axis."""
    by, metric = _curve_choice(context)
    drawn, _ = _curves(context, by, metric)
    return context.page(
        "figure_page.html",
        title="Curves",
        figure=drawn,
        prefix="curves",
        svg=context.link.ending("svg"),
        csv=context.link.ending("csv"),
        code=context.python("sweep.steps()", filters=context.params.get("filter", "")),
    )


def curves_svg(context: Context) -> Response:
    figure, _ = _curves(context, *_curve_choice(context))
    if figure is None:
        raise UserError("there are no steps to draw")
    return svg(figure, "curves.svg")


def curves_csv(context: Context) -> Response:
    _, table = _curves(context, *_curve_choice(context))
    return csv(table, "curves.csv")


def _curve_choice(context: Context) -> tuple[str, str]:
    sweep, params = context.snapshot.sweep, context.params
    by = resolve(params.get("by") or (headline_axis(sweep) or [SEED])[0], sweep.axis_keys, "axis")
    metric = context.metric()
    return by, metric


def _curves(context: Context, by: str, metric: str) -> tuple[Drawing | None, ReportTable]:
    return context.answer(
        ("curves", by, metric),
        lambda sweep: draw_curves(sweep, by, metric),
        filters=context.params.get("filter", ""),
    )
