"""The questions that a sweep of entropy minimization should answer, as the analysis answers them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.responses import Response

from analysis.dashboard.context import Context, csv, svg
from analysis.dashboard.vega_figure import Drawing, draw
from analysis.data.sweep import SweepData
from analysis.findings import FINDINGS, Finding, find
from analysis.output.table import ReportTable
from sweeps.spec import nearest
from sweeps.spec.errors import UserError

TITLES = {
    "decoupling": "Loss and accuracy part",
    "seeds": "How much is luck",
    "temperature": "Temperature ablation",
    "logits": "Logit shift",
    "sharpening": "pass@k crossover",
    "form": "Format against reasoning",
    "entropy": "Entropy",
    "examples": "Examples",
    "baseline": "A fair baseline",
    "order": "Order and merging",
}
"""Short headings of the analyses; one that is not listed goes by its name."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An analysis' answer with its figure drawn."""

    finding: Finding
    """Question, sentences, what is missing; its figure is left behind."""
    figure: Drawing | None

    @property
    def table(self) -> ReportTable | None:
        return self.finding.table


def overview(context: Context) -> Response:
    parts = []
    for key in FINDINGS:
        known = context.snapshot.knows(("finding", key))
        parts.append((key, TITLES.get(key, key), answer(context, key) if known else None))
    return context.page("findings.html", parts=parts)


def finding(context: Context) -> Response:
    key = _key(context)
    return context.page("finding.html", title=TITLES.get(key, key), found=answer(context, key))


def finding_svg(context: Context) -> Response:
    shown = answer(context, _key(context))
    if shown.figure is None:
        raise UserError(f"{shown.finding.key}: there is no figure; the sweep lacks {shown.finding.missing}")
    return svg(shown.figure, f"{shown.finding.key}.svg")


def finding_csv(context: Context) -> Response:
    shown = answer(context, _key(context))
    if shown.table is None:
        raise UserError(f"{shown.finding.key}: there is no table; the sweep lacks {shown.finding.missing}")
    return csv(shown.table, f"{shown.finding.key}.csv")


def answer(context: Context, key: str) -> Answer:
    def compute(sweep: SweepData) -> Answer:
        answered = find(sweep, key)
        figure = draw(answered.figure) if answered.figure else None
        return Answer(finding=replace(answered, figure=None), figure=figure)

    return context.answer(("finding", key), compute)


def _key(context: Context) -> str:
    key = context.request.path_params["key"]
    if key not in FINDINGS:
        raise UserError(
            f"unknown finding {key[:80]!r}{nearest(key, FINDINGS)}: choose one of {', '.join(FINDINGS)}"
        )
    return key
