"""Copy finished runs into Weights & Biases, offline by default, each exactly once.

Owns ``wandb/`` inside the sweep directory: W&B's own run folders, and ``wandb/mirrored.txt``, one run_id a
line, written once a run is closed. A call that dies is resumed by the next one; the folder it left open is
removed. An offline run costs about 70 ms, so this stays off the path of the sweep itself.

W&B reads its key from the environment or its own login; the key is never handled here.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.errors import UserError
from orchestrator.store.layout import Layout
from sweeps.filters import as_text
from sweeps.manifest import Manifest
from sweeps.spec import spec_to_dict

BATCH_RUNS = 1000
"""Runs whose steps are read at once: about 100,000 rows at 100 steps."""

MAX_TAG = 64
"""W&B refuses longer tags."""

RESULTS = ("done", "diverged")
"""Outcomes that are mirrored."""

_BOOKKEEPING = ("index", "run_id", "name", "cell", "outcome", "error", "fingerprint", "finished_at")


@dataclass(frozen=True, kw_only=True)
class MirrorReport:
    """What one call did."""

    new: int
    """Runs copied by this call."""
    already: int
    """Runs that an earlier call had copied."""


def mirror_sweep(
    directory: Path,
    *,
    project: str,
    entity: str | None = None,
    online: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MirrorReport:
    """Copy every finished run that is not mirrored yet.

    Args:
        directory: the sweep directory.
        project: W&B project.
        entity: W&B team or user; ``None`` takes the login's own.
        online: upload at once instead of writing offline folders for ``wandb sync``.
        progress: called with (runs copied, runs to copy).

    Raises:
        UserError: when the directory is no sweep, or wandb is not installed.
    """
    layout = Layout(directory)
    layout.require_sweep()
    wandb = _import_wandb()
    folder = directory / "wandb"
    folder.mkdir(exist_ok=True)
    ledger = folder / "mirrored.txt"
    mirrored = set(ledger.read_text().split()) if ledger.exists() else set()
    runs = _finished(layout)
    todo = [run for run in runs if run["run_id"] not in mirrored]
    _remove_unfinished(folder, {run["run_id"] for run in todo})
    settings = wandb.Settings(
        mode="online" if online else "offline",
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
    )
    specs = _specs(layout.manifest)
    with ledger.open("a") as written:
        for start in range(0, len(todo), BATCH_RUNS):
            batch = todo[start : start + BATCH_RUNS]
            histories = _histories(layout, [run["index"] for run in batch])
            for done, run in enumerate(batch, start=start + 1):
                config, axes = specs(run["index"])
                copy = wandb.init(
                    project=project,
                    entity=entity,
                    dir=str(directory),
                    id=run["run_id"],
                    name=run["name"],
                    group=f"cell {run['cell']}",
                    tags=[f"{key}={as_text(value)}"[:MAX_TAG] for key, value in axes.items()],
                    config={"axes": axes, **config},
                    settings=settings,
                    reinit="create_new",
                )
                for row in histories.get(run["index"], ()):
                    copy.log({k: v for k, v in row.items() if k != "step"}, step=row["step"])
                copy.summary.update(_summary(run, axes))
                copy.finish(exit_code=0)
                written.write(run["run_id"] + "\n")
                written.flush()
                os.fsync(written.fileno())
                progress(done, len(todo))
    return MirrorReport(new=len(todo), already=len(runs) - len(todo))


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "mirror needs wandb, which is not installed: pip install 'emsweep[mirror]'"
        ) from error
    return wandb


def _table_files(layout: Layout, table: str) -> list[Path]:
    parts = [
        part
        for part in sorted(layout.parts.glob(f"{table}-*.parquet"))
        if part.with_name(part.name.replace(table, "runs", 1)).exists()
    ]
    return [path for path in (layout.table(table), *parts) if path.exists()]


def _finished(layout: Layout) -> list[dict[str, Any]]:
    """Rows of ``runs`` that hold a result, one per run, in manifest order."""
    rows: dict[str, dict[str, Any]] = {}
    for path in _table_files(layout, "runs"):
        table = pq.read_table(path)
        results = table.filter(pc.is_in(table["outcome"], pa.array(RESULTS)))
        rows |= {row["run_id"]: row for row in results.to_pylist()}
    return sorted(rows.values(), key=lambda row: row["index"])


def _specs(manifest: Path) -> Callable[[int], tuple[dict[str, Any], dict[str, Any]]]:
    """Return a function from a run's index to its (nested configuration, axis values)."""
    runs = Manifest.read(manifest)

    def look_up(index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        return spec_to_dict(runs.spec(index)), runs.axis_values(index)

    return look_up


def _histories(layout: Layout, indexes: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Recorded steps of some runs, each in order, without what is absent or not a number."""
    histories: dict[int, dict[int, dict[str, Any]]] = {}
    chosen = [("index", "in", set(indexes))]
    for path in _table_files(layout, "steps"):
        for row in pq.read_table(path, filters=chosen).to_pylist():
            values = {k: v for k, v in row.items() if k not in ("index", "run_id") and _is_number(v)}
            histories.setdefault(row["index"], {})[row["step"]] = values
    return {index: [rows[step] for step in sorted(rows)] for index, rows in histories.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not (isinstance(value, float) and not math.isfinite(value))


def _summary(run: Mapping[str, Any], axes: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in run.items() if k not in (*_BOOKKEEPING, *axes) and v is not None}
    return {**kept, "outcome": run["outcome"], "cell": run["cell"]}


def _remove_unfinished(folder: Path, run_ids: set[str]) -> None:
    """Delete offline folders of runs that were being copied when an earlier call died."""
    for path in _run_folders(folder):
        if path.name.rsplit("-", 1)[-1] in run_ids:
            shutil.rmtree(path)


def _run_folders(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.glob("*run-*-*") if path.is_dir() and not path.is_symlink())
