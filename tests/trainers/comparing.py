"""What two runs must agree on: every number but timings."""

from __future__ import annotations

from typing import Any

from trainers.protocol import TIMING_SUFFIX


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """A result's JSON without measured seconds and without the layout it was computed in."""

    def untimed(row: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in row.items() if not k.endswith(TIMING_SUFFIX)}

    kept = {k: v for k, v in result.items() if k != "layout"}
    return kept | {"metrics": untimed(result["metrics"]), "steps": [untimed(row) for row in result["steps"]]}


def column(result: dict[str, Any], name: str) -> list[float]:
    """One column of the steps that have it."""
    return [row[name] for row in result["steps"] if row.get(name) is not None]
