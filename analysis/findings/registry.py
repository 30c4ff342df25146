"""The analyses by name, in the order in which a report asks them."""

from __future__ import annotations

from collections.abc import Callable

from analysis.data.sweep import SweepData
from analysis.findings.base import Finding
from analysis.findings.baseline import baseline
from analysis.findings.decoupling import decoupling
from analysis.findings.entropy import entropy
from analysis.findings.examples import examples
from analysis.findings.form import form
from analysis.findings.logits import logits
from analysis.findings.order import order
from analysis.findings.picking import picking
from analysis.findings.rounds import rounds
from analysis.findings.seeds import seeds
from analysis.findings.sharpening import sharpening
from analysis.findings.temperature import temperature
from sweeps.grid.axes import resolve

FINDINGS: dict[str, Callable[..., Finding]] = {
    "decoupling": decoupling,
    "seeds": seeds,
    "temperature": temperature,
    "logits": logits,
    "sharpening": sharpening,
    "form": form,
    "entropy": entropy,
    "examples": examples,
    "picking": picking,
    "baseline": baseline,
    "order": order,
    "rounds": rounds,
}
"""Name to analysis."""


def find(sweep: SweepData, name: str) -> Finding:
    """Run one analysis.

    Raises:
        UserError: for an unknown name; says the nearest.
    """
    return FINDINGS[resolve(name, FINDINGS, "analysis")](sweep)


ABOUT_ANY_METRIC = ("seeds",)
"""Analyses that are about whatever metric a sweep is about."""


def find_all(sweep: SweepData, metric: str | None = None) -> list[Finding]:
    """Run every analysis, those that are about any metric for ``metric``."""
    return [
        analyse(sweep, metric) if metric and name in ABOUT_ANY_METRIC else analyse(sweep)
        for name, analyse in FINDINGS.items()
    ]
