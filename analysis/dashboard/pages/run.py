"""One run: numbers, curves, rollouts as text, configuration, attempts and logs, how to run it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from starlette.responses import Response

from analysis.dashboard.cell_format import shown_columns
from analysis.dashboard.context import Context, download, svg
from analysis.dashboard.history import events_of, logs_of, reported_by
from analysis.dashboard.vega_figure import Drawing, draw
from analysis.data.axes import SEED
from analysis.data.sweep import SweepData
from analysis.data.views import literal
from analysis.output import figures
from analysis.output.csv_text import csv_text
from analysis.output.figure import Figure
from sweeps.grid.filters import write_filter
from sweeps.spec import RUN_ID_LENGTH
from sweeps.spec.errors import UserError

MAX_ROLLOUTS = 400
"""Distinct rollouts shown."""

MAX_REPORTED = 200
"""Newest reported steps shown of an attempt."""

LONG_TEXT = 2_000
"""Characters from which a rollout is folded."""

MEASURED = ("points", "gain", "number", "change")
"""Kinds of columns that hold what a run measured."""

CURVES = ("loss", "entropy_nats", "accuracy_sampled", "accuracy_greedy")
"""Columns of ``steps`` drawn, where a run has them."""

_ID = re.compile(rf"[0-9a-f]{{4,{RUN_ID_LENGTH}}}")


def run(context: Context) -> Response:
    with context.snapshot.reading() as sweep:
        row = _row(sweep, context.request.path_params["run_id"])
        spec = _spec(sweep, row["index"])
        steps = _rows(sweep, "steps", row, "step")
        rollouts = _rows(sweep, "rollouts", row, "step, count DESC, text")
        keys = [key for key in row if key not in ("sweep", "index", "run_id", "name")]
        columns = shown_columns(keys, sweep.axis_keys, sweep.infos())
        cell = {key: row[key] for key in sweep.cell_keys}
    layout = context.store.layout
    reported = reported_by(layout, row["run_id"])
    return context.page(
        "run.html",
        row=row,
        columns=columns,
        axes=[c for c in columns if c.kind == "axis"],
        metrics=[c for c in columns if c.kind in MEASURED and row[c.key] is not None],
        rest=[c for c in columns if c.kind == "text" and row[c.key] is not None and c.key != "outcome"],
        spec=spec,
        step_columns=[k for k in steps[0] if any(s[k] is not None for s in steps)] if steps else [],
        steps=steps,
        reported=reported[-1:] if not steps else [],
        cut_short=[attempt for attempt in reported if attempt.is_over and not attempt.gave_result],
        rollouts=rollouts[:MAX_ROLLOUTS],
        num_rollouts=len(rollouts),
        long_text=LONG_TEXT,
        max_reported=MAX_REPORTED,
        events=events_of(layout, row["run_id"]),
        logs=logs_of(layout, row["run_id"], row.get("worker")),
        replay=context.command("replay", row["run_id"]),
        siblings=write_filter(cell),
        code=context.python(f"sweep.steps().query('run_id == {json.dumps(row['run_id'])}')"),
    )


def curves(context: Context) -> Response:
    """The run's curves, as the part of its page that is drawn last."""
    figure = _figure(context)
    return context.page(
        "figure_page.html", title="Curves", figure=figure, prefix="curves", svg="", csv="", code=""
    )


def curves_svg(context: Context) -> Response:
    figure = _figure(context)
    if figure is None:
        raise UserError("this run has no steps to draw")
    return svg(figure, "curves.svg")


def steps_csv(context: Context) -> Response:
    with context.snapshot.reading() as sweep:
        row = _row(sweep, context.request.path_params["run_id"])
        steps = _rows(sweep, "steps", row, "step")
    return download(csv_text(pd.DataFrame(steps)), "steps.csv", "text/csv; charset=utf-8")


def _figure(context: Context) -> Drawing | None:
    run_id = context.request.path_params["run_id"]
    drawn = context.answer(("run", run_id), lambda sweep: _draw(sweep, run_id), lane="quick")
    return drawn or _draw_reported(context, run_id)


def _draw_reported(context: Context, run_id: str) -> Drawing | None:
    """What the newest attempt has reported so far, of a run that has no steps yet; drawn anew each time."""
    with context.snapshot.reading() as sweep:
        row = _row(sweep, run_id)
        attempts = reported_by(context.store.layout, row["run_id"])
        return _drawn(sweep, row, pd.DataFrame(attempts[-1].steps)) if attempts else None


def _draw(sweep: SweepData, run_id: str) -> Drawing | None:
    row = _row(sweep, run_id)
    return _drawn(sweep, row, pd.DataFrame(_rows(sweep, "steps", row, "step")))


def _drawn(sweep: SweepData, row: Mapping[str, Any], steps: pd.DataFrame) -> Drawing | None:
    numbers = [name for name in steps.select_dtypes("number") if name != "step"]
    names = [name for name in CURVES if name in numbers] or numbers
    charts = []
    for name in names[: len(CURVES)]:
        if steps[name].notna().any():
            values = steps[["step", name]].dropna()
            values = values.assign(low=values[name], high=values[name])
            charts.append(
                figures.curves(
                    values,
                    x="step",
                    y=name,
                    color=None,
                    x_title="optimizer step",
                    y_title=sweep.info(name).title(name),
                    share=sweep.info(name).is_share,
                    width=250,
                    height=170,
                )
            )
    if not charts:
        return None
    caption = f"Run {row['name']}, one value per step; no interval."
    return draw(Figure(chart=figures.beside(charts, fit=False), caption=caption))


def _row(sweep: SweepData, run_id: str) -> dict[str, Any]:
    """The run's row of ``runs``; its id may be shortened to digits that no other run begins with."""
    if not _ID.fullmatch(run_id):
        raise UserError(f"run {run_id[:80]!r}: is no run id; ids are {RUN_ID_LENGTH} hexadecimal digits")
    matches = "run_id = ?" if len(run_id) == RUN_ID_LENGTH else "starts_with(run_id, ?)"
    rows = sweep.arrow(f"SELECT * FROM runs WHERE {matches} LIMIT 2", run_id).to_pylist()
    if not rows:
        raise UserError(f"run {run_id!r}: this sweep has no such run (any more); look it up among the runs")
    if len(rows) > 1:
        raise UserError(f"run {run_id!r}: several runs begin so; give more digits")
    return rows[0]


def _rows(sweep: SweepData, view: str, row: Mapping[str, Any], order: str) -> list[dict[str, Any]]:
    if not sweep.has(view):
        return []
    skip = {"sweep", "index", "run_id", SEED, "outcome", *sweep.axis_keys}
    table = sweep.arrow(f"SELECT * FROM raw_{view} WHERE index = ? ORDER BY {order}", row["index"])
    return table.drop_columns([name for name in table.column_names if name in skip]).to_pylist()


def _spec(sweep: SweepData, index: int) -> str:
    """The frozen configuration, group by group, as JSON."""
    path = literal(str(sweep.sources[0].manifest))
    [row] = sweep.arrow(f"SELECT * FROM read_parquet({path}) WHERE index = ?", index).to_pylist()
    groups = {key.removeprefix("spec."): value for key, value in row.items() if key.startswith("spec.")}
    spec = {key: json.loads(value) if isinstance(value, str) else value for key, value in groups.items()}
    return json.dumps(spec, indent=2, ensure_ascii=False)
