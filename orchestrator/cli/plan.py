"""Verbs that look at a sweep before it runs: plan, and what the shell completes."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.completing import SHELLS, completions_of
from orchestrator.cli.output import echo, print_json
from orchestrator.cli.shared_options import AsJson, ConfigDir, Overrides, SweepFolder, with_config_dir
from orchestrator.cli.submit import goes_to_queue, warned
from sweeps.spec.errors import UserError

if TYPE_CHECKING:
    from sweeps.cost.schedule_curves import Curve

CFG_CHOICES = ("job", "hydra", "all")
INFO_CHOICES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""What Hydra's own flags take."""


def register(app: typer.Typer) -> None:
    app.command()(plan)
    app.command()(completion)
    app.command(hidden=True)(complete)


def plan(
    overrides: Overrides = None,
    directory: SweepFolder = None,
    like: Annotated[
        Path | None, typer.Option("--like", help="Sweep directory whose measured seconds to use.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--cfg", help="Show the composed configuration: job, hydra or all.")
    ] = None,
    info: Annotated[
        str | None,
        typer.Option(
            "--info",
            help="Show how it is composed: defaults, searchpath, …",
        ),
    ] = None,
    config_dir: ConfigDir = None,
    simulate: Annotated[
        str | None,
        typer.Option(
            "--simulate",
            help="Run it in virtual time on an imaginary cluster, such as gpus=1024,mtbf_h=500.",
        ),
    ] = None,
    show_schedules: Annotated[
        bool,
        typer.Option("--show-schedules", help="Also draw its learning rates, here and beside the directory."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Expand a sweep, price it, and say what would run and why. Starts nothing."""
    overrides = with_config_dir(overrides, config_dir)
    for flag, value, known in (("--cfg", config, CFG_CHOICES), ("--info", info, INFO_CHOICES)):
        if value is not None and value not in known:
            raise UserError(f"{flag} {value!r}: choose one of {', '.join(known)}")
    if config or info:
        from sweeps.compose import show

        show(overrides, ["--cfg", config] if config else ["--info", str(info)])
        return
    from orchestrator.planning.make_plan import make_plan
    from orchestrator.trust.targets import metrics_of_classes

    imagined = None
    if simulate is not None:
        from orchestrator.scheduling.cluster_model import parse_cluster

        imagined = parse_cluster(simulate)
    made = make_plan(overrides, directory, like, imagined, metrics_of_classes)
    warnings = warned(made.manifest, as_json=as_json)
    curves = []
    if show_schedules:
        from sweeps.cost.schedule_curves import curves_of

        curves = curves_of(made.manifest)
    if as_json:
        drawn = {"schedules": [dataclasses.asdict(c) for c in curves]} if show_schedules else {}
        told = {"warnings": warnings} if goes_to_queue(made.manifest, False) else {}
        print_json(made.to_json() | drawn | told)
    else:
        echo(made.to_text())
    if show_schedules and not as_json:
        _draw(curves, made.directory)


def _draw(curves: Sequence[Curve], directory: Path) -> None:
    """Print sparklines and write the figure beside the sweep directory, which planning leaves untouched."""
    from sweeps.cost.schedule_curves import curves_text

    echo(f"\n{curves_text(curves)}")
    curves = [curve for curve in curves if curve.multipliers]
    if not curves:
        return
    try:
        from analysis.output.schedule_figure import schedule_figure

        figure = schedule_figure(curves)
    except (ImportError, UserError) as error:
        echo(f"no figure: {error}")
        return
    path = directory.with_name(f"{directory.name}-schedules.svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.save(path)
    echo(f"figure: {path}")


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print what makes a shell complete this command: eval "$(emsweep completion bash)"."""
    if shell not in SHELLS:
        raise UserError(f"shell {shell!r}: choose one of {', '.join(SHELLS)}")
    echo(SHELLS[shell])


def complete(
    context: typer.Context, line: Annotated[str, typer.Argument(help="The command line so far.")]
) -> None:
    """Print how a command line could go on, one possibility a line."""
    try:
        typed = shlex.split(line)
    except ValueError:  # an open quote
        return
    typed += [""] if line.endswith(" ") or len(typed) < 2 else []
    possible = completions_of(context, typed)
    echo("\n".join(possible), nl=bool(possible))
