"""Parts of the first page, each with an address of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from analysis.dashboard.context import Context, csv, templates
from analysis.dashboard.coverage import Coverage, at_work, coverage
from analysis.dashboard.failures import failures
from analysis.dashboard.step_curves import draw_metric
from analysis.dashboard.vega_figure import Drawing
from analysis.data.axes import SEED
from analysis.data.race import is_race, race_seen
from analysis.data.search import is_search
from analysis.data.sweep import SweepData
from analysis.output.table import ReportTable
from analysis.tables.best_cells import best_cells
from analysis.tables.cell_table import cell_table, headline, headline_axis
from analysis.tables.importance import importance
from analysis.tables.race_table import open_cells, race_sentence
from analysis.tables.search_table import best_trials, search_table
from sweeps.spec import nearest
from sweeps.spec.errors import UserError

MAX_TRIALS = 12
"""Trials of a search that the first page lists."""

MAX_OPEN_CELLS = 12
"""Undecided cells of a race that the first page lists."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What is computed, and how it is shown."""

    name: str
    """Last part of its address."""
    title: str
    template: str
    """Template of its inside, given ``answer``."""
    compute: Callable[[SweepData], Any]
    """What is shown; raises :class:`UserError` where the sweep cannot say it."""
    lane: str = "slow"
    """How long it takes, see :meth:`~analysis.dashboard.snapshot.Snapshot.answer`."""
    table: Callable[[Any], ReportTable] | None = None
    python: tuple[str, str] | None = None
    """The import and the line that make it in a notebook."""
    now: Callable[[Context, Any], Any] | None = None
    """What changes between snapshots, from the answer; the template is given it as ``now``."""
    is_about: Callable[[SweepData], bool] = lambda _: True
    """Whether a sweep has anything of the kind; another one's page leaves the panel out."""
    width: str = "wide"
    """How much of the page it takes: ``wide`` all, ``broad`` more than half, ``narrow`` less."""

    def is_known(self, context: Context) -> bool:
        """Whether it can be shown at once."""
        return context.snapshot.knows(("panel", self.name))

    def answer(self, context: Context) -> Any:
        """What it shows.

        Raises:
            UserError: where the sweep cannot say it.
        """

        def compute(sweep: SweepData) -> Any:
            try:
                return self.compute(sweep)
            except UserError as error:
                return error

        panel_data = context.answer(("panel", self.name), compute, lane=self.lane)
        if isinstance(panel_data, UserError):
            raise panel_data
        return panel_data


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The sweep's answer in short."""

    lines: list[str]
    """Sentences, the first of which says what the others are."""
    table: ReportTable
    figure: Drawing | None
    """The metric by step; absent where it was judged at the end only."""


def _headline(sweep: SweepData) -> Headline:
    metric, by = sweep.metric(None), headline_axis(sweep)
    return Headline(
        lines=[line.strip() for line in headline(sweep)],
        table=cell_table(sweep, by=by, robust=False),
        figure=draw_metric(sweep, by[0] if by else SEED, metric),
    )


def _at_work(context: Context, shown: Coverage) -> frozenset[str]:
    status = context.store.status() or {}
    with context.snapshot.reading() as sweep:
        return at_work(sweep, shown, status.get("running_runs", ()))


@dataclass(frozen=True, kw_only=True)
class Race:
    """What a race has come to."""

    sentence: str
    table: ReportTable
    """Cells that are undecided."""


def _race(sweep: SweepData) -> Race:
    race = race_seen(sweep.sources)
    if race is None:
        raise UserError("this sweep is no race")
    return Race(sentence=race_sentence(sweep, race), table=open_cells(sweep, race, MAX_OPEN_CELLS))


def _search(sweep: SweepData) -> ReportTable:
    return best_trials(search_table(sweep), MAX_TRIALS)


PANELS = {
    panel.name: panel
    for panel in (
        Panel(
            name="answer",
            title="What came out",
            template="panel_answer.html",
            compute=_headline,
            table=lambda answer: answer.table,
            python=("", "sweep.cells(by={by!r})"),
        ),
        Panel(
            name="race",
            title="What is decided, and what is open",
            template="panel_race.html",
            compute=_race,
            table=lambda answer: answer.table,
            python=("", "sweep.cells()"),
            is_about=lambda sweep: is_race(sweep.sources),
        ),
        Panel(
            name="search",
            title="What was tried, the best first",
            template="panel_search.html",
            compute=_search,
            table=lambda answer: answer,
            python=("from analysis.tables.search_table import search_table", "search_table(sweep)"),
            is_about=lambda sweep: is_search(sweep.sources),
        ),
        Panel(
            name="importance",
            title="What matters",
            template="panel_importance.html",
            compute=importance,
            table=lambda answer: answer,
            python=("from analysis.tables.importance import importance", "importance(sweep).frame"),
            width="narrow",
        ),
        Panel(
            name="best",
            title="Best cells, checked on seeds that did not choose them",
            template="panel_best.html",
            compute=best_cells,
            table=lambda answer: answer.table,
            is_about=lambda sweep: not is_race(sweep.sources) and not is_search(sweep.sources),
            python=("from analysis.tables.best_cells import best_cells", "best_cells(sweep).table.frame"),
            width="broad",
        ),
        Panel(
            name="failures",
            title="Failures",
            template="panel_failures.html",
            compute=failures,
            width="narrow",
        ),
        Panel(
            name="coverage",
            title="Coverage of the grid",
            template="panel_coverage.html",
            compute=coverage,
            lane="quick",
            now=_at_work,
            width="broad",
        ),
    )
}
"""The parts in their order on the first page."""


def show(context: Context, panel: Panel) -> Markup:
    try:
        answer = panel.answer(context)
    except UserError as error:
        return Markup(templates().get_template("missing.html").render(message=str(error)))
    by = headline_axis(context.snapshot.sweep)
    code = context.python(panel.python[1].format(by=by), panel.python[0]) if panel.python else ""
    inside = templates().get_template(panel.template)
    now = panel.now(context, answer) if panel.now else None
    return Markup(inside.render(c=context, link=context.link, panel=panel, answer=answer, now=now, code=code))


def panel(context: Context) -> Response:
    """One panel, alone on its page or as the part that a page asked for."""
    asked = _named(context)
    return context.page("panel.html", panel=asked, inside=show(context, asked))


def panel_csv(context: Context) -> Response:
    asked = _named(context)
    if asked.table is None:
        raise UserError(f"panel {asked.name!r} has no table to save")
    return csv(asked.table(asked.answer(context)), f"{asked.name}.csv")


def _named(context: Context) -> Panel:
    name = context.request.path_params["name"]
    if name not in PANELS:
        raise UserError(f"unknown panel {name[:80]!r}{nearest(name, PANELS)}: there are {', '.join(PANELS)}")
    return PANELS[name]
