"""Which Parquet files a sweep directory's tables lie in, and what its manifest says about the axes.

Reads nothing but file footers: opening a directory costs the same for a hundred runs and a million.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from analysis.data.axes import SEED
from orchestrator.store.compaction import METADATA_KEY as RUNS_METADATA_KEY
from orchestrator.store.digests import read_digests, require_intact
from orchestrator.store.frozen import require_frozen
from orchestrator.store.layout import FORMAT_VERSION, TABLES, Layout
from orchestrator.store.opening import require_known_format
from sweeps.grid.axes import Axis
from sweeps.grid.filters import as_text
from sweeps.manifest.manifest_file import FORMAT_VERSION as MANIFEST_VERSION
from sweeps.manifest.manifest_file import METADATA_KEY, axis_values
from sweeps.spec.errors import UserError
from sweeps.spec.plain_yaml import load_plain

DETAILS = tuple(dict.fromkeys((*TABLES, "logits")))
"""Tables that a sweep may hold; ``logits`` has one row per (run, model, text) with moments and histogram."""


_TABLE_FILE = re.compile(rf"(?:parts/)?({'|'.join(DETAILS)})(?:-\d+)?\.parquet")


@dataclass(frozen=True, kw_only=True)
class Source:
    """The readable files of one sweep directory at one moment."""

    directory: Path
    axes: tuple[Axis, ...]
    """Axes in YAML order, the seed last and always there."""
    columns: tuple[str, ...]
    """Axes that the tables have a column for: all, but for a seed that does not vary."""
    header: Mapping[str, Any]
    """What the manifest says of itself: sweep, axes, options, overrides, digest."""
    files: dict[str, tuple[Path, ...]]
    """Table name to its Parquet files."""
    unreadable: tuple[Path, ...]
    """Half-written or damaged Parquet files, which are left out."""
    asked: Mapping[str, Any]
    """Contents of ``sweep.yaml``: what was asked, with which versions, on which machine."""

    @property
    def is_of_earlier_grid(self) -> bool:
        """Whether the whole tables were written for another manifest, of which the sweep has been relaunched
        since: their ``index`` is of that one then, and only ``run_id`` says whose a row is.
        """
        runs = Layout(self.directory).table("runs")
        written = _digest_of_manifest(runs) if runs in self.files["runs"] else None
        return written is not None and written != self.header.get("digest")

    @property
    def manifest(self) -> Path:
        """The frozen list of runs."""
        return Layout(self.directory).manifest

    @property
    def toy_settings(self) -> tuple[str, ...]:
        """Settings for tiny models under which other models were trained or judged, as its launch named
        them.
        """
        named = self.asked.get("toy_settings")
        return tuple(text for text in named if isinstance(text, str)) if isinstance(named, list) else ()

    def require_intact(self, tables: Collection[str]) -> None:
        """Raise unless the files of these tables hold what was written to them, those that are gone included.

        Raises:
            DamagedError: naming the file and the fix.
        """
        layout = Layout(self.directory)
        digests = read_digests(layout)
        if digests is None:
            return
        found = {layout.root / name for name in digests if _table_of(name) in tables}
        found.update(path for table in tables for path in self.files[table])
        found.update(path for path in self.unreadable if _table_of(path.name) in tables)
        for path in sorted(found):
            require_intact(layout, path)


def _table_of(name: str) -> str:
    """The table that a Parquet file belongs to, by its name; empty for any other file."""
    found = _TABLE_FILE.fullmatch(name)
    return found[1] if found else ""


def find_source(directory: Path) -> Source:
    """Look at a sweep directory.

    Raises:
        UserError: when it is missing, is no sweep, or was written by a newer version.
    """
    require_known_format(Layout(directory))
    require_frozen(Layout(directory))
    asked = _asked(directory)
    manifest = Layout(directory).manifest
    schema = _schema(manifest)
    if schema is None:
        raise UserError(f"{manifest}: damaged or half written; mend it with: emsweep repair {directory}")
    header = _header(manifest, schema)
    axes = tuple(_axis(entry) for entry in header["axes"])
    files: dict[str, tuple[Path, ...]] = {}
    unreadable: list[Path] = []
    for table in DETAILS:
        good: list[Path] = []
        for path in _candidates(directory, table):
            (unreadable if _schema(path) is None else good).append(path)
        files[table] = tuple(good)
    return Source(
        directory=directory,
        axes=_with_seed(axes, manifest),
        columns=tuple(axis.key for axis in axes),
        header=header,
        files=files,
        unreadable=tuple(unreadable),
        asked=asked,
    )


def _asked(directory: Path) -> Mapping[str, Any]:
    path = Layout(directory).config
    try:
        asked = load_plain(path.read_bytes())
    except (yaml.YAMLError, ValueError, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: is not YAML ({why}); restore it or launch the sweep anew") from error
    version = asked.get("format", FORMAT_VERSION) if isinstance(asked, Mapping) else FORMAT_VERSION
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(
            f"{directory}: format {version} was written by a newer emsweep; this one reads up to "
            f"{FORMAT_VERSION}: upgrade emsweep"
        )
    return asked if isinstance(asked, Mapping) else {}


def _digest_of_manifest(runs: Path) -> str | None:
    """Digest of the manifest that ``runs.parquet`` was written for; ``None`` where it does not say."""
    text = (pq.read_schema(runs).metadata or {}).get(RUNS_METADATA_KEY)
    written = json.loads(text).get("manifest") if text else None
    return written if isinstance(written, str) else None


def _candidates(directory: Path, table: str) -> Iterator[Path]:
    layout = Layout(directory)
    if layout.table(table).is_file():
        yield layout.table(table)
    for path in sorted(layout.parts.glob(f"{table}-*.parquet")):
        if path.with_name(path.name.replace(table, "runs", 1)).is_file():  # else the part is not complete yet
            yield path


def _schema(path: Path) -> pa.Schema | None:
    """A Parquet file's columns; ``None`` where it cannot be read, or is not a table that we would write."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError):
        return None
    return schema if all(_is_ours(field) for field in schema) else None


