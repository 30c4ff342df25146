"""What running and dead runs have reported, for ``status`` and the log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.store.layout import Layout
from orchestrator.store.reports import ReportedRow, by_attempt, newest_rows, reported_rows
from sweeps.manifest.manifest import Manifest
from trainers.run_result import number_to_json

MAX_METRICS_SHOWN = 4
"""Metrics of a step in a line for people."""


def newest_reports(layout: Layout, manifest: Manifest, status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The newest step of each run at work, as plain values, the newest first.

    Args:
        layout: the directory.
        manifest: its runs.
        status: what its driver says of itself.
    """
    running = status.get("running_runs", ())
    names = {manifest.run_ids[i]: manifest.name(i) for i in running if i < len(manifest)}
    tokens = frozenset(status.get("running_tokens", ()))
    rows = newest_rows(layout, status.get("running_workers", ()), tokens)
    return [{"name": names[row.run_id], **_plain(row)} for row in rows if row.run_id in names]


def reports_of_run(layout: Layout, run_id: str) -> dict[int, dict[str, Any]]:
    """How many steps each attempt of a run reported, and the newest, by its lease."""
    attempts = by_attempt(reported_rows(layout, run_id))
    return {
        token: {
            "attempt": rows[0].attempt,
            "worker": rows[0].worker,
            "reported": len(rows),
            "newest": _newest(rows),
        }
        for token, rows in attempts.items()
    }


def step_records(layout: Layout, run_ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """What these runs reported, a record a call."""
    for row in reported_rows(layout, run_ids):
        yield {"event": "step", "run_id": row.run_id, **_plain(row)}


def step_text(newest: Mapping[str, Any]) -> str:
    """A step for people."""
    shown = list(newest["metrics"].items())[:MAX_METRICS_SHOWN]
    left = len(newest["metrics"]) - len(shown)
    words = [f"step {newest['step']}", *(f"{name} {_value(value)}" for name, value in shown)]
    return " · ".join([*words, f"{left} more"] if left else words)


def _newest(rows: Sequence[ReportedRow]) -> dict[str, Any]:
    newest = max(rows, key=lambda row: row.at)
    return {key: value for key, value in _plain(newest).items() if key in ("step", "at", "metrics")}


def _plain(row: ReportedRow) -> dict[str, Any]:
    return {
        "run_id": row.run_id,
        "attempt": row.attempt,
        "worker": row.worker,
        "step": row.step,
        "at": row.at,
        "metrics": {name: number_to_json(value) for name, value in row.metrics.items()},
    }


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
