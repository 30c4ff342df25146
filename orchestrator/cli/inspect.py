"""Verbs that look at a sweep directory and make it whole: status, show, verify, repair, replay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.output import echo, print_json, say
from orchestrator.cli.shared_options import AllowTarget, AsJson, Directory, Trust
from sweeps.spec.errors import EXIT_NOT_OK

if TYPE_CHECKING:
    from orchestrator.inspect.verify import Verification

WATCH_S = 1.0
"""Period of ``status --watch``: a driver writes its status once a second."""


def register(app: typer.Typer) -> None:
    for verb in (status, show, verify, repair, replay):
        app.command()(verb)


def status(
    directory: Directory,
    run: Annotated[
        str | None, typer.Option(help="Tell the story of one run: its id, first digits or name.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until the sweep ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Counts, rate, time left, and failures by kind."""
    from orchestrator.inspect.status import run_story, status_text, story_text, sweep_status

    if run is not None:
        story = run_story(directory, run)
        print_json(story) if as_json else echo(story_text(story))
        return
    while True:
        found = sweep_status(directory)
        if as_json and not watch:
            print_json(found)
            return
        echo(status_text(found))
        if not watch or not found["live"]:
            return
        time.sleep(WATCH_S)


def show(
    directory: Directory,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="Id, its first digits, or a run's name.")],
    lines: Annotated[
        int, typer.Option(min=0, help="Lines of its output, from the end; --json has all.")
    ] = 40,
    as_json: AsJson = False,
) -> None:
    """Show one run: outcome, axes, metrics, attempts, configuration, output."""
    from orchestrator.inspect.show import MAX_LINES, run_shown, shown_text

    shown = run_shown(directory, run_id, MAX_LINES if as_json else lines)
    print_json(shown) if as_json else echo(shown_text(shown))


def verify(
    directory: Directory,
    against: Annotated[
        Path | None, typer.Option(help="Another sweep of the same runs, to hold the numbers against.")
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Compute every table from the spools again, and compare each value."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prove that each run of the manifest has exactly one committed, checksummed result."""
    from orchestrator.inspect.verify import verify as run_verify
    from orchestrator.store.liveness import live_driver
    from orchestrator.store.opening import open_to_look

    opened = open_to_look(directory, prove_ids=True)
    live = live_driver(opened.layout) is not None
    verdict = run_verify(opened.layout, opened.manifest, live=live, deep=deep, frozen=opened.damage)
    agreed = None
    if against is not None:
        from analysis.tables.agreement import agreement

        agreed = agreement(directory, against)
    if as_json:
        print_json(verdict.to_json() | ({"against": agreed.to_json()} if agreed else {}))
    else:
        data: dict[str, Any] = verdict.to_json()
        lists = {name: data.pop(name) for name in ("damaged", "findings")}
        echo(" · ".join(f"{name} {value}" for name, value in data.items()))
        for entry in lists["damaged"]:
            echo(f"  damaged: {entry['file']}: {entry['why']}")
        for finding in lists["findings"]:
            echo(f"  {finding}")
        if verdict.damaged or verdict.duplicated:
            say(f"mend it with: emsweep repair {directory}")
        if not live:
            _say_next(directory, verdict)
        if agreed:
            echo(f"against {against}: {agreed}")
    if not verdict.ok:
        raise typer.Exit(EXIT_NOT_OK)


def _say_next(directory: Path, verdict: Verification) -> None:
    """Say what brings the runs that have no result, or tables that lag behind, to an end."""
    from orchestrator.store.advice import is_held_back, next_steps, resumed_here
    from orchestrator.store.job_note import submitted_by
    from orchestrator.store.layout import Layout
    from orchestrator.store.status import read_status

    counts = {"pending": verdict.pending, "failed": verdict.failed, "cancelled": verdict.cancelled}
    lag = verdict.uncommitted or verdict.corrupt or verdict.tables_missing or not verdict.tables_agree
    layout = Layout(directory)
    submitted = submitted_by(layout)
    held_back = is_held_back(read_status(layout), counts)
    steps = next_steps(directory, counts, held_back=held_back, submitted=submitted)
    if lag and not any(" resume " in step.command for step in steps):
        say(f"finish it with: {resumed_here(directory, submitted)}")
    for step in steps:
        say(f"finish it with: {step}" if " resume " in step.command else f"next: {step}")


def repair(directory: Directory, trust: Trust = False, as_json: AsJson = False) -> None:
    """Make a damaged directory whole from its spools: mend or set aside lines, restore and rebuild files."""
    from orchestrator.driver.repair import repair as make_whole
    from orchestrator.store.layout import Layout
    from orchestrator.trust.gate import require_no_links

    layout = Layout(directory)
    layout.require_plain_files()
    if not trust:
        require_no_links(layout)
    done = make_whole(layout)
    if as_json:
        print_json(done.to_json())
    else:
        for word, entries in done.to_json().items():
            for entry in entries if isinstance(entries, list) else ():
                typer.echo(f"{word}: {entry}")
        _say_whole(directory, is_ok=done.ok)
    if not done.ok:
        raise typer.Exit(EXIT_NOT_OK)


def _say_whole(directory: Path, *, is_ok: bool) -> None:
    """Say whether a directory is whole now; runs without a result are no damage."""
    from orchestrator.inspect.verify import verify as run_verify
    from orchestrator.store.opening import open_to_look

    if is_ok:
        typer.echo("verify is ok")
        return
    opened = open_to_look(directory)
    verdict = run_verify(opened.layout, opened.manifest, frozen=opened.damage)
    if not verdict.is_whole:
        typer.echo(f"not whole yet; see: emsweep verify {directory}")
        return
    typer.echo(f"nothing is damaged; {verdict.missing} of {verdict.expected} runs have no result")
    _say_next(directory, verdict)


def replay(
    directory: Directory,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="Id, its first digits, or a run's name.")],
    save: Annotated[Path | None, typer.Option(help="Keep the trained model in this folder.")] = None,
    allow_target: AllowTarget = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Run one run again, cold, in fresh processes, and compare every stored number but timings."""
    from orchestrator.inspect.replay import find_run
    from orchestrator.inspect.replay import replay as run_again
    from orchestrator.store.opening import open_manifest
    from orchestrator.trust.consent import consent_of
    from orchestrator.trust.gate import permit

    layout, manifest = open_manifest(directory)
    permission = permit(layout, manifest, consent_of(allowed=allow_target or (), trust=trust))
    result = run_again(layout, manifest, find_run(manifest, run_id), permission, save)
    if as_json:
        print_json(result.to_json())
    else:
        word = "equal" if result.equal else "NOT equal"
        echo(
            f"{result.run_id}: {word}; {result.compared} values compared, "
            f"largest difference {result.max_abs_diff:g}"
        )
        for name in result.fields:
            echo(f"  differs: {name}")
        for line in result.environment:
            echo(f"  {line}")
        if result.cause and not result.environment:
            echo(f"  {result.cause}")
    if not result.equal:
        raise typer.Exit(EXIT_NOT_OK)
