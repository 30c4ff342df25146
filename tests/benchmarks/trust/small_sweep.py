"""A small finished sweep with results, cancelled runs and two drivers' lives, and what is asked of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis import open_sweep
from analysis.data.sweep import SweepData
from analysis.tables.cell_table import cell_table
from orchestrator.driver.session import Session
from orchestrator.inspect.status import sweep_status
from orchestrator.inspect.verify import verify
from orchestrator.store import digests
from orchestrator.store.layout import Layout
from orchestrator.store.opening import open_to_look
from sweeps.spec.errors import UserError
from tests.orchestrator.sweeping import noop_manifest, run

RUNS = 8

MANIFEST = noop_manifest(RUNS, "model=tiny-32,tiny-64", steps=2)

Answer = tuple[str, Any]
"""``said`` with the answer, ``refused`` with one line, or ``traceback`` with what was raised."""


def make(folder: Path) -> Path:
    """Launch it in a new folder: some runs are cancelled first, then the others run."""
    with Session(Layout(folder)) as session:
        session.freeze(MANIFEST, pool="inline")
        session.settle(MANIFEST, session.read(MANIFEST), [1, RUNS], "cancelled")
    run(folder, MANIFEST)
    return folder


def status(folder: Path) -> Any:
    """Counts and findings."""
    found = sweep_status(folder)
    return {key: found[key] for key in ("total", "counts", "state", "failures", "findings")}


def proof(folder: Path) -> Any:
    """What ``verify`` says."""
    opened = open_to_look(folder, prove_ids=True)
    return verify(opened.layout, opened.manifest, frozen=opened.damage).to_json()


def table(sweep: SweepData) -> Any:
    """The table of cells, with its notes."""
    found = cell_table(sweep, metric="draw")
    return [json.loads(found.frame.to_json(orient="split")), [*found.notes, *sweep.warnings]]


def runs(sweep: SweepData) -> Any:
    """``runs()``."""
    return [sweep.runs().to_csv(), list(sweep.warnings)]


def steps(sweep: SweepData) -> Any:
    """``steps()``."""
    return [sweep.steps().to_csv(), list(sweep.warnings)]


def ask(folder: Path) -> dict[str, Answer]:
    """Every answer, each read anew from the disk."""
    opened = _answer(lambda: open_sweep(folder))
    answers = {"status": _answer(lambda: status(folder)), "verify": _answer(lambda: proof(folder))}
    for name, question in {"table": table, "runs": runs, "steps": steps}.items():
        answers[name] = opened if opened[0] != "said" else _answer(lambda q=question: q(opened[1]))
    return answers


def _answer(question: Callable[[], Any]) -> Answer:
    digests.forget_what_was_seen()
    try:
        return "said", question()
    except UserError as error:
        return "refused", str(error)
    except Exception as error:  # what a user would see as a traceback
        return "traceback", repr(error)


def names_damage(name: str, answer: Answer) -> bool:
    """Whether an answer says that something is damaged."""
    kind, said = answer
    if kind != "said":
        return kind == "refused" and "\n" not in said
    if name == "status":
        return bool(said["findings"])
    if name == "verify":
        return not said["ok"] or bool(said["findings"])
    return bool(said[-1]) and any("damaged" in text.lower() for text in said[-1])
