"""Two sides against each other on matched runs: the sentence, the numbers, the differences seed by seed."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from starlette.responses import Response

from analysis.dashboard.context import Context, csv, svg
from analysis.dashboard.vega_figure import Drawing, draw
from analysis.data.axes import SEED
from analysis.data.sweep import SweepData
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import unit_of_change
from analysis.tables.cell_table import headline_axis
from analysis.tables.compare import Comparison
from analysis.tables.compare import compare as test
from analysis.tables.item_means import OVER_WORDS
from sweeps.grid.axes import resolve
from sweeps.grid.filters import write_filter
from sweeps.spec.errors import UserError
from sweeps.spec.text import label

MAX_SEEDS = 40
"""Seeds drawn one by one."""

MAX_ITEMS_RUNS = 100_000
"""Runs up to which a page is tested over items unasked: reading those of a million takes some 5 s."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is compared."""

    a: str
    b: str
    by: tuple[str, ...]
    """Axes that split into a family of comparisons."""
    match_on: tuple[str, ...] | None
    """Axes on which pairs agree; ``None`` for all that neither side names."""
    metric: str
    over: str | None
    """What the test generalises over; ``None`` for seeds and items where these are recorded."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The comparison, and its picture."""

    comparison: Comparison
    figure: Drawing
    """Differences with their intervals, or seed by seed."""


def choice_of(context: Context) -> Choice:
    """What the address asks for; without sides, the first and last value of the headline axis.

    Raises:
        UserError: for an unknown axis or metric.
    """
    sweep, params = context.snapshot.sweep, context.params
    a, b = (params.get(side, "").strip() for side in "ab")
    if not a and not b:
        a, b = _suggestion(sweep)
    by = [resolve(w, sweep.cell_keys, "axis") for w in params.get("by", "").split(",") if w]
    match = [resolve(w, sweep.axis_keys, "axis") for w in params.get("match", "").split(",") if w]
    metric = context.metric()
    over = params.get("over") or ("seeds" if len(sweep.columns()) > MAX_ITEMS_RUNS else None)
    return Choice(a=a, b=b, by=tuple(by), match_on=tuple(match) or None, metric=metric, over=over)


def _suggestion(sweep: SweepData) -> tuple[str, str]:
    for key in headline_axis(sweep):
        values = sweep.axis(key).values
        return write_filter({key: values[0]}), write_filter({key: values[len(values) // 2]})
    return "", ""


def compare(context: Context) -> Response:
    message, status, answer = "", 200, None
    choice = Choice(
        a=context.params.get("a", ""),
        b=context.params.get("b", ""),
        by=(),
        match_on=None,
        metric="",
        over=None,
    )
    try:
        choice = choice_of(context)
        if choice.a and choice.b:
            answer = _answer(context, choice)
    except UserError as error:
        message, status = str(error), 400
    sweep = context.snapshot.sweep
    options = "".join(
        [
            f", by={list(choice.by)!r}" if choice.by else "",
            f", match_on={list(choice.match_on)!r}" if choice.match_on else "",
            f", metric={choice.metric!r}" if choice.metric else "",
            f", over={choice.over!r}" if choice.over else "",
        ]
    )
    return context.page(
        "compare.html",
        status=status,
        message=message,
        choice=choice,
        answer=answer,
        axes=sweep.cell_keys,
        all_axes=sweep.axis_keys,
        overs=OVER_WORDS,
        metrics=context.snapshot.metrics,
        code=context.python(
            f"compare(sweep, {choice.a!r}, {choice.b!r}{options}).table.frame",
            "from analysis.tables.compare import compare",
        ),
    )


def compare_svg(context: Context) -> Response:
    return svg(_answer(context, choice_of(context)).figure, "compare.svg")


def compare_csv(context: Context) -> Response:
    return csv(_answer(context, choice_of(context)).comparison.table, "compare.csv")


def _answer(context: Context, choice: Choice) -> Answer:
    return context.answer(("compare", choice), lambda sweep: answer_of(sweep, choice), lane="quick")


def answer_of(sweep: SweepData, choice: Choice) -> Answer:
    """Test, and draw the differences: by group where there are groups, else seed by seed.

    Raises:
        UserError, SpecError: for a filter that means nothing, or sides without matching runs.
    """
    comparison = test(
        sweep,
        choice.a,
        choice.b,
        by=choice.by,
        match_on=choice.match_on,
        metric=choice.metric,
        over=choice.over,
    )
    frame = comparison.table.frame
    over = " or ".join(dict.fromkeys(OVER_WORDS[word] for word in frame["over"]))
    info = sweep.info(choice.metric)
    scale = 100 if info.is_share else 1
    unit = f"{choice.metric}: B − A" + (f",{unit_of_change(info)}" if unit_of_change(info) else "")
    if choice.by:
        names = [" · ".join(label(v) for v in row) for row in frame[list(choice.by)].itertuples(index=False)]
        title = ", ".join(choice.by)
        caption = f"{choice.b} minus {choice.a}, by {title}; 95 % intervals over {over}."
    else:
        names = ["all seeds"]
        caption = f"{choice.b} minus {choice.a}: the mean with its 95 % interval over {over}, then each seed."
    drawn = pd.DataFrame(
        {"row": names, "difference": frame["difference"], "low": frame["low"], "high": frame["high"]}
    )
    if not choice.by and frame["paired"].all():
        each = comparison.by_seed.sort_values(SEED).head(MAX_SEEDS)
        singles = pd.DataFrame(
            {"row": [f"seed {label(s)}" for s in each[SEED]], "difference": each["difference"]}
        )
        drawn = pd.concat([drawn, singles.assign(low=singles["difference"], high=singles["difference"])])
    drawn = drawn.reset_index(drop=True)
    drawn[["difference", "low", "high"]] *= scale
    chart = figures.dots(drawn, y="row", x="difference", x_title=unit, zero=True)
    return Answer(comparison=comparison, figure=draw(Figure(chart=chart, caption=caption)))
