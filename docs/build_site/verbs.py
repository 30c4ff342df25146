"""The page of every command, made from the Typer application: what it does, arguments, options, examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer.main

from orchestrator.cli import build_app
from orchestrator.cli.examples import EXAMPLES

INTRODUCTION = """# Every command

`emsweep COMMAND …`; `--help` says the same as this page, which is made from it. `D` is a sweep directory.
With `--json` a command prints one JSON object on standard output and nothing else there.

| exit status | means |
|---|---|
| 0 | all well |
| 1 | the sweep ended with failed runs, or a check is not ok |
| 2 | bad input; nothing was started |
| 130 | interrupted; `emsweep resume D` goes on |

"""


def verbs_page() -> str:
    """The page as Markdown."""
    commands = typer.main.get_command(build_app()).commands  # type: ignore[attr-defined]
    shown = {name: command for name, command in commands.items() if not command.hidden}
    return "\n".join([INTRODUCTION, *(_verb(name, command) for name, command in shown.items())])


def _verb(name: str, command: Any) -> str:
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p.opts[0].startswith("-") and p.name != "help"]
    usage = " ".join(
        ["emsweep", name, *(_metavar(p) for p in arguments), *(["[OPTIONS]"] if options else [])]
    )
    text = [f"## `{name}`\n", " ".join((command.help or "").split()) + "\n", f"    {usage}\n"]
    if arguments:
        text.append(_rows("argument", ((f"`{_metavar(p)}`", p) for p in arguments)))
    if options:
        text.append(_rows("option", ((_words(p), p) for p in options)))
    examples = EXAMPLES.get(name, ())
    if examples:
        lines = "\n".join(f"    emsweep {name} {words}" for words in examples)
        text.append(f"For example\n\n{lines}\n")
    return "\n".join(text)


def _metavar(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper()


def _words(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    value = "" if getattr(parameter, "is_flag", False) else f" {parameter.metavar or parameter.name.upper()}"
    return ", ".join(f"`{name}{value}`" for name in names)


def _rows(kind: str, rows: Iterable[tuple[str, Any]]) -> str:
    lines = [f"| {kind} | meaning | default |", "|---|---|---|"]
    for words, parameter in rows:
        help_ = " ".join((parameter.help or "").split()).replace("|", "\\|")
        default = parameter.default
        shown = "" if default is None or default is False or default == [] else f"`{default}`"
        lines.append(f"| {words.replace('|', chr(92) + '|')} | {help_} | {shown} |")
    return "\n".join(lines) + "\n"
