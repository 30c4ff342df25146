"""The first page: where the sweep stands at once, and what it says as soon as that is computed."""

from __future__ import annotations

from starlette.responses import Response

from analysis.dashboard.context import Context
from analysis.dashboard.pages.panels import PANELS, show
from analysis.dashboard.sweep_progress import progress_of, spending


def overview(context: Context) -> Response:
    """Counts, rate and cost, then panels, each in place when it is known and loaded afterwards when not."""
    panels = [panel for panel in PANELS.values() if panel.is_about(context.snapshot.sweep)]
    parts = [(panel, show(context, panel) if panel.is_known(context) else None) for panel in panels]
    source = context.snapshot.sweep.sources[0]
    about = source.asked.get("about") or source.header.get("about") or ""
    return context.page("landing.html", about=str(about), parts=parts, **_strip(context))


def live(context: Context) -> Response:
    """The part of the first page that changes all the time; tells the page when there are new results."""
    answer = context.page("live.html", **_strip(context))
    if context.params.get("seen", "") != context.snapshot.id:
        answer.headers["hx-trigger"] = "newer"
    return answer


def _strip(context: Context) -> dict:
    counts = context.answer("counts", lambda sweep: sweep.counts(), lane="quick")
    spent = context.answer("spending", spending, lane="quick")
    return {"progress": progress_of(counts, context.store.status(), context.store.job.told()), "spent": spent}
