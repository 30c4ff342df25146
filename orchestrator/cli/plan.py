"""The verb that says what a sweep would run, and starts nothing: plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import print_json

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[OVERRIDE]...",
        help="Hydra overrides: sweep=NAME, model=tiny-64,tiny-96, seed=range(16).",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add this family's verbs to ``app``."""
    app.command()(plan)


def plan(
    overrides: Words = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Sweep directory; outputs/NAME unless given.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option("--like", help="Sweep directory whose measured seconds to use.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Expand a sweep, price it, and say what would run and why. Starts nothing."""
    from orchestrator.planning import make_plan

    made = make_plan(overrides or [], directory, like)
    if as_json:
        print_json(made.to_json())
    else:
        typer.echo(made.to_text())
