"""A manifest as a Parquet file. Owns ``manifest.parquet``.

Columns: ``index`` int64 · ``run_id`` · ``name`` · ``cell`` int64 · one typed column per axis, named by its
Hydra key, null where the axis does not exist · ``spec.<group>`` for each group, its full configuration as
JSON · ``spec.steps``, ``spec.seed`` int64. Text columns are dictionary-encoded. The schema's metadata key
``emsweep`` holds JSON: format version, sweep, axes with their values in YAML order, options, overrides,
number of duplicates and the manifest's digest.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.filters import as_text
from sweeps.columns import ABSENT, Column
from sweeps.manifest import Manifest
from sweeps.spec import GROUPS, SpecError

FORMAT_VERSION = 1
"""Version of the file; a newer one is refused."""

METADATA_KEY = b"emsweep"
"""Key of the schema's metadata."""

CHUNK_ROWS = 100_000
"""Rows per row group: names are made for so many at a time, which bounds memory."""

_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "str": pa.dictionary(pa.int32(), pa.string()),
}


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write ``manifest`` to ``path`` by writing beside it and renaming."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    schema = _schema(manifest)
    names = manifest.names()
    try:
        with pq.ParquetWriter(
            temporary, schema, compression="zstd", use_dictionary=_dictionary_columns(schema)
        ) as writer:
            for start in range(0, len(manifest), CHUNK_ROWS):
                rows = slice(start, min(start + CHUNK_ROWS, len(manifest)))
                chunk_names = [next(names) for _ in range(rows.stop - rows.start)]
                writer.write_table(pa.table(_arrays(manifest, rows, chunk_names), schema=schema))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _schema(manifest: Manifest) -> pa.Schema:
    text = pa.dictionary(pa.int32(), pa.string())
    fields = [("index", pa.int64()), ("run_id", pa.string()), ("name", pa.string()), ("cell", pa.int64())]
    fields += [(c.key, _TYPES[c.kind]) for c in manifest.columns]
    fields += [(f"spec.{g}", text) for g in GROUPS] + [("spec.steps", pa.int64()), ("spec.seed", pa.int64())]
    header = {
        "version": FORMAT_VERSION,
        "sweep": manifest.sweep,
        "axes": [{"key": a.key, "kind": a.kind, "values": list(a.values)} for a in manifest.axes],
        "options": dict(manifest.options),
        "overrides": list(manifest.overrides),
        "duplicates": manifest.num_duplicates,
        "digest": manifest.digest,
    }
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(header, ensure_ascii=False).encode()})


def _dictionary_columns(schema: pa.Schema) -> list[str]:
    return [name for name in schema.names if name not in ("index", "run_id", "name")]


def _arrays(manifest: Manifest, rows: slice, names: list[str]) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "index": pa.array(np.arange(rows.start, rows.stop)),
        "run_id": pa.array(manifest.run_ids[rows], pa.string()),
        "name": pa.array(names, pa.string()),
        "cell": pa.array(manifest.cells[rows].astype(np.int64)),
    }
    for column in manifest.columns:
        arrays[column.key] = _axis_array(column, rows)
    for group in GROUPS:
        codes = pa.array(manifest.group_codes[group][rows], pa.int32())
        arrays[f"spec.{group}"] = pa.DictionaryArray.from_arrays(
            codes, pa.array(manifest.groups[group], pa.string())
        )
    arrays["spec.steps"] = pa.array(manifest.steps[rows])
    arrays["spec.seed"] = pa.array(manifest.seeds[rows])
    return arrays


def _axis_array(column: Column, rows: slice) -> pa.Array:
    codes = column.codes[rows]
    indices = pa.array(codes, pa.int32(), mask=codes == ABSENT)
    if column.kind == "str":
        texts = pa.array([None if v is None else as_text(v) for v in column.values], pa.string())
        return pa.DictionaryArray.from_arrays(indices, texts)
    return pa.array(list(column.values), _TYPES[column.kind]).take(indices)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest written by :func:`write_manifest`.

    Raises:
        SpecError: if the file is missing, is not a manifest, or was written by a newer version.
    """
    try:
        table = pq.read_table(path, read_dictionary=[f"spec.{g}" for g in GROUPS])
    except FileNotFoundError:
        raise SpecError(f"{path}: no such manifest; is this a sweep directory?") from None
    except (pa.ArrowException, OSError) as error:
        raise SpecError(f"{path}: is not a manifest ({error})") from None
    text = (table.schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise SpecError(f"{path}: is not a manifest; its metadata lacks {METADATA_KEY.decode()!r}")
    header = json.loads(text)
    if header["version"] > FORMAT_VERSION:
        raise SpecError(
            f"{path}: has format {header['version']}, newer than {FORMAT_VERSION}; upgrade emsweep"
        )
    groups, group_codes = {}, {}
    for group in GROUPS:
        encoded = _one_chunk(table[f"spec.{group}"].unify_dictionaries())
        groups[group] = tuple(encoded.dictionary.to_pylist())
        group_codes[group] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return Manifest(
        sweep=header["sweep"],
        run_ids=table["run_id"].to_pylist(),
        columns=tuple(_read_column(a, table) for a in header["axes"]),
        groups=groups,
        group_codes=group_codes,
        steps=table["spec.steps"].to_numpy(),
        seeds=table["spec.seed"].to_numpy(),
        cells=table["cell"].to_numpy(),
        options=header["options"],
        overrides=tuple(header["overrides"]),
        num_duplicates=header["duplicates"],
    )


def _one_chunk(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _read_column(axis: dict[str, Any], table: pa.Table) -> Column:
    """Codes are looked up in the axis's values, so that they keep their YAML order and type."""
    values = [float(v) if axis["kind"] == "float" and v is not None else v for v in axis["values"]]
    shown = [None if v is None else as_text(v) if axis["kind"] == "str" else v for v in values]
    lookup = pa.array(shown, pa.string() if axis["kind"] == "str" else _TYPES[axis["kind"]])
    stored = table[axis["key"]]
    plain = stored.cast(pa.string()) if axis["kind"] == "str" else stored
    found = pa.compute.index_in(plain, value_set=lookup.drop_null(), skip_nulls=True)
    codes = found.fill_null(ABSENT).to_numpy().astype(np.int32)
    return Column(key=axis["key"], values=tuple(values), kind=axis["kind"], codes=codes)
