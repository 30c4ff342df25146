"""A manifest as a Parquet file. Owns ``manifest.parquet``.

Columns: ``index`` int64 · ``run_id`` · ``name`` · ``cell`` int64 · one typed column per axis, named by its
Hydra key, null where the axis does not exist · ``spec.<group>`` for each group, its full configuration as
JSON · ``spec.steps``, ``spec.seed`` int64. Text columns are dictionary-encoded. The schema's metadata key
``emsweep`` holds JSON: format version, sweep, axes with their values in YAML order (``values``, or ``range``
as start, stop, step), options, overrides, number of duplicates and the manifest's digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.grid.columns import ABSENT, Column
from sweeps.grid.filters import as_text
from sweeps.manifest import arrow
from sweeps.manifest.atomic import replacing
from sweeps.manifest.manifest import Manifest
from sweeps.spec import GROUPS, SpecError, canonical_json, group_to_dict, group_type

FORMAT_VERSION = 2
"""Version of the file; a newer one is refused. Version 1 had no ranges."""

METADATA_KEY = b"emsweep"
"""Key of the schema's metadata."""

MIN_RANGE = 64
"""Shortest range of whole numbers that is written as one."""

CHUNK_ROWS = 25_000
"""Rows per row group: so many are written or read at a time, which bounds memory to about 10 MiB."""

_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "str": pa.dictionary(pa.int32(), pa.string()),
}


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write ``manifest`` to ``path``: whole, and on the disk once it returns."""
    schema = _schema(manifest)
    names = manifest.names()
    repetitive = [name for name in schema.names if name not in ("index", "run_id", "name")]
    packing = {"compression": "zstd", "use_dictionary": repetitive}
    with replacing(path, durable=True) as temporary, pq.ParquetWriter(temporary, schema, **packing) as writer:
        for start in range(0, len(manifest), CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, len(manifest)))
            chunk_names = [next(names) for _ in range(rows.stop - rows.start)]
            writer.write_table(pa.table(_arrays(manifest, rows, chunk_names), schema=schema))


def _schema(manifest: Manifest) -> pa.Schema:
    text = pa.dictionary(pa.int32(), pa.string())
    fields = [("index", pa.int64()), ("run_id", pa.string()), ("name", pa.string()), ("cell", pa.int64())]
    fields += [(c.key, _TYPES[c.kind]) for c in manifest.columns]
    fields += [(f"spec.{g}", text) for g in GROUPS] + [("spec.steps", pa.int64()), ("spec.seed", pa.int64())]
    header = {
        "version": FORMAT_VERSION,
        "sweep": manifest.sweep,
        "axes": [{"key": a.key, "kind": a.kind, **_written_values(a.values)} for a in manifest.axes],
        "options": dict(manifest.options),
        "overrides": list(manifest.overrides),
        "duplicates": manifest.num_duplicates,
        "digest": manifest.digest,
    }
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(header, ensure_ascii=False).encode()})


def _written_values(values: Sequence[Any]) -> dict[str, Any]:
    """An axis's values as the header has them: a long range by its ends, for Arrow copies headers often."""
    if len(values) >= MIN_RANGE and all(type(v) is int for v in values):
        found = range(values[0], values[-1] + 1, max(1, values[1] - values[0]))
        if len(found) == len(values) and all(a == b for a, b in zip(found, values, strict=True)):
            return {"range": [found.start, found.stop, found.step]}
    return {"values": list(values)}


def axis_values(entry: Mapping[str, Any]) -> list[Any]:
    """The values of an axis of the header, in YAML order."""
    return list(range(*entry["range"])) if "range" in entry else entry["values"]


def _arrays(manifest: Manifest, rows: slice, names: list[str]) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "index": arrow.numbers(np.arange(rows.start, rows.stop)),
        "run_id": arrow.texts(manifest.run_ids[rows]),
        "name": arrow.texts(names),
        "cell": arrow.numbers(manifest.cells[rows].astype(np.int64)),
    }
    for column in manifest.columns:
        arrays[column.key] = _axis_array(column, rows)
    for group in GROUPS:
        codes = arrow.numbers(manifest.group_codes[group][rows].astype(np.int32))
        arrays[f"spec.{group}"] = pa.DictionaryArray.from_arrays(codes, arrow.texts(manifest.groups[group]))
    arrays["spec.steps"] = arrow.numbers(manifest.steps[rows])
    arrays["spec.seed"] = arrow.numbers(manifest.seeds[rows])
    return arrays


def _axis_array(column: Column, rows: slice) -> pa.Array:
    codes = column.codes[rows]
    indices = arrow.numbers(codes.astype(np.int32), missing=codes == ABSENT)
    if column.kind == "str":
        return pa.DictionaryArray.from_arrays(indices, _values(column.kind, column.values))
    return _values(column.kind, column.values).take(indices)


def _values(kind: str, values: Sequence[Any]) -> pa.Array:
    """The values of an axis in the type of its column, text for ``str``."""
    if kind == "str":
        return arrow.texts([None if v is None else as_text(v) for v in values])
    return arrow.array(values).cast(_TYPES[kind])


