"""What ``launch`` does when the cluster has a queue of its own: submit, or print what would be submitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import echo, print_json, say

if TYPE_CHECKING:
    from sweeps.manifest.manifest import Manifest

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what cluster=slurm or cluster=kuberay would submit.")
]


def goes_to_queue(manifest: Manifest, dry_run: bool) -> bool:
    """Whether this launch is for a queue rather than for this process."""
    return dry_run or bool((manifest.options.get("cluster") or {}).get("submit"))


def hand_over(
    manifest: Manifest,
    overrides: Sequence[str],
    directory: Path,
    *,
    flags: Sequence[str],
    dry_run: bool,
    as_json: bool,
) -> None:
    from orchestrator.submit import render, request_of, submit

    request = request_of(manifest, overrides, directory=str(directory), flags=flags)
    if not dry_run:
        answer = submit(request)
        say(f"{len(manifest):,} runs → {request.system}: {answer}; see emsweep status {directory}")
        answered = {"submitted": answer}
    else:
        text = render(request)
        answered = {"would_submit": text}
        if not as_json:
            echo(text, nl=False)
    if as_json:
        print_json({"dir": str(directory), "expected": len(manifest), "system": request.system, **answered})
