"""Verbs that run a sweep: launch, resume, rerun, cancel, cap."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import print_json, say
from orchestrator.cli.words import AllowTarget, ConfigDir, with_config_dir
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.cluster import Cluster
    from orchestrator.driver import Summary
    from orchestrator.store.book import Book
    from sweeps.manifest import Manifest

CONFIRM_RUNS = 1_000
"""A launch of more runs asks first, on a terminal."""

EXIT_FAILED_RUNS = 1
"""Status when the sweep ended with failed runs."""

EXIT_INTERRUPTED = 130
"""Status after Ctrl-C, SIGTERM or ``--until``; the directory can be resumed."""

CONTROL_WAIT_S = 10.0
"""Time a live driver gets to take a request; it looks once a second."""

Directory = Annotated[Path, typer.Argument(metavar="D", help="Sweep directory.", show_default=False)]
PoolName = Annotated[str | None, typer.Option("--pool", help="ray, local or inline.", show_default=False)]
Address = Annotated[
    str | None, typer.Option("--address", help="Running Ray cluster, such as auto.", show_default=False)
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        help="Stop cleanly before this time: 2h, 90m, 3600s or 2030-01-31T08:00.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Filters = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILTER]...", help="axis=value or '!axis=value'; all must hold."),
]


def register(app: typer.Typer) -> None:
    """Add this family's verbs to ``app``."""
    for verb in (launch, resume, rerun, cancel, cap):
        app.command()(verb)


def launch(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OVERRIDE]...", help="Hydra overrides: sweep=NAME, seed=range(16)."),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Sweep directory; outputs/NAME unless given.")
    ] = None,
    pool: PoolName = None,
    address: Address = None,
    until: Until = None,
    config_dir: ConfigDir = None,
    allow_target: AllowTarget = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a sweep; in a directory that holds it already, run only what is missing."""
    from orchestrator.cluster import cluster_of, pool_factory
    from orchestrator.planning import OUTPUTS, require_budget
    from orchestrator.session import Session
    from orchestrator.store.layout import Layout
    from orchestrator.targets import check_targets
    from sweeps.hub import has_network
    from sweeps.manifest import Manifest
    from sweeps.pins import pin_commits
    from sweeps.resolve import check_needs

    started_s = time.monotonic()
    manifest, about = _asked(with_config_dir(overrides, config_dir))
    check_targets(manifest, allow_target or ())
    check_needs(manifest.needs, has_network)
    layout = Layout(directory or OUTPUTS / manifest.sweep)
    _require_free_or_sweep(layout.root)
    manifest = pin_commits(manifest, Manifest.read(layout.manifest) if layout.manifest.exists() else None)
    require_budget(manifest, layout.root)
    cluster = cluster_of(manifest.options, pool=pool, address=address)
    pool_factory(manifest, cluster)
    _confirm(len(manifest), yes)
    deadline = _deadline(until)
    with Session(layout) as session:
        found = session.freeze(manifest, pool=cluster.pool, address=cluster.address, about=about)
        if not as_json and (found.left or 0 < found.new < len(manifest)):
            say(f"{found.new} runs are new; {found.left} left the grid, their results stay in the spools")
        reading = session.read(manifest)
        summary = session.run(manifest, cluster, reading, quiet=as_json, until=deadline)
    _conclude(layout.root, summary, started_s, as_json)


def resume(
    directory: Directory,
    pool: PoolName = None,
    address: Address = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Finish a sweep that was interrupted; runs that failed stay as they are (see rerun)."""
    from orchestrator.session import Session, open_manifest

    started_s = time.monotonic()
    layout, manifest = open_manifest(directory)
    cluster = _stored_cluster(directory, manifest, pool, address)
    deadline = _deadline(until)
    with Session(layout) as session:
        reading = session.read(manifest)
        summary = session.run(manifest, cluster, reading, quiet=as_json, until=deadline)
    _conclude(directory, summary, started_s, as_json)


