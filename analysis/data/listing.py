"""The sweeps of a folder, a row each: what ``sweeps("outputs")`` shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.sweep import SweepData
from orchestrator.store.layout import OUTCOMES, Layout
from sweeps.grid.axes import short_names
from sweeps.spec.errors import UserError

DEPTH = 3
"""Folders below the given one that are looked into: ``outputs/NAME`` and one or two of one's own between."""


def sweeps(folder: str | Path = "outputs") -> pd.DataFrame:
    """One row per sweep directory in or below ``folder``, the one that was written to last first.

    Columns: ``sweep`` (the folder's name), ``runs``, one count per outcome, ``axes``, ``about`` (the question
    that its file asks), ``changed`` (UTC), ``directory``, and ``problem`` where it cannot be read. Nothing is
    written, and no code of the sweeps is run.

    Raises:
        UserError: when there is no such folder.
    """
    if not Path(folder).is_dir():
        raise UserError(f"sweeps {str(folder)!r}: no such folder; give one that holds sweep directories")
    rows = sorted(map(_row, directories_in(Path(folder))), key=lambda row: row["changed"], reverse=True)
    columns = ["sweep", "runs", *OUTCOMES, "axes", "about", "changed", "directory", "problem"]
    frame = pd.DataFrame(rows, columns=columns)
    counts = ["runs", *OUTCOMES]
    return frame.astype(dict.fromkeys(counts, "Int64") | {"changed": "datetime64[us, UTC]"})


def directories_in(folder: Path) -> Iterator[Path]:
    """Sweep directories in or below a folder, by name; nothing inside of one is looked at."""
    for path, names, files in os.walk(folder):
        names.sort()
        if {"sweep.yaml", "manifest.parquet"} & set(files):
            names.clear()
            yield Path(path)
        elif len(Path(path).relative_to(folder).parts) >= DEPTH:
            names.clear()


def _row(directory: Path) -> dict[str, Any]:
    layout = Layout(directory)
    stamps = [p.stat().st_mtime for p in (layout.manifest, layout.spools, layout.status) if p.exists()]
    row: dict[str, Any] = {
        "sweep": directory.resolve().name,
        "changed": datetime.fromtimestamp(max(stamps, default=0.0), UTC),
        "directory": str(directory),
        "problem": None,
    }
    try:
        opened = SweepData.open(directory)
        counts = opened.counts()
    except UserError as error:
        return row | {"problem": str(error)}
    [source] = opened.sources
    about = source.asked.get("about") or source.header.get("about")
    axes = " × ".join(short_names(opened.axis_keys).values())
    row |= {str(outcome): counts.get(outcome, 0) for outcome in OUTCOMES}
    row |= {"runs": sum(counts.values()), "axes": axes, "about": about}
    return row
