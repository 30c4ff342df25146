"""What to type next, told from how a sweep stands: a command that changes something, and what for. Pure.

``resume`` runs what waits, and nothing else: a run that failed stays as it is until ``rerun`` opens it again,
which is of use only once what is wrong has been mended. Runs that were cancelled are wanted by nobody.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweeps.spec.text import counted


def resumed_here(directory: Path | str, submitted: str | None) -> str:
    """The command that ends on this machine what is left of a sweep."""
    return f"emsweep resume {shlex.quote(str(directory))}{'' if submitted is None else ' --pool local'}"


class Step(NamedTuple):
    """One command and what it is for."""

    command: str
    why: str

    def __str__(self) -> str:
        return f"{self.command}    # {self.why}"


def is_held_back(status: Mapping[str, Any] | None, counts: Mapping[str, int]) -> bool:
    """Whether a driver came to its end with runs left that it did not try, since those it tried failed alike.

    Args:
        status: what the last driver said of itself at its end.
        counts: runs by outcome.
    """
    failed = counts.get("failed", 0) + counts.get("quarantined", 0)
    return bool(counts.get("pending") and failed and status and status.get("state") == "finished")


def next_steps(
    directory: Path | str,
    counts: Mapping[str, int],
    *,
    held_back: bool = False,
    example: str | None = None,
    submitted: str | None = None,
) -> list[Step]:
    """What helps on, first things first; empty where every run has a result or is not wanted.

    Args:
        counts: runs by outcome, those at work among the pending ones.
        held_back: whether the pending runs were not tried because all runs before them failed alike.
        example: id of a run that failed.
        submitted: the command that gave the sweep to a queue, which is what goes on with it; empty where it
            is not known, ``None`` for a sweep that was in none.
    """
    where = shlex.quote(str(directory))
    here = "" if submitted is None else " --pool local"
    pending = counts.get("pending", 0)
    failed = counts.get("failed", 0) + counts.get("quarantined", 0)
    steps = []
    if pending and not held_back:
        go_on = submitted or resumed_here(directory, submitted)
        steps.append(Step(go_on, f"{counted(pending, 'run')} not run yet"))
    if failed:
        one = f" --run {example[:8]}" if example else ""
        steps.append(Step(f"emsweep log {where}{one}", f"why {counted(failed, 'run')} failed"))
    if held_back and pending:
        rest = f"{counted(pending, 'run')} held back"
        steps.append(
            Step(f"emsweep rerun {where} --incomplete{here}", f"once it is mended; with them {rest}")
            if not counts.get("cancelled")
            else Step(f"emsweep rerun {where} --failed{here}", f"once it is mended; then resume, for {rest}")
        )
    elif failed:
        why = "once mended; resume leaves them as they are; where you edit their own code, launch it again"
        steps.append(Step(f"emsweep rerun {where} --failed{here}", why))
    return steps
