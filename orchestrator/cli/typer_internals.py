"""What is needed of Typer and it does not export. Nothing else here touches its internals."""

from __future__ import annotations

from typing import Any

import typer

CHECKED_VERSION = "0.29"
"""Typer whose internals these lines were checked against; a test fails on another."""

UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""Base of every error in a command line's words; where it lives differs between Typer's versions."""


def verbs_of(context: typer.Context) -> list[str]:
    application: Any = context.find_root().command
    return [name for name, command in application.commands.items() if not command.hidden]
