"""How long the finished runs of somebody's own trainers took, of which nobody wrote it down.

A worker does one run after the other: a run took from the end of the one before it to its own. Before a
worker's first run lies the start of its process, so that it counts only where nothing else does.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.digests import require_intact
from orchestrator.store.layout import Layout
from orchestrator.store.spool import SpoolHealth, read_spool
from sweeps.cost.throughput import speed_key
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_file import read_manifest
from sweeps.spec.errors import UserError

MAX_ROWS = 20_000
"""Newest finished runs that are looked at: their mean is steady long before."""

COLUMNS = ["index", "outcome", "worker", "finished_at"]
"""Columns of ``runs.parquet`` that tell how long runs took."""


def run_seconds(folder: Path, most: int) -> dict[str, list[float]]:
    """Seconds of a directory's finished runs by :func:`~sweeps.cost.throughput.speed_key`, at most ``most``
    of each; empty where there are none.
    """
    layout = Layout(folder)
    try:
        for path in (layout.table("runs"), layout.manifest):
            require_intact(layout, path)
        manifest = read_manifest(layout.manifest)
        if all(manifest.group("trainer", row).computes_model for row in _first_rows(manifest)):
            return {}
        table = pq.read_table(layout.table("runs"), columns=COLUMNS)
        rows = table.filter(pa.compute.equal(table["outcome"], "done")).to_pylist()
    except (OSError, pa.ArrowException, UserError):  # not a finished sweep
        return {}
    key_of = _Keys(manifest)
    by_worker: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: r["finished_at"] or 0.0)[-MAX_ROWS:]:
        if row["worker"] and row["index"] < len(manifest):
            by_worker[row["worker"]].append((row["finished_at"], row["index"]))
    later: dict[str, list[float]] = defaultdict(list)
    first: dict[str, list[float]] = defaultdict(list)
    for worker, ends in by_worker.items():
        before_s = _began_at(layout, worker)
        for nth, (ended_s, index) in enumerate(ends):
            key = key_of[index]
            found = (later if nth else first)[key] if key is not None and before_s is not None else None
            if found is not None and before_s is not None and len(found) < most:
                found.append(max(0.0, ended_s - before_s))
            before_s = ended_s
    return {**first, **later}


class _Keys:
    """The key of each run's seconds, worked out once for each kind of run; ``None`` where a run's seconds
    are told apart, by rollouts and steps.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._known: dict[tuple[int, ...], str | None] = {}

    def __getitem__(self, index: int) -> str | None:
        kind = tuple(int(self._manifest.group_codes[group][index]) for group in ("trainer", "resources"))
        if kind not in self._known:
            spec = self._manifest.spec(index)
            self._known[kind] = None if spec.trainer.computes_model else speed_key(spec)
        return self._known[kind]


def _first_rows(manifest: Manifest) -> list[int]:
    """A row of each distinct trainer."""
    rows: list[int] = np.unique(manifest.group_codes["trainer"], return_index=True)[1].tolist()
    return rows


def _began_at(layout: Layout, worker: str) -> float | None:
    """When a worker's process began, as its spool says."""
    try:
        for line in read_spool(layout.spool(worker), SpoolHealth(), live=True):
            if line.header["kind"] == "worker":
                return float(line.header["started_at"])
    except OSError:
        return None
    return None
