"""What a verb that ran a sweep prints in the end, and the status it leaves with."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import typer

from orchestrator.cli.output import echo, print_json, say
from orchestrator.driver.run_summary import Summary
from sweeps.spec.errors import EXIT_INTERRUPTED, EXIT_NOT_OK


def conclude(directory: Path, summary: Summary, started_s: float, as_json: bool) -> None:
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
                "new": summary.new,
                "busy_s": round(summary.busy_s, 3),
                "peak_mib": _peak_mib(),
                "interrupted": summary.interrupted,
                "reason": summary.reason,
            }
        )
    else:
        from analysis.tables.cell_table import closing_table

        echo(closing_table(directory))
        if summary.reason:
            say(f"stopped early: {summary.reason}")
        if summary.committed + summary.failed + summary.cancelled < summary.expected:
            say(f"finish it with: emsweep resume {directory}")
    if summary.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.failed or summary.committed + summary.cancelled < summary.expected:
        raise typer.Exit(EXIT_NOT_OK)


def _peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB; its children's apart."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
