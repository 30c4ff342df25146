"""Finished runs of a sweep directory, as the mirror copies them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.mirror.target import FinishedRun
from orchestrator.store.digests import ABSENT, read_digests, require_intact
from orchestrator.store.layout import Layout
from sweeps.manifest.manifest_file import read_manifest
from sweeps.spec import spec_to_dict

BATCH_RUNS = 1000
"""Runs whose steps are read at once: about 100,000 rows at 100 steps."""

TRIES = 4
"""Times that files may vanish under a reader: a sweep merges its parts once, at its end."""

RESULTS = ("done", "diverged")
"""Outcomes that are mirrored."""

_BOOKKEEPING = ("index", "run_id", "name", "cell", "outcome", "error", "fingerprint", "finished_at")


def finished(layout: Layout) -> list[dict[str, Any]]:
    """Rows of ``runs`` that hold a result, one per run, in manifest order."""
    rows: dict[str, dict[str, Any]] = {}
    for table in _read(layout, "runs"):
        results = table.filter(pc.is_in(table["outcome"], pa.array(RESULTS)))
        rows |= {row["run_id"]: row for row in results.to_pylist()}
    return sorted(rows.values(), key=lambda row: row["index"])


def read_runs(layout: Layout, rows: Sequence[Mapping[str, Any]]) -> Iterator[FinishedRun]:
    """Read the runs behind ``rows``, a batch at a time."""
    manifest = read_manifest(layout.manifest)
    for start in range(0, len(rows), BATCH_RUNS):
        batch = rows[start : start + BATCH_RUNS]
        histories = _histories(layout, [row["index"] for row in batch])
        for row in batch:
            axes = manifest.axis_values(row["index"])
            kept = {k: v for k, v in row.items() if k not in (*_BOOKKEEPING, *axes) and v is not None}
            yield FinishedRun(
                run_id=row["run_id"],
                name=row.get("name") or manifest.name(row["index"]),
                cell=row.get("cell", int(manifest.cells[row["index"]])),
                axes=axes,
                config=spec_to_dict(manifest.spec(row["index"])),
                summary={**kept, "outcome": row["outcome"]},
                steps=histories.get(row["index"], ()),
                finished_at=row.get("finished_at") or 0.0,
            )


def _read(layout: Layout, name: str, filters: Any = None) -> list[pa.Table]:
    """The files of a table; looked up again when the sweep has merged them between looking and reading."""
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            return [_intact(layout, path, filters) for path in _table_files(layout, name)]
    return [_intact(layout, path, filters) for path in _table_files(layout, name)]


def _intact(layout: Layout, path: Path, filters: Any) -> pa.Table:
    require_intact(layout, path)
    return pq.read_table(path, filters=filters)


def _table_files(layout: Layout, table: str) -> list[Path]:
    parts = [
        part
        for part in sorted(layout.parts.glob(f"{table}-*.parquet"))
        if part.with_name(part.name.replace(table, "runs", 1)).exists()
    ]
    recorded = (read_digests(layout) or {}).get(f"{table}.parquet")
    must_be_there = recorded is not None and ABSENT not in recorded.sha256  # gone then means lost
    whole = layout.table(table)
    return [*([whole] if must_be_there or whole.exists() else []), *parts]


def _histories(layout: Layout, indexes: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Recorded steps of some runs, each in order, without what is absent or not a number."""
    histories: dict[int, dict[int, dict[str, Any]]] = {}
    chosen = [("index", "in", set(indexes))]
    for table in _read(layout, "steps", chosen):
        for row in table.to_pylist():
            values = {k: v for k, v in row.items() if k not in ("index", "run_id") and is_number(v)}
            histories.setdefault(row["index"], {})[row["step"]] = values
    return {index: [rows[step] for step in sorted(rows)] for index, rows in histories.items()}


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not (isinstance(value, float) and not math.isfinite(value))
