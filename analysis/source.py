"""Which Parquet files a sweep directory's tables lie in, and what its manifest says about the axes.

Reads nothing but file footers: opening a directory costs the same for a hundred runs and a million.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from analysis.axes import SEED, Axis
from orchestrator.errors import UserError
from orchestrator.store.layout import FORMAT_VERSION, TABLES, Layout


@dataclass(frozen=True, kw_only=True)
class Source:
    """The readable files of one sweep directory at one moment."""

    directory: Path
    """The sweep directory."""
    axes: tuple[Axis, ...]
    """Axes in YAML order."""
    files: dict[str, tuple[Path, ...]]
    """Table name to its Parquet files."""
    unreadable: tuple[Path, ...]
    """Half-written or damaged Parquet files, which are left out."""
    asked: Mapping[str, Any]
    """Contents of ``sweep.yaml``: what was asked, with which versions, on which machine."""

    @property
    def manifest(self) -> Path:
        """The frozen list of runs."""
        return Layout(self.directory).manifest


def find_source(directory: Path) -> Source:
    """Look at a sweep directory.

    Raises:
        UserError: when it is missing, is no sweep, or was written by a newer version.
    """
    Layout(directory).require_sweep()
    asked = _asked(directory)
    manifest = Layout(directory).manifest
    schema = _schema(manifest)
    if schema is None:
        raise UserError(f"{manifest}: damaged or half written; launch the sweep again to write it anew")
    files, unreadable = {}, []
    for table in TABLES:
        good = []
        for path in _candidates(directory, table):
            (unreadable if _schema(path) is None else good).append(path)
        files[table] = tuple(good)
    return Source(
        directory=directory,
        axes=_axes(manifest, schema),
        files=files,
        unreadable=tuple(unreadable),
        asked=asked,
    )


def _asked(directory: Path) -> Mapping[str, Any]:
    path = Layout(directory).config
    try:
        asked = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not YAML ({error}); restore it or launch the sweep anew") from error
    version = asked.get("format", FORMAT_VERSION) if isinstance(asked, Mapping) else FORMAT_VERSION
    if version > FORMAT_VERSION:
        raise UserError(
            f"{directory}: format {version} was written by a newer emsweep; this one reads up to "
            f"{FORMAT_VERSION}: upgrade emsweep"
        )
    return asked if isinstance(asked, Mapping) else {}


def _candidates(directory: Path, table: str) -> Iterator[Path]:
    layout = Layout(directory)
    if layout.table(table).is_file():
        yield layout.table(table)
    for path in sorted(layout.parts.glob(f"{table}-*.parquet")):
        if path.with_name(path.name.replace(table, "runs", 1)).is_file():  # else the part is not complete yet
            yield path


def _schema(path: Path) -> pa.Schema | None:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        return None


def _axes(manifest: Path, schema: pa.Schema) -> tuple[Axis, ...]:
    stored = (schema.metadata or {}).get(b"emsweep.axes")
    listed: list[dict[str, Any]] = json.loads(stored) if stored else []
    axes = [Axis(key=a["key"], values=tuple(a["values"]), kind=a["kind"]) for a in listed]
    if SEED not in {axis.key for axis in axes} and SEED in schema.names:
        seeds = pq.read_table(manifest, columns=[SEED]).column(SEED).unique().to_pylist()
        axes.append(Axis(key=SEED, values=tuple(sorted(seeds)), kind="int"))
    return tuple(sorted(axes, key=lambda axis: axis.key == SEED))
