"""Every run in a table: sorted, filtered, grouped, in the columns one picks."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.responses import Response, StreamingResponse

from analysis.dashboard import run_grid
from analysis.dashboard.cell_format import Shown, shown_columns
from analysis.dashboard.context import Context, csv
from analysis.dashboard.links import one_of, whole_number
from analysis.data.sweep import SweepData
from analysis.data.views import quoted
from analysis.output.csv_text import csv_text
from sweeps.grid.axes import resolve
from sweeps.spec.errors import UserError

CSV_ROWS = 20_000
"""Rows written at once."""


def runs(context: Context) -> Response:
    with context.snapshot.reading() as sweep:
        known = context.answer("columns", run_grid.all_columns, lane="quick")
        defaults = context.answer("defaults", run_grid.default_columns, lane="quick")
        message, status = "", 200
        try:
            by = run_grid.without_seed(sweep, words_of(context.params.get("group", "")))
            if by:
                return _grouped(context, by, known)
            choice = choice_of(context, known, defaults)
            page = run_grid.page_of(sweep, choice)
            if choice.columns == defaults:
                context = context.without("column")
        except UserError as error:
            message, status = str(error), 400
            choice = run_grid.Choice(columns=defaults, filter=context.params.get("filter", ""))
            page = run_grid.Page(rows=[], total=0, number=1, pages=1)
    return context.page(
        "runs.html",
        status=status,
        message=message,
        choice=choice,
        page=page,
        columns=shown_columns(choice.columns, sweep.axis_keys, sweep.infos()),
        known=known,
        axes=sweep.cell_keys,
        metrics=context.snapshot.metrics,
        sizes=run_grid.SIZES,
        group="",
        code=_code(context, choice),
    )


def choice_of(context: Context, known: list[str], defaults: tuple[str, ...]) -> run_grid.Choice:
    """What the address asks for.

    Raises:
        UserError: for an unknown column or a page that is no number.
    """
    params = context.params
    picked = [word for word in params.get("column", "").split(",") if word]
    columns = tuple(resolve(word, known, "column") for word in picked) or defaults
    return run_grid.Choice(
        filter=params.get("filter", "").strip(),
        sort=resolve(params.get("sort") or "index", known, "column"),
        descending=one_of(params, "way", ("up", "down")) == "down",
        columns=tuple(dict.fromkeys(columns)),
        page=whole_number(params, "page", 1, 1, 10**9),
        size=whole_number(params, "size", run_grid.DEFAULT_SIZE, 1, max(run_grid.SIZES)),
    )


def _grouped(context: Context, by: list[str], known: list[str]) -> Response:
    size = whole_number(context.params, "size", run_grid.DEFAULT_SIZE, 1, max(run_grid.SIZES))
    choice = run_grid.Choice(columns=(), filter=context.params.get("filter", "").strip(), size=size)
    metric = context.metric()
    table = context.answer(
        ("grouped", tuple(by), metric),
        lambda sweep: run_grid.grouped(sweep, by, metric),
        filters=choice.filter,
        lane="quick",
    )
    shown = Shown.of(table, context.params, known, limit=choice.size)
    return context.page(
        "runs.html",
        message="",
        choice=choice,
        shown=shown,
        by=by,
        metric=metric,
        known=known,
        axes=context.snapshot.sweep.cell_keys,
        metrics=context.snapshot.metrics,
        sizes=run_grid.SIZES,
        group=",".join(by),
        code=context.python(f"sweep.cells(by={by!r}, metric={metric!r})", filters=choice.filter),
    )


def runs_csv(context: Context) -> Response:
    """All runs that the filter means, in all chosen columns; groups when there are some."""
    with context.snapshot.reading() as sweep:
        known = context.answer("columns", run_grid.all_columns, lane="quick")
        choice = choice_of(context, known, tuple(known))
        by = run_grid.without_seed(sweep, words_of(context.params.get("group", "")))
        if by:
            metric = context.metric()
            return csv(run_grid.grouped(sweep.where(choice.filter), by, metric), "groups.csv")
        where = run_grid.condition(sweep, choice.filter)
        query_sweep = sweep.where()
    way = "DESC" if choice.descending else "ASC"
    sql = (
        f"SELECT {quoted(choice.columns)} FROM runs WHERE {where} "
        f"ORDER BY {quoted([choice.sort])} {way} NULLS LAST, index {way}"
    )
    headers = {"content-disposition": 'attachment; filename="runs.csv"'}
    return StreamingResponse(_lines(query_sweep, sql), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(sweep: SweepData, sql: str) -> Iterator[str]:
    first = True
    for batch in sweep.batches(sql, CSV_ROWS):
        yield csv_text(batch.to_pandas(), header=first)
        first = False


def _code(context: Context, choice: run_grid.Choice) -> str:
    line = f"sweep.runs({list(choice.columns)!r})"
    if choice.sort != "index":
        line += f".sort_values({choice.sort!r}, ascending={not choice.descending})"
    return context.python(line, filters=choice.filter)


def words_of(text: str) -> list[str]:
    return list(dict.fromkeys(word for word in text.split(",") if word))
