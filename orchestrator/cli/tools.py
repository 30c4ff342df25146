"""Verbs around a sweep: mirror, log, doctor."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import echo, json_line, print_json, say
from orchestrator.cli.shared_options import AsJson, Directory
from sweeps.spec.errors import UserError
from sweeps.spec.text import duration

PROGRESS_EVERY_S = 5.0
"""Seconds between progress lines when standard error is not a terminal."""


def register(app: typer.Typer) -> None:
    app.command()(mirror)
    app.command()(log)
    app.command()(doctor)


def mirror(
    directory: Directory,
    to: Annotated[str, typer.Option(help="wandb, mlflow or tensorboard.")] = "wandb",
    project: Annotated[
        str | None, typer.Option(help="Project or experiment; the directory's name by default.")
    ] = None,
    entity: Annotated[str | None, typer.Option(help="W&B team or user.")] = None,
    online: Annotated[
        bool | None,
        typer.Option(
            "--online/--offline",
            help="Upload to W&B at once, or leave it to `wandb sync`; by whether a key is at hand.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="MLflow's tracking server or store.")] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Go on while it runs, showing what runs at work report (wandb, tensorboard).",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy finished runs to W&B, MLflow or TensorBoard; a second call copies only what is new."""
    from orchestrator.mirror import mirror_sweep
    from orchestrator.worker.process_env import give_way

    give_way()
    report = mirror_sweep(
        directory,
        to=to,
        project=project or directory.resolve().name,
        entity=entity,
        online=online,
        url=url,
        progress=_Progress(),
        follow=follow,
    )
    if as_json:
        print_json(dataclasses.asdict(report))
        return
    echo(f"{report.new:,} runs copied, {report.already:,} were there already")
    if any((directory / "wandb").glob("offline-run-*")) and to == "wandb" and report.new:
        echo(f"Upload them with: wandb sync {directory}/wandb/offline-run-*")
    if to == "tensorboard":
        echo(f"See them with: tensorboard --logdir {directory}/tensorboard")


class _Progress:
    """Say how far copying is: one line rewritten on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._last_s = self._started_s

    def __call__(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        live = sys.stderr.isatty()
        if done < total and now_s - self._last_s < (0.2 if live else PROGRESS_EVERY_S):
            return
        self._last_s = now_s
        left_s = (now_s - self._started_s) / done * (total - done)
        line = f"mirrored {done:,} of {total:,}, about {duration(left_s)} left"
        if live:
            sys.stderr.write(f"\r{line}" + ("\n" if done == total else ""))
            sys.stderr.flush()
        elif total > 1:
            say(line)


def log(
    directory: Directory,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", help="Only this run, by its id's first digits or its name, and what it printed."
        ),
    ] = None,
) -> None:
    """Print what happened, one JSON object a line: run, attempt, worker, outcome, message."""
    from orchestrator.inspect.log import records
    from orchestrator.inspect.replay import find_runs
    from orchestrator.store.opening import open_to_look

    opened = open_to_look(directory)
    chosen = None
    if run is not None:
        chosen = frozenset(opened.manifest.run_ids[i] for i in find_runs(opened.manifest, run))
    for record in records(opened.layout, chosen):
        echo(json_line(record))


def doctor(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where sweeps will be written, or the sweep of a bundle.")
    ] = Path("outputs"),
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="Also write a ZIP file to ask for help with, free of secrets."),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="Also launch two real runs in a temporary folder, verify and tabulate them."
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check Python, the packages, disk, memory, GPUs, compiler and network, and say the fix."""
    from orchestrator.inspect.doctor import run_checks

    if bundle is not None and not bundle.absolute().parent.is_dir():
        raise UserError(f"--bundle {bundle}: there is no folder {bundle.parent}; make it or give another")
    checks = run_checks(directory)
    if smoke:
        from orchestrator.inspect.smoke import smoke_checks

        checks += smoke_checks()
    ok = all(check.ok for check in checks)
    written: dict[str, object] = {}
    if bundle is not None:
        from orchestrator.inspect.support_bundle import write_bundle

        names = write_bundle(bundle, directory, checks)
        written = {"bundle": str(bundle), "files": names}
        say(f"wrote {bundle}: {len(names)} files; look through it before you pass it on")
    if as_json:
        print_json({"ok": ok, "checks": [dataclasses.asdict(check) for check in checks], **written})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            word = "BAD" if not check.ok else "off" if check.absent else "ok "
            echo(f"{word}  {check.name:<{width}}  {check.detail}")
            if check.fix:
                echo(f"{'':<{width + 7}}{'fix' if not check.ok else 'hint'}: {check.fix}")
        rest = (
            " What is off is not here, and not needed by every sweep."
            if any(c.absent for c in checks)
            else ""
        )
        echo(f"All well.{rest}" if ok else "Something is missing; see the fixes above.")
    return 0 if ok else 1
