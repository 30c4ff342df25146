"""What is needed of Typer and it does not export. Nothing else here touches its internals."""

from __future__ import annotations

from typing import Any, NamedTuple

import typer

CHECKED_VERSION = "0.29"
"""Typer whose internals these lines were checked against; a test fails on another."""

UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""Base of every error in a command line's words; where it lives differs between Typer's versions."""


class Verb(NamedTuple):
    """What one verb takes."""

    options: dict[str, bool]
    """Each option, and whether a value follows it."""
    arguments: tuple[str, ...]
    """Names of its positional parameters, in order."""


def verb_of(context: typer.Context, name: str) -> Verb | None:
    """What a verb takes; ``None`` where there is none of this name."""
    application: Any = context.find_root().command
    command = application.commands.get(name)
    if command is None or command.hidden:
        return None
    options: dict[str, bool] = {"--help": False}
    arguments = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            arguments.append(str(parameter.name))
        else:
            named = (*parameter.opts, *parameter.secondary_opts)
            options |= dict.fromkeys(named, not parameter.is_flag)
    return Verb(options, tuple(arguments))


def verbs_of(context: typer.Context) -> list[str]:
    application: Any = context.find_root().command
    return [name for name, command in application.commands.items() if not command.hidden]