def read_manifest(source: Path | BinaryIO) -> Manifest:
    """Read a manifest written by :func:`write_manifest`, from its file or from its bytes.

    Raises:
        SpecError: if the file is missing, is not a manifest, is damaged, or was written by a newer version.
    """
    header = _header(source)
    try:
        return _read(source, header)
    except (KeyError, TypeError, ValueError, IndexError, OSError, pa.ArrowException) as error:
        raise SpecError(
            f"{_name(source)}: is damaged ({error}); mend it with: emsweep repair {_folder(source)}"
        ) from None


def _name(source: Path | BinaryIO) -> str:
    return str(source) if isinstance(source, Path) else "the journals' manifest"


def _folder(source: Path | BinaryIO) -> str:
    return str(source.parent) if isinstance(source, Path) else "DIR"


def _read(path: Path | BinaryIO, header: Mapping[str, Any]) -> Manifest:
    names = pq.read_schema(path).names
    written = [g for g in GROUPS if f"spec.{g}" in names]
    with pq.ParquetFile(path, read_dictionary=[f"spec.{g}" for g in written]) as file:
        num = file.metadata.num_rows
        run_ids: list[str] = []
        numbers = {name: np.empty(num, dtype=np.int64) for name in ("cell", "spec.steps", "spec.seed")}
        groups = {g: _Codes(num) for g in written}
        axes = [_AxisReader(entry, num) for entry in header["axes"]]
        for chunk in range(file.num_row_groups):
            table = file.read_row_group(chunk, use_threads=False)
            rows = slice(len(run_ids), len(run_ids) + table.num_rows)
            run_ids += table["run_id"].to_pylist()
            for name, column in numbers.items():
                column[rows] = arrow.as_numpy(table[name])
            for group, codes in groups.items():
                codes.add(rows, _one_chunk(table[f"spec.{group}"]))
            for axis in axes:
                axis.add(rows, table[axis.key])
    for group in (g for g in GROUPS if g not in groups):  # it came after the file was written
        groups[group] = _Codes.of_defaults(group, num)
    return Manifest(
        sweep=header["sweep"],
        run_ids=run_ids,
        columns=tuple(axis.column() for axis in axes),
        groups={g: tuple(c.values) for g, c in groups.items()},
        group_codes={g: c.codes for g, c in groups.items()},
        steps=numbers["spec.steps"],
        seeds=numbers["spec.seed"],
        cells=numbers["cell"],
        options=header["options"],
        overrides=tuple(header["overrides"]),
        num_duplicates=header["duplicates"],
    )


def _header(source: Path | BinaryIO) -> dict[str, Any]:
    path = _name(source)
    try:
        schema = pq.read_schema(source)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such manifest; is this a sweep directory?") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise SpecError(f"{path}: is not a manifest ({why})") from None
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise SpecError(f"{path}: is not a manifest; its metadata lacks {METADATA_KEY.decode()!r}")
    try:
        header: dict[str, Any] = json.loads(text)
        is_newer = header["version"] > FORMAT_VERSION
    except (KeyError, TypeError, ValueError):
        raise SpecError(f"{path}: is damaged; mend it with: emsweep repair {_folder(source)}") from None
    if is_newer:
        raise SpecError(
            f"{path}: has format {header['version']}, newer than {FORMAT_VERSION}; upgrade emsweep"
        )
    return header


class _Codes:
    """A group's distinct configurations, and each run's, gathered chunk by chunk."""

    def __init__(self, num: int) -> None:
        self.values: dict[str, int] = {}
        self.codes = np.empty(num, dtype=np.int32)

    @classmethod
    def of_defaults(cls, group: str, num: int) -> _Codes:
        found = cls(num)
        found.values[canonical_json(group_to_dict(group_type(group)()))] = 0
        found.codes[:] = 0
        return found

    def add(self, rows: slice, chunk: pa.DictionaryArray) -> None:
        recode = [self.values.setdefault(text, len(self.values)) for text in chunk.dictionary.to_pylist()]
        self.codes[rows] = np.array(recode, dtype=np.int32)[arrow.as_numpy(chunk.indices)]


def _one_chunk(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


class _AxisReader:
    """One axis: codes are looked up in its values, so that they keep their YAML order and type."""

    def __init__(self, entry: dict[str, Any], num: int) -> None:
        self.key, self._kind = entry["key"], entry["kind"]
        is_float = self._kind == "float"
        self._values = [float(v) if is_float and v is not None else v for v in axis_values(entry)]
        self._lookup = _values(self._kind, self._values)
        self._codes = np.empty(num, dtype=np.int32)

    def add(self, rows: slice, stored: pa.ChunkedArray) -> None:
        plain = stored.cast(pa.string()) if self._kind == "str" else stored
        found = pa.compute.index_in(plain, value_set=self._lookup, skip_nulls=True)
        self._codes[rows] = arrow.as_numpy(found, null=ABSENT)

    def column(self) -> Column:
        return Column(key=self.key, values=tuple(self._values), kind=self._kind, codes=self._codes)
