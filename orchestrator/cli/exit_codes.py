"""What a verb that ran a sweep prints in the end, and the status it leaves with."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from orchestrator.cli.output import echo, print_json, say
from orchestrator.driver.run_summary import Summary
from orchestrator.store.advice import is_held_back, next_steps
from orchestrator.store.job_note import submitted_by
from orchestrator.store.layout import Layout
from orchestrator.store.race_words import race_text
from orchestrator.store.status import read_status
from orchestrator.worker.process_env import peak_resident_mib
from sweeps.spec.errors import EXIT_INTERRUPTED, EXIT_NOT_OK


def conclude(directory: Path, summary: Summary, started_s: float, as_json: bool) -> None:
    """Print it and leave.

    ``peak_mib`` is the most memory that any one process of the sweep has held, the driver or a worker, in
    every pool; ``driver_mib`` the driver's, in which the inline pool computes its runs.
    """
    over = summary.committed + summary.failed + summary.cancelled + summary.skipped + summary.stopped
    left = summary.expected - over
    counts = {"pending": left, "failed": summary.failed, "cancelled": summary.cancelled}
    layout = Layout(directory)
    held_back = is_held_back(read_status(layout), counts)
    steps = next_steps(directory, counts, held_back=held_back, submitted=submitted_by(layout))
    if as_json:
        print_json(
            {
                "dir": str(directory),
                "expected": summary.expected,
                "committed": summary.committed,
                "failed": summary.failed,
                "wall_s": round(time.monotonic() - started_s, 3),
                "runs_per_s": round(summary.runs_per_s, 3),
                "diverged": summary.diverged,
                "cancelled": summary.cancelled,
                **_of_race(summary),
                "stopped": summary.stopped,
                **({} if summary.search is None else {"search": dict(summary.search)}),
                "new": summary.new,
                "busy_s": round(summary.busy_s, 3),
                "peak_mib": round(max(summary.worker_peak_mib, peak_resident_mib()), 1),
                "driver_mib": round(peak_resident_mib(), 1),
                "interrupted": summary.interrupted,
                "reason": summary.reason,
                "next": [step.command for step in steps],
            }
        )
    else:
        from analysis.tables.cell_table import closing_table

        echo(closing_table(directory))
        if summary.undecided is not None:
            say(race_text(summary.decided, summary.undecided, summary.skipped))
        if summary.reason:
            say(f"stopped early: {summary.reason}")
        elif held_back:
            say(f"stopped early: the first runs all failed alike, and {left:,} were held back")
        if steps and not summary.failed:
            say(f"finish it with: {steps[0].command}")
    if summary.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.failed or left:
        raise typer.Exit(EXIT_NOT_OK)


def _of_race(summary: Summary) -> dict[str, int]:
    """What a race came to; nothing for a sweep without one."""
    if summary.undecided is None:
        return {}
    return {"decided": summary.decided, "undecided": summary.undecided, "runs_saved": summary.skipped}
