"""Verbs that look at a sweep before it runs: plan, and what the shell completes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import print_json
from orchestrator.errors import UserError

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[OVERRIDE]...",
        help="Hydra overrides: sweep=NAME, model=tiny-64,tiny-96, seed=range(16).",
        show_default=False,
    ),
]

CFG_CHOICES = ("job", "hydra", "all")
INFO_CHOICES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""What Hydra's own flags take."""

SHELLS = {
    "bash": "_emsweep() { local IFS=$'\\n'; COMPREPLY=( $(emsweep complete \"$COMP_LINE\") ); }\n"
    "COMP_WORDBREAKS=${COMP_WORDBREAKS//=}\n"
    "complete -o nospace -o default -F _emsweep emsweep",
    "zsh": '_emsweep() { compadd -S "" -- ${(f)"$(emsweep complete "${words[1,CURRENT]}")"} }\n'
    "compdef _emsweep emsweep",
    "fish": "complete -c emsweep -f -a '(emsweep complete (commandline -cp))'",
}
"""Shell to the lines that make it complete verbs, groups, options and keys."""


def register(app: typer.Typer) -> None:
    """Add this family's verbs to ``app``."""
    app.command()(plan)
    app.command()(completion)
    app.command(hidden=True)(complete)


def plan(
    overrides: Words = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Sweep directory; outputs/NAME unless given.")
    ] = None,
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
    config_dir: Annotated[
        Path | None, typer.Option("--config-dir", help="Folder with further options and sweeps.")
    ] = None,
    simulate: Annotated[
        str | None,
        typer.Option(
            "--simulate",
            help="Run it in virtual time on an imaginary cluster, such as gpus=1024,mtbf_h=500.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Expand a sweep, price it, and say what would run and why. Starts nothing."""
    words = list(overrides or [])
    if config_dir is not None:
        if not config_dir.is_dir():
            raise UserError(f"--config-dir {str(config_dir)!r}: no such folder")
        words.insert(0, f"hydra.searchpath=[file://{config_dir.absolute()}]")
    for flag, value, known in (("--cfg", config, CFG_CHOICES), ("--info", info, INFO_CHOICES)):
        if value is not None and value not in known:
            raise UserError(f"{flag} {value!r}: choose one of {', '.join(known)}")
    if config or info:
        from sweeps.compose import show

        show(words, ["--cfg", config] if config else ["--info", str(info)])
        return
    from orchestrator.planning import make_plan

    imagined = None
    if simulate is not None:
        from orchestrator.simulate import parse_cluster

        imagined = parse_cluster(simulate)
    made = make_plan(words, directory, like, imagined)
    if as_json:
        print_json(made.to_json())
    else:
        typer.echo(made.to_text())


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print what makes a shell complete this command: eval "$(emsweep completion bash)"."""
    if shell not in SHELLS:
        raise UserError(f"shell {shell!r}: choose one of {', '.join(SHELLS)}")
    typer.echo(SHELLS[shell])


def complete(line: Annotated[str, typer.Argument(help="The command line so far.")]) -> None:
    """Print how a command line could go on, one possibility a line."""
    try:
        words = shlex.split(line)
    except ValueError:  # an open quote
        return
    words += [""] if line.endswith(" ") or len(words) < 2 else []
    if len(words) == 2:
        from orchestrator.cli import build_app

        verbs = [
            c.name or (c.callback.__name__ if c.callback else "") for c in build_app().registered_commands
        ]
        found = [v for v in verbs if v.startswith(words[1]) and v != "complete"]
    elif words[1] in ("plan", "launch") and not words[-1].startswith("-"):
        from sweeps.compose import completions

        found = completions([w for w in words[2:-1] if "=" in w] + [words[-1]])
    else:
        found = []
    typer.echo("\n".join(found), nl=bool(found))
