"""Verbs that look at a sweep directory: status, verify, replay."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add this family's verbs to ``app``."""
