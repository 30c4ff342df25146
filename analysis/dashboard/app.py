"""The web application: which address shows what, and what happens when a page cannot answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from analysis.dashboard.context import Context, error_page, is_part, templates
from analysis.dashboard.links import MAX_QUERY, Link
from analysis.dashboard.pages import cells, compare, findings, landing, panels, run, runs
from analysis.dashboard.security import Guard, pause_after_wrong_token
from analysis.dashboard.snapshot import Store, Unwanted
from sweeps.spec.errors import DamagedError, UserError

Page = Callable[[Context], Response]
"""What shows something."""

PAGES: dict[str, Page] = {
    "/": landing.overview,
    "/live": landing.live,
    "/panel/{name}.csv": panels.panel_csv,
    "/panel/{name}": panels.panel,
    "/runs": runs.runs,
    "/runs.csv": runs.runs_csv,
    "/run/{run_id}": run.run,
    "/run/{run_id}/curves": run.curves,
    "/run/{run_id}/curves.svg": run.curves_svg,
    "/run/{run_id}/steps.csv": run.steps_csv,
    "/cells": cells.cells,
    "/cells.svg": cells.cells_svg,
    "/cells.csv": cells.cells_csv,
    "/curves": cells.curves,
    "/curves.svg": cells.curves_svg,
    "/curves.csv": cells.curves_csv,
    "/compare": compare.compare,
    "/compare.svg": compare.compare_svg,
    "/compare.csv": compare.compare_csv,
    "/findings": findings.overview,
    "/findings/{key}.svg": findings.finding_svg,
    "/findings/{key}.csv": findings.finding_csv,
    "/findings/{key}": findings.finding,
}
"""Every address that shows the sweep."""


def build_app(store: Store, *, token: str | None = None) -> ASGIApp:
    """The application for one sweep directory.

    Args:
        token: asked of everyone, unless ``None``.
    """
    routes: list[BaseRoute] = [Route(path, _page(store, page)) for path, page in PAGES.items()]
    routes.append(Mount("/static", _Static(directory=Path(__file__).parent / "static")))
    inner = Starlette(routes=routes, exception_handlers={404: _not_found, Exception: _broken})
    guard = Guard(GZipMiddleware(inner, minimum_size=2_000, compresslevel=3), token=token)

    async def login(request: Request) -> Response:
        if request.method == "POST":
            if await guard.login(request):
                return guard.welcome()
            await pause_after_wrong_token()
            return _login_page("That is not the token printed at start.", 403)
        return _login_page("", 200)

    inner.router.routes.insert(0, Route("/login", login, methods=["GET", "POST"]))
    return guard


def _page(store: Store, page: Page) -> Callable[[Request], Response]:
    """A route's function: finds the state of the sweep, and says what is wrong where there is something."""

    def respond(request: Request) -> Response:
        if len(request.url.query) > MAX_QUERY:
            return error_page(request, f"the address is longer than {MAX_QUERY:,} characters", 414, store)
        if not store.directory.is_dir():
            gone = (
                f"directory {str(store.directory)!r}: does not exist any more; put it back, or open another"
            )
            return error_page(request, gone, 503, store)
        query = request.query_params
        params = {name: ",".join(filter(None, query.getlist(name))) for name in query}
        link = Link(path=request.url.path, params=params)
        for afresh in (False, True):
            try:
                follows = is_part(request) and not afresh
                snapshot = store.follow() if follows else store.current(afresh=afresh)
            except UserError as error:
                return error_page(request, str(error), 503, store)
            context = Context(request=request, store=store, snapshot=snapshot, link=link)
            try:
                return page(context)
            except Unwanted:
                return Response(status_code=204)  # to nobody
            except DamagedError as error:
                return error_page(request, str(error), 503, store)
            except UserError as error:
                return context.page("wrong.html", status=400, message=str(error))
            except (duckdb.Error, OSError) as error:
                # The files changed under us, as when a driver merges its parts: look again, once.
                reason = str(error).splitlines()[0]
        return error_page(request, f"the sweep's files cannot be read: {reason}", 503, store)

    return respond


class _Static(StaticFiles):
    """Files that the browser keeps, and asks about before it uses them again."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def _not_found(request: Request, _: Exception) -> Response:
    return error_page(request, f"nothing is at {request.url.path[:200]}", 404)


def _broken(request: Request, error: Exception) -> Response:
    """Our own mistake: the server goes on, and its terminal has the traceback."""
    return error_page(request, f"this page failed ({type(error).__name__}); see the terminal", 500)


def _login_page(message: str, status: int) -> Response:
    text = templates().get_template("login.html").render(message=message)
    return Response(text, status_code=status, media_type="text/html")
