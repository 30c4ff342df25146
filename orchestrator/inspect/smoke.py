"""An installation proves itself: two real runs of a tiny model in a temporary folder, verified, as a table.

Each step is the command that a user would give, in a process of its own, so that the console script, package
data, torch, DeepSpeed and the local pool are all in it. Ray is looked at by the checks before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.inspect.doctor import Check

SWEEP = ("sweep=quickstart", "model=tiny-64", "example=carry-1", "optim.lr=1e-4", "seed=0,1")
"""The two runs: the first cell of the quickstart sweep with two of its seeds."""

LONGEST_S = 300.0
"""Patience for one command; the launch takes 15 s on two idle cores, most of it imports."""

SHOWN_CHARS = 300
"""Of what a failed command says, the end."""


def smoke_checks() -> list[Check]:
    """Launch, verify and tabulate; what follows a step that failed is not tried."""
    with tempfile.TemporaryDirectory(prefix="emsweep-smoke-") as folder:
        return list(_steps(Path(folder)))


def _steps(folder: Path) -> Iterator[Check]:
    steps: tuple[tuple[str, list[str], Callable[[dict[str, Any]], str]], ...] = (
        ("launch", [*SWEEP, "--dir", "smoke", "--pool", "local", "--yes"], _launched),
        ("verify", ["smoke", "--deep"], _verified),
        ("table", ["smoke"], _tabulated),
    )
    for verb, words, wrong_with in steps:
        check = _step(folder, verb, words, wrong_with)
        yield check
        if not check.ok:
            return


def _step(folder: Path, verb: str, words: list[str], wrong_with: Callable[[dict[str, Any]], str]) -> Check:
    name, began_s = f"smoke {verb}", time.monotonic()
    command = [sys.executable, "-P", "-m", "emsweep", verb, *words, "--json"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
            env=_settings(),
        )
    except subprocess.TimeoutExpired:
        detail = f"has not ended within {LONGEST_S:g} s"
        return Check(name=name, ok=False, detail=detail, fix="see whether the machine is overloaded")
    try:
        wrong = wrong_with(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError):
        wrong = done.stderr.strip()[-SHOWN_CHARS:] or f"exit status {done.returncode}"
    if wrong or done.returncode:
        shown = wrong or f"exit status {done.returncode}"
        fix = f"see it whole with: emsweep {verb} {' '.join(words)}"
        return Check(name=name, ok=False, detail=shown, fix=fix)
    return Check(name=name, ok=True, detail=f"{time.monotonic() - began_s:.0f} s")


def _settings() -> dict[str, str]:
    """The environment without what would lead a command elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("EMSWEEP_", "HYDRA_"))}


def _launched(answer: dict[str, Any]) -> str:
    counts = answer["expected"], answer["committed"], answer["failed"]
    return "" if counts == (2, 2, 0) else f"of 2 runs {answer['committed']} have a result"


def _verified(answer: dict[str, Any]) -> str:
    return "" if answer["ok"] else "; ".join(answer["findings"]) or "not every run has its one result"


def _tabulated(answer: dict[str, Any]) -> str:
    return "" if len(answer["rows"]) == 1 else f"{len(answer['rows'])} rows where one cell was run"
