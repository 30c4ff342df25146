"""What ``launch`` does when the cluster has a queue of its own: submit, or print what would be submitted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.exit_codes import conclude
from orchestrator.cli.output import echo, print_json, say
from orchestrator.driver.run_summary import Summary
from sweeps.spec.errors import EXIT_INTERRUPTED, UserError

if TYPE_CHECKING:
    from orchestrator.store.job_note import JobNote
    from orchestrator.store.layout import Layout
    from orchestrator.submit.request import Request
    from orchestrator.trust.gate import Permission
    from sweeps.manifest.manifest import Manifest

FOLLOW_S = 2.0
"""Seconds between two looks at a job that is followed."""

MAX_SILENT = 15
"""Looks without an answer after which following ends: a queue is restarted now and then."""

Follow = Annotated[
    bool,
    typer.Option("--follow", help="With cluster=slurm or kuberay: stay and show progress."),
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what cluster=slurm, kuberay or skypilot would submit.")
]


def goes_to_queue(manifest: Manifest, dry_run: bool) -> bool:
    """Whether this launch is for a queue rather than for this process."""
    return dry_run or bool((manifest.options.get("cluster") or {}).get("submit"))


def require_for_queue(given: Mapping[str, Any]) -> None:
    """Refuse options of a launch on this machine that a job would not hear of.

    Args:
        given: the options by name; ``None`` where one was not given.

    Raises:
        UserError: naming them.
    """
    if names := [name for name, value in given.items() if value is not None]:
        raise UserError(
            f"{', '.join(names)}: is for a launch here, and this one goes into a queue; leave it out "
            "(a job's length is cluster.job.time), or take cluster=laptop"
        )


def print_job(manifest: Manifest, request: Request, *, as_json: bool) -> None:
    """Print what would be submitted."""
    from orchestrator.submit import render, render_nodes

    text, nodes = render(request), render_nodes(request)
    warnings = warned(manifest, as_json=as_json)
    if as_json:
        told = {"dir": request.directory, "expected": len(manifest), "system": request.system}
        more = {"would_submit_nodes": nodes} if nodes else {}
        print_json({**told, "would_submit": text, **more, "warnings": warnings})
    else:
        echo("\n".join(filter(None, (text, nodes))), nl=False)


def warned(manifest: Manifest, *, as_json: bool) -> list[str]:
    """What is likely to go wrong with the job of a queue, said unless it goes into JSON."""
    from orchestrator.submit import warnings_of

    warnings = warnings_of(manifest.options.get("cluster") or {})
    for text in () if as_json else warnings:
        say(f"warning: {text}")
    return warnings


def hand_over(
    manifest: Manifest,
    request: Request,
    layout: Layout,
    permission: Permission,
    *,
    about: str,
    metrics: Mapping[str, Any],
    to_come: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Write down what is asked, so that the directory is there from now on, and give it to the queue.

    Args:
        to_come: runs that are not there yet, at most: those that a search will propose.
    """
    from orchestrator.driver.session import Session
    from orchestrator.store.index_reader import read_index
    from orchestrator.store.job_note import write_job
    from orchestrator.store.meeting import announce_meeting
    from orchestrator.submit import submit

    if follow and request.system == "skypilot":
        raise UserError(
            "--follow: a sweep in a cloud is not in this directory until its bucket is copied here; launch "
            "without it, and follow with: sky jobs logs N"
        )
    _require_in_no_queue(layout)
    warnings = warned(manifest, as_json=as_json and not follow)
    with Session(layout, permission) as session:
        _require_in_no_queue(layout)  # of somebody who held the directory just before
        session.freeze(manifest, pool="ray", about=about, metrics=metrics)
        num_open = max(read_index(layout, manifest.run_ids).book.counts()["pending"], to_come)
        announce_meeting(layout)
        answer, note = submit(request.for_runs(manifest, num_open))
        write_job(layout, note)
    if not as_json or follow:
        say(f"{len(manifest):,} runs → {request.system}: {answer}; see emsweep status {layout.root}")
    if follow:
        follow_job(layout, note, as_json=as_json)
    elif as_json:
        told = {"dir": request.directory, "expected": len(manifest), "system": request.system}
        print_json({**told, "submitted": answer, "job": note.job, "warnings": warnings})


def _require_in_no_queue(layout: Layout) -> None:
    """Refuse a directory whose job is still there: a second one would take its nodes."""
    from orchestrator.store.job_note import read_job
    from orchestrator.submit.queued import queued_job

    earlier = read_job(layout)
    if earlier is not None and (job := queued_job(earlier)).is_there:
        raise UserError(
            f"directory {str(layout.root)!r}: is with {job.words} already; see emsweep status, or take it "
            f"out first with: emsweep stop {layout.root}"
        )


def follow_job(layout: Layout, note: JobNote, *, as_json: bool) -> None:
    """Say how a sweep gets on until its job has ended; then print what a launch here would, and leave so.

    An interrupt ends the following alone: the job stays in its queue.
    """
    from orchestrator.inspect.status import status_text, sweep_status
    from orchestrator.store.index_reader import read_index
    from orchestrator.store.liveness import live_driver
    from orchestrator.store.opening import open_manifest
    from orchestrator.submit.queued import how_it_ended, queued_job

    started_s, last, silent = time.monotonic(), "", 0
    try:
        while True:
            job = queued_job(note)
            silent = silent + 1 if job.phase == "unknown" else 0
            if (job.phase == "ended" or silent >= MAX_SILENT) and live_driver(layout) is None:
                break
            line = status_text(sweep_status(layout.root)).splitlines()[0]
            if line != last:
                say(line)
            last = line
            time.sleep(FOLLOW_S)
    except KeyboardInterrupt:
        say(f"no longer followed; the job stays in its queue: emsweep stop {layout.root} takes it out")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _, manifest = open_manifest(layout.root)
    counts = read_index(layout, manifest.run_ids).book.counts()
    for text in how_it_ended(job) if counts["pending"] else ():
        say(text)
    conclude(layout.root, Summary.of(counts), started_s, as_json)
