"""What a page is given: the request's choices, the state of the sweep, and how to answer."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import anyio.from_thread
import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from analysis.dashboard.links import SNAPSHOT, Link, join
from analysis.dashboard.snapshot import Snapshot, Store
from analysis.dashboard.vega_figure import Drawing
from analysis.data.chosen import told_chosen
from analysis.data.sweep import SweepData
from analysis.output.csv_text import csv_text
from analysis.output.table import ReportTable, percent
from sweeps.grid.axes import resolve, short_names
from sweeps.grid.filters import write_filter
from sweeps.spec.errors import UserError
from sweeps.spec.text import duration, label

T = TypeVar("T")

PAGES = (
    ("/", "Overview"),
    ("/runs", "Runs"),
    ("/cells", "Cells"),
    ("/compare", "Compare"),
    ("/findings", "Findings"),
)
"""Navigation: path and name."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """One request on one state of the sweep."""

    request: Request
    store: Store
    snapshot: Snapshot
    link: Link

    @property
    def params(self) -> Mapping[str, str]:
        return self.link.params

    def without(self, name: str) -> Context:
        """The same with a choice taken away that is the default anyway, so that it stays out of addresses."""
        params = {key: value for key, value in self.params.items() if key != name}
        return replace(self, link=replace(self.link, params=params))

    def metric(self) -> str:
        """The metric asked for, or the sweep's main one.

        Raises:
            UserError: for an unknown one, or where no run has a result yet.
        """
        if not self.snapshot.metrics:
            raise UserError("no run of this sweep has a result yet: there is nothing to average")
        return resolve(self.params.get("metric") or self.snapshot.metric, self.snapshot.metrics, "metric")

    @property
    def outdated(self) -> str:
        """Snapshot that the link was made at, when the sweep has changed since; else empty."""
        cited = self.params.get(SNAPSHOT, "")
        return cited if cited and cited != self.snapshot.id else ""

    @property
    def name(self) -> str:
        source = self.snapshot.sweep.sources[0]
        return str(source.header.get("sweep") or self.store.directory.resolve().name)

    def page(self, template: str, /, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Answer with a page; the address that htmx shows names the snapshot."""
        boosted, fragment = "hx-boosted" in self.request.headers, is_part(self.request)
        headers = {"hx-push-url": self.link.cited(self.snapshot.id)} if boosted else {}
        text = templates().get_template(template).render(c=self, link=self.link, fragment=fragment, **values)
        return HTMLResponse(text, status_code=status, headers=headers)

    @property
    def race_words(self) -> list[str]:
        """What readers of any page must know of sweeps whose runs were chosen by results."""
        return told_chosen(self.snapshot.sweep.sources)

    def answer(
        self, key: Any, compute: Callable[[SweepData], T], *, filters: str = "", lane: str = "slow"
    ) -> T:
        """:meth:`Snapshot.answer <analysis.dashboard.snapshot.Snapshot.answer>`, as long as the browser waits
        for it.
        """
        return self.snapshot.answer(key, compute, filters=filters, lane=lane, wanted=self._is_waited_for)

    def _is_waited_for(self) -> bool:
        return not anyio.from_thread.run(self.request.is_disconnected)

    def cell_links(self, table: ReportTable) -> Callable[[int], str]:
        """From a row of a table with all cell axes to the runs of that cell."""
        return self.group_links(table, self.snapshot.sweep.cell_keys)

    def group_links(self, table: ReportTable, by: Sequence[str], filters: str = "") -> Callable[[int], str]:
        """From a row of a table with the axes ``by`` to its runs."""

        def address(row: int) -> str:
            values = {key: table.frame[key].iloc[row] for key in by}
            return join("/runs", {"filter": f"{filters} {write_filter(values)}".strip()})

        return address

    def python(self, line: str, *imports: str, filters: str = "") -> str:
        """The lines that make a table or figure in a notebook."""
        narrowed = f".where({filters!r})" if filters else ""
        opened = f"sweep = open_sweep({str(self.store.directory)!r}){narrowed}"
        return "\n".join(["from analysis import open_sweep", *imports, "", opened, line])

    def command(self, *words: str) -> str:
        verb, *rest = words
        return " ".join(["emsweep", verb, shlex.quote(str(self.store.directory)), *rest])


def is_part(request: Request) -> bool:
    """Whether a page that is shown asks for a part of itself, rather than somebody for a page."""
    asked = request.headers
    return "hx-request" in asked and "hx-boosted" not in asked and "hx-history-restore-request" not in asked


def error_page(request: Request, message: str, status: int, store: Store | None = None) -> HTMLResponse:
    """A page that says what is wrong, where there is no state of the sweep to show."""
    directory = str(store.directory) if store is not None else ""
    text = (
        templates()
        .get_template("error.html")
        .render(message=message, status=status, directory=directory, path=request.url.path)
    )
    return HTMLResponse(text, status_code=status)


def csv(table: ReportTable, name: str) -> Response:
    return download(csv_text(table.frame), name, "text/csv; charset=utf-8")


def svg(figure: Drawing, name: str) -> Response:
    return download(figure.file(), name, "image/svg+xml")


def download(content: str, name: str, kind: str) -> Response:
    return Response(
        content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'}
    )


@cache
def templates() -> jinja2.Environment:
    """The templates; everything put into them is escaped unless it is Markup."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "label": label,
        "percent": percent,
        "duration": duration,
        "thousands": lambda value: f"{value:,}",
        "inline": lambda figure: Markup(figure.inline),
        "breakable": lambda name: Markup("_<wbr>").join(name.split("_")),
    }
    environment.filters.update(filters)
    environment.globals.update(pages=PAGES, short_names=short_names, join=join)
    return environment
