"""What trainers reported while they trained, as a frame: read from ``reports/`` and apart from the tables,
since attempts that died are in it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from analysis.data.source import Source
from orchestrator.store.column_names import ColumnNames
from orchestrator.store.history import attempt_ends
from orchestrator.store.layout import Layout
from orchestrator.store.reports import by_attempt, reported_rows

COLUMNS = ("run_id", "attempt", "ended", "worker", "step", "reported_at")
"""Columns of each row besides those of its run and its metrics."""


def reported_frame(sources: Sequence[Source], runs: pd.DataFrame, axis_keys: Sequence[str]) -> pd.DataFrame:
    """One row per attempt and step of ``runs``, a frame with identity, axes and outcome, in order of time."""
    of_run = [name for name in ("sweep", "index", "name", *axis_keys, "outcome") if name in runs]
    names = ColumnNames([*of_run, *COLUMNS])
    wanted = frozenset(runs["run_id"])
    rows = [row for source in sources for row in _rows(Layout(source.directory), wanted, names)]
    found = pd.DataFrame(rows, columns=None if rows else list(COLUMNS))
    frame = found.merge(runs[["run_id", *of_run]].drop_duplicates("run_id"), on="run_id", how="left")
    metrics = [name for name in found if name not in COLUMNS]
    first = ["run_id", *of_run, *COLUMNS[1:]]
    return frame.sort_values(["index", "attempt", "step"], kind="stable", ignore_index=True)[first + metrics]


def _rows(layout: Layout, wanted: frozenset[str], names: ColumnNames) -> Iterator[dict[str, Any]]:
    attempts = by_attempt(reported_rows(layout, wanted))
    ends = attempt_ends(layout) if attempts else {}
    for token, rows in attempts.items():
        for row in rows:
            yield {
                "run_id": row.run_id,
                "attempt": row.attempt,
                "ended": ends.get(token),
                "worker": row.worker,
                "step": row.step,
                "reported_at": pd.Timestamp(row.at, unit="s", tz="UTC"),
                **names.row(row.metrics),
            }