def _is_ours(field: pa.Field) -> bool:
    """Whether a column that says which run a row is about has its type."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if field.name in ("index", "cell"):
        return pa.types.is_integer(kind)
    return (
        field.name not in ("run_id", "outcome") or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    )


def _header(manifest: Path, schema: pa.Schema) -> Mapping[str, Any]:
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise UserError(f"{manifest}: is not a manifest; its metadata lacks {METADATA_KEY.decode()!r}")
    try:
        header = json.loads(text)
        axes = [axis_values(entry) for entry in header["axes"]]
    except (KeyError, TypeError, ValueError):
        axes = None
    if axes is None:
        raise UserError(f"{manifest}: damaged; mend it with: emsweep repair {manifest.parent}")
    if header["version"] > MANIFEST_VERSION:
        raise UserError(
            f"{manifest}: format {header['version']} was written by a newer emsweep; this one reads up to "
            f"{MANIFEST_VERSION}: upgrade emsweep"
        )
    return header


def _axis(entry: Mapping[str, Any]) -> Axis:
    """An axis as tables hold it: lists and mappings are shown as JSON text, whole numbers of a float axis as
    floats.
    """
    values = axis_values(entry)
    if entry["kind"] == "str":
        values = [None if value is None else as_text(value) for value in values]
    elif entry["kind"] == "float":
        values = [None if value is None else float(value) for value in values]
    return Axis(key=entry["key"], values=tuple(values), kind=entry["kind"])


def _with_seed(axes: Sequence[Axis], manifest: Path) -> tuple[Axis, ...]:
    """The axes with the seed as the last; a sweep that does not vary the seed has it once."""
    if SEED in {axis.key for axis in axes}:
        return tuple(sorted(axes, key=lambda axis: axis.key == SEED))
    first = next(pq.ParquetFile(manifest).iter_batches(batch_size=1, columns=["spec.seed"]), None)
    values = tuple(first.column(0).to_pylist()) if first is not None else ()
    return (*axes, Axis(key=SEED, values=values, kind="int"))