def rerun(
    directory: Directory,
    filters: Filters = None,
    failed: Annotated[bool, typer.Option("--failed", help="Runs that failed or were quarantined.")] = False,
    incomplete: Annotated[bool, typer.Option("--incomplete", help="Every run without a result.")] = False,
    pool: PoolName = None,
    address: Address = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Give runs without a result another chance, with fresh budgets. A committed result is never repeated."""
    from orchestrator.session import Session, open_manifest

    started_s = time.monotonic()
    if not (failed or incomplete or filters):
        raise UserError("rerun: say which runs: --failed, --incomplete or axis=value")
    layout, manifest = open_manifest(directory)
    chosen = _matching(manifest, filters or [])
    cluster = _stored_cluster(directory, manifest, pool, address)
    deadline = _deadline(until)
    with Session(layout) as session:
        reading = session.read(manifest)
        failed_only = failed and not incomplete
        again = {i for i in chosen if _is_open(reading.book, i, failed_only=failed_only)}
        if not as_json:
            say(f"{len(again)} of {len(manifest)} runs get another chance")
        summary = session.run(
            manifest, cluster, reading, quiet=as_json, only=again, reopen=again, until=deadline
        )
    _conclude(directory, summary, started_s, as_json)


def cancel(directory: Directory, filters: Filters = None, as_json: AsJson = False) -> None:
    """Give up runs that have no result yet, running ones included; all of them without a FILTER."""
    from orchestrator.errors import DirectoryBusyError
    from orchestrator.session import Session, open_manifest
    from orchestrator.store.book import PENDING, read_book
    from orchestrator.store.control import send_request

    layout, manifest = open_manifest(directory)
    chosen = _matching(manifest, filters or [])
    try:
        with Session(layout) as session:
            book = session.read(manifest).book
            pending = [i for i in chosen if book.outcome[i] == PENDING]
            if pending:
                session.settle(manifest, pending, "cancelled")
    except DirectoryBusyError:
        request = send_request(layout, "cancel", filters=list(filters or []))
        _wait_until_taken(layout, request)
    book = read_book(layout, manifest.run_ids, live=True).book
    _report_counts(directory, manifest, book, as_json)


def cap(
    directory: Directory,
    workers: Annotated[int, typer.Option(help="Most worker processes at once; 0 lifts the cap.")] = 0,
    gpus: Annotated[float, typer.Option(help="Most GPUs at once; 0 lifts the cap.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Change how much a live sweep may use; workers in excess end after what they hold."""
    from orchestrator.session import open_manifest
    from orchestrator.store.control import send_request
    from orchestrator.store.lock import holder_of

    if workers < 0 or gpus < 0:
        raise UserError(f"cap --workers {workers} --gpus {gpus:g}: must be at least 0 (0 lifts the cap)")
    layout, _ = open_manifest(directory)
    if holder_of(layout.lock) is None:
        raise UserError(f"directory {str(directory)!r}: no driver is at work there; nothing to cap")
    _wait_until_taken(layout, send_request(layout, "cap", max_slots=workers, max_gpus=gpus))
    if as_json:
        print_json({"dir": str(directory), "max_workers": workers or None, "max_gpus": gpus or None})
    else:
        say(f"cap: {workers or 'any number of'} workers, {gpus or 'any number of'} GPUs")


def _asked(overrides: Sequence[str]) -> tuple[Manifest, str]:
    """The runs that the words ask for, and the question they answer; what it took to compose them goes."""
    from sweeps.compose import compose_sweep
    from sweeps.manifest import build_manifest

    composed = compose_sweep(overrides)
    return build_manifest(composed), composed.about


def _stored_cluster(directory: Path, manifest: Manifest, pool: str | None, address: str | None) -> Cluster:
    """The cluster that the sweep was launched with; the command line wins."""
    from orchestrator.cluster import cluster_of
    from orchestrator.session import stored_pool
    from orchestrator.store.layout import Layout

    stored, stored_address = stored_pool(Layout(directory))
    return cluster_of(
        manifest.options,
        pool=pool or stored,
        address=address or (stored_address if pool in (None, stored) else None),
    )


def _require_free_or_sweep(root: Path) -> None:
    """Refuse a directory that holds something else."""
    if root.exists() and not root.is_dir():
        raise UserError(f"--dir {root}: is a file; give a directory")
    from orchestrator.store.layout import Layout

    if root.is_dir() and not Layout(root).is_blank:
        Layout(root).require_sweep()


def _confirm(num_runs: int, yes: bool) -> None:
    if yes or num_runs <= CONFIRM_RUNS or not sys.stdin.isatty():
        return
    typer.confirm(f"Launch {num_runs:,} runs?", abort=True, err=True)


def _deadline(until: str | None) -> float | None:
    """Parse ``--until`` into Unix seconds."""
    if until is None:
        return None
    from datetime import datetime

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    now = time.time()
    try:
        if until[-1:] in units:
            limit = now + float(until[:-1]) * units[until[-1]]
        else:
            limit = datetime.fromisoformat(until).timestamp()
    except ValueError:
        raise UserError(f"--until {until}: is no time; write 2h, 90m, 3600s or 2030-01-31T08:00") from None
    if not now < limit < math.inf:
        raise UserError(f"--until {until}: must be a time to come; write 2h, 90m or 2030-01-31T08:00")
    return limit


def _matching(manifest: Manifest, filters: Sequence[str]) -> list[int]:
    """Runs whose axes satisfy every filter."""
    from sweeps.filters import parse_filter

    chosen = parse_filter(list(filters))
    chosen.check({axis.key: axis.kind for axis in manifest.axes})
    return [i for i in range(len(manifest)) if not filters or chosen.matches(manifest.axis_values(i))]


def _is_open(book: Book, index: int, *, failed_only: bool) -> bool:
    from orchestrator.store.layout import OUTCOMES

    outcome = OUTCOMES[book.outcome[index]]
    if failed_only:
        return outcome in ("failed", "quarantined")
    return outcome in ("pending", "failed", "quarantined", "cancelled")


def _wait_until_taken(layout: object, request: str) -> None:
    from orchestrator.store.control import is_taken
    from orchestrator.store.layout import Layout

    assert isinstance(layout, Layout)
    until_s = time.monotonic() + CONTROL_WAIT_S
    while not is_taken(layout, request):
        if time.monotonic() > until_s:
            raise UserError(
                f"directory {str(layout.root)!r}: its driver has not answered for {CONTROL_WAIT_S:g} s; "
                "the request stays and is obeyed once it does"
            )
        time.sleep(0.05)


def _report_counts(directory: Path, manifest: Manifest, book: Book, as_json: bool) -> None:
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
        say(f"{counts['cancelled']} runs are cancelled; {committed} of {len(manifest)} have a result")


def _conclude(directory: Path, summary: Summary, started_s: float, as_json: bool) -> None:
    """Print what came of it and leave with the matching status."""
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
        from analysis.tables import closing_table

        typer.echo(closing_table(directory))
        if summary.reason:
            say(f"stopped early: {summary.reason}")
        if summary.committed + summary.failed + summary.cancelled < summary.expected:
            say(f"finish it with: emsweep resume {directory}")
    if summary.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.failed or summary.committed + summary.cancelled < summary.expected:
        raise typer.Exit(EXIT_FAILED_RUNS)


def _peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
