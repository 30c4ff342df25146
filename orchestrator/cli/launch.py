"""Verbs that run a sweep: launch, resume, rerun, cancel."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add this family's verbs to ``app``."""
