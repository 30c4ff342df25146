"""Sweep directories of any grid that the language can express, with planted values instead of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest_file import write_manifest

EXAMPLES = Path(__file__).parents[1] / "examples"


def write_grid(
    folder: Path,
    file: Path,
    values: Callable[[Mapping[str, Any], np.random.Generator], Mapping[str, Any]],
    *words: str,
    outcome: Callable[[Mapping[str, Any]], str] = lambda axes: "done",
) -> Path:
    """Write the manifest of a sweep file and a table of runs.

    Args:
        values: a run's metrics, of its axes; ``None`` where it has none.
        words: of the command line.
        outcome: of a run, of its axes.
    """
    manifest = build_manifest(compose_sweep([f"sweep={file}", *words]))
    folder.mkdir(parents=True)
    write_manifest(manifest, folder / "manifest.parquet")
    (folder / "sweep.yaml").write_text(f"format: 1\nname: {file.stem}\n")
    rng = np.random.default_rng(0)
    rows = pq.read_table(folder / "manifest.parquet").select(
        ["index", "run_id", "name", "cell", *(axis.key for axis in manifest.axes)]
    )
    results = []
    for number in range(len(manifest)):
        axes = manifest.axis_values(number)
        found = dict(values(axes, rng))
        came = outcome(axes)
        results.append(
            {"outcome": came, "attempt": 0.0, **(found if came == "done" else dict.fromkeys(found))}
        )
    for name in dict.fromkeys(key for row in results for key in row):
        column = [row.get(name) for row in results]
        kind = pa.string() if name == "outcome" else pa.float64()
        rows = rows.append_column(name, pa.array(column, kind))
    pq.write_table(rows, folder / "runs.parquet")
    return folder
