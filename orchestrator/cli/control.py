"""Verbs that change a sweep from outside, live or not: cancel, cap, stop."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import print_json, say
from orchestrator.cli.shared_options import AsJson, Directory, Filters
from sweeps.spec.errors import UserError
from sweeps.spec.text import counted

if TYPE_CHECKING:
    from orchestrator.store.layout import Layout
    from orchestrator.store.run_index import RunIndex
    from orchestrator.submit.queued import QueuedJob
    from sweeps.manifest.manifest import Manifest

CONTROL_WAIT_S = 10.0
"""Time a live driver gets to take a request; it looks once a second."""


def register(app: typer.Typer) -> None:
    for verb in (cancel, cap, stop):
        app.command()(verb)


def cancel(directory: Directory, filters: Filters = None, as_json: AsJson = False) -> None:
    """Give up runs that have no result yet, running ones included; all of them without a FILTER."""
    from orchestrator.driver.session import Session
    from orchestrator.store.control import send_request
    from orchestrator.store.index_reader import read_index
    from orchestrator.store.matching import matching
    from orchestrator.store.opening import open_manifest
    from orchestrator.store.run_index import PENDING, RunIndex
    from orchestrator.trust.consent import consent_of
    from orchestrator.trust.gate import permit
    from sweeps.spec.errors import DirectoryBusyError

    layout, manifest = open_manifest(directory)
    matching(manifest, RunIndex(manifest.run_ids), filters or [])  # refused here, not by a live driver
    try:
        with Session(layout, permit(layout, manifest, consent_of(), runs_code=False)) as session:
            reading = session.read(manifest)
            chosen = matching(manifest, reading.book, filters or [])
            pending = [i for i in chosen if reading.book.outcome[i] == PENDING]
            if pending:
                session.settle(manifest, reading, pending, "cancelled")
    except DirectoryBusyError:
        request = send_request(layout, "cancel", filters=list(filters or []))
        _wait_until_taken(layout, request)
    book = read_index(layout, manifest.run_ids, live=True).book
    if not book.counts()["pending"] and (job := _withdrawn(layout)):
        say(f"{job.words}: taken out of the queue, as nothing is left to run")
    _report_counts(directory, manifest, book, as_json)


def cap(
    directory: Directory,
    workers: Annotated[int, typer.Option(help="Most worker processes at once; 0 lifts the cap.")] = 0,
    gpus: Annotated[float, typer.Option(help="Most GPUs at once; 0 lifts the cap.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Change how much a live sweep may use; workers in excess end after what they hold."""
    from orchestrator.store.control import send_request

    if workers < 0 or gpus < 0:
        raise UserError(f"cap --workers {workers} --gpus {gpus:g}: must be at least 0 (0 lifts the cap)")
    layout = _live(directory, "cap")
    _wait_until_taken(layout, send_request(layout, "cap", max_slots=workers, max_gpus=gpus))
    if as_json:
        print_json({"dir": str(directory), "max_workers": workers or None, "max_gpus": gpus or None})
    else:
        say(f"cap: {workers or 'any number of'} workers, {gpus or 'any number of'} GPUs")


def stop(directory: Directory, as_json: AsJson = False) -> None:
    """End a live sweep as Ctrl-C would, from anywhere: what runs may finish, the rest waits for resume.

    A sweep that still waits in a queue is taken out of it.
    """
    from orchestrator.store.control import send_request
    from orchestrator.store.opening import open_manifest

    if job := _withdrawn(open_manifest(directory)[0]):
        if as_json:
            print_json({"dir": str(directory), "stopping": True, "job": job.note.job})
        else:
            say(f"{job.words}: taken out of the queue; submit it again with the same launch")
        return
    layout = _live(directory, "stop")
    _wait_until_taken(layout, send_request(layout, "stop"))
    if as_json:
        print_json({"dir": str(directory), "stopping": True})
    else:
        say(f"stopping; finish it with: emsweep resume {directory}")


def _withdrawn(layout: Layout) -> QueuedJob | None:
    """The job of a sweep that has no driver yet, now taken out of its queue; ``None`` where there is none."""
    from orchestrator.store.job_note import read_job
    from orchestrator.store.liveness import live_driver
    from orchestrator.submit.queued import queued_job, withdraw

    note = read_job(layout)
    if note is None or live_driver(layout) is not None or not (job := queued_job(note)).is_there:
        return None
    withdraw(note)
    return job


def _live(directory: Path, verb: str) -> Layout:
    """The layout of a sweep that has a driver."""
    from orchestrator.store.liveness import live_driver
    from orchestrator.store.opening import open_manifest

    layout, _ = open_manifest(directory)
    if live_driver(layout) is None:
        raise UserError(f"directory {str(directory)!r}: no driver is at work there; nothing to {verb}")
    return layout


def _wait_until_taken(layout: Layout, request: str) -> None:
    from orchestrator.store.control import is_taken

    until_s = time.monotonic() + CONTROL_WAIT_S
    while not is_taken(layout, request):
        if time.monotonic() > until_s:
            raise UserError(
                f"directory {str(layout.root)!r}: its driver has not answered for {CONTROL_WAIT_S:g} s; "
                "the request stays and is obeyed once it does"
            )
        time.sleep(0.05)


def _report_counts(directory: Path, manifest: Manifest, book: RunIndex, as_json: bool) -> None:
    counts = book.counts()
    committed, failed = counts["done"] + counts["diverged"], counts["failed"] + counts["quarantined"]
    if as_json:
        print_json(
            {
                "dir": str(directory),
                "expected": len(manifest),
                "committed": committed,
                "failed": failed,
                "cancelled": counts["cancelled"],
                "wall_s": 0.0,
                "runs_per_s": 0.0,
            }
        )
    else:
        cancelled = counted(counts["cancelled"], "run")
        say(f"{cancelled} cancelled; {committed} of {len(manifest)} have a result")
        if counts["cancelled"]:
            say(f"to have them after all: emsweep rerun {shlex.quote(str(directory))} --incomplete")
