"""The whole tables: what the parts hold, put together when a driver ends, or anew from the spools.

Both go through the runs a few thousand at a time, so that a sweep of a million needs no more memory than one
of ten thousand.
"""

from __future__ import annotations

import contextlib
import json
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.digest_writer import Replacement
from orchestrator.store.digests import damage_of, recorded_damage
from orchestrator.store.index_reader import results_of
from orchestrator.store.layout import FORMAT_VERSION, OUTCOMES, TABLES, Layout
from orchestrator.store.mixed_columns import conform, unified
from orchestrator.store.parts import COMPRESSION, PartWriter, drop_parts, parts_of, read_part
from orchestrator.store.run_index import RunIndex
from orchestrator.store.spool import LineReader
from sweeps.manifest import arrow
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import DamagedError

METADATA_KEY = b"emsweep"
"""Key of the schema metadata of ``runs.parquet``: JSON with the format's version, the manifest's digest and,
under ``tables``, an object for each other table that was written with it: its number of ``rows``.
"""

PAGE_BYTES = 64 * 2**10
"""Size of a page: each column buffers one, and Arrow's default of 1 MiB adds up."""

_OF_ATTEMPT = {
    "attempt": pa.int64(),
    "worker": pa.string(),
    "host": pa.string(),
    "finished_at": pa.float64(),
}
"""Columns that a failed run has too."""

_OF_FAILURE = {"error": pa.string(), "fingerprint": pa.string()}


def rebuild(layout: Layout, manifest: Manifest, book: RunIndex) -> None:
    """Write the tables from the spools alone."""
    drop_parts(layout)
    parts, lines = PartWriter(layout, [axis.key for axis in manifest.axes]), LineReader(layout.spools)
    for index, line in results_of(book, lines):
        parts.add(index, line)
        if parts.is_full:
            parts.write_part()
    lines.close()
    parts.write_part()
    merge(layout, manifest, book)


def merge(layout: Layout, manifest: Manifest, book: RunIndex) -> None:
    """Merge the parts into the tables and drop them."""
    with Replacement(layout) as change:
        num_rows = {
            name: num
            for name in TABLES[1:]
            if (num := _merge_table(change, parts_of(layout, name), layout.table(name)))
        }
        _write_runs(layout, manifest, book, change.writing(layout.table("runs")), num_rows)
        change.removing(layout.parts.glob("*.parquet"))


def _write_runs(
    layout: Layout, manifest: Manifest, book: RunIndex, target: Path, num_rows: Mapping[str, int]
) -> None:
    """Write ``runs.parquet``: one row per manifest run, with the metrics of the parts; it says how many rows
    the other tables have.
    """
    asked = dict.fromkeys(["index", "run_id", "name", "cell", *(axis.key for axis in manifest.axes)])
    metrics = _Metrics(parts_of(layout, "runs"), len(book), apart={*asked, "outcome", *_OF_FAILURE})
    failed = sorted(i for i in book.notes if OUTCOMES[book.outcome[i]] in ("failed", "quarantined"))
    tables = {name: {"rows": num} for name, num in num_rows.items()}
    facts = {"version": FORMAT_VERSION, "manifest": manifest.digest, "tables": tables}
    header = json.dumps(facts).encode()
    with pq.ParquetFile(layout.manifest) as source:
        own = [source.schema_arrow.field(name) for name in asked]
        fields = {field.name: field for field in own} | {"outcome": pa.field("outcome", pa.string())}
        for field in (*metrics.schema, *map(pa.field, _OF_FAILURE, _OF_FAILURE.values())):
            fields.setdefault(field.name, field)
        schema = pa.schema(fields.values(), metadata={METADATA_KEY: header})
        repeated = [f.name for f in schema if _is_text(f.type) and f.name not in ("run_id", "name")]
        options = {"use_dictionary": repeated, "data_page_size": PAGE_BYTES}  # both for less memory
        with _written(target, schema, **options) as writer:
            start = 0
            for group in range(source.num_row_groups):
                table = source.read_row_group(group, [f.name for f in own], use_threads=False)
                rows = range(start, start + table.num_rows)
                columns = {name: table[name] for name in table.column_names}
                found = metrics.read(rows)
                notes = failed[bisect_left(failed, rows.start) : bisect_left(failed, rows.stop)]
                columns |= {"outcome": _outcomes(book, rows)} | _with_failures(found, rows, notes, book)
                writer.write_table(pa.table([columns[name] for name in schema.names], schema=schema))
                start = rows.stop


class _Metrics:
    """The parts of ``runs``, to be read in the order of the manifest."""

    def __init__(self, paths: list[Path], num_runs: int, apart: Collection[str]) -> None:
        self._paths = paths
        self._part_of = np.full(num_runs, -1, dtype=np.int32)
        for number, path in enumerate(paths):
            self._part_of[arrow.as_numpy(read_part(path, ["index"])["index"])] = number
        found = [pq.read_schema(path) for path in paths]
        union = unified(found) if found else pa.schema([])
        fields = {name: pa.field(name, kind) for name, kind in _OF_ATTEMPT.items()}
        fields |= {f.name: f for f in union if f.name not in apart}
        self.schema = pa.schema(fields.values())
        """Every column of any part, ``apart`` from those that the manifest and the book tell."""

    def read(self, rows: range) -> dict[str, pa.ChunkedArray]:
        """Columns for ``rows`` of the manifest, null where a run has no result."""
        numbers = np.unique(self._part_of[rows.start : rows.stop])
        with_index = self.schema.insert(0, pa.field("index", pa.int64()))
        tables = [conform(read_part(self._paths[n]), with_index) for n in numbers[numbers >= 0]]
        table = pa.concat_tables(tables) if tables else conform(pa.table({}), with_index)
        index = arrow.as_numpy(table["index"])
        inside = np.flatnonzero((index >= rows.start) & (index < rows.stop))
        places = np.full(len(rows), -1, dtype=np.int64)
        places[index[inside] - rows.start] = inside
        taken = table.take(arrow.numbers(places, missing=places < 0))
        return {name: taken[name] for name in self.schema.names}


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def _outcomes(book: RunIndex, rows: range) -> pa.Array:
    codes = np.frombuffer(book.outcome, dtype=np.uint8)[rows.start : rows.stop].astype(np.int32)
    return pa.DictionaryArray.from_arrays(arrow.numbers(codes), arrow.texts(OUTCOMES)).cast(pa.string())


def _with_failures(
    found: dict[str, pa.ChunkedArray], rows: range, failed: list[int], book: RunIndex
) -> dict[str, Any]:
    """Fill the attempt's columns of runs that ended in failure, and add ``error`` and ``fingerprint``."""
    columns: dict[str, Any] = {**found, **{k: pa.nulls(len(rows), t) for k, t in _OF_FAILURE.items()}}
    if not failed:
        return columns
    patched = {k: columns[k].to_pylist() for k in ("attempt", "worker", "finished_at", *_OF_FAILURE)}
    for index in failed:
        note, place = book.notes[index], index - rows.start
        values = (note.attempt, note.worker, note.at, note.failure.message, note.failure.fingerprint)
        for column, value in zip(patched.values(), values, strict=True):
            column[place] = value
    types = _OF_ATTEMPT | _OF_FAILURE
    return columns | {k: arrow.array(v, k).cast(types[k]) for k, v in patched.items()}


def is_current(layout: Layout, digest: str, book: RunIndex) -> bool:
    """Whether ``runs.parquet`` was written for this manifest and says what the book says, and no table is
    missing or cut off.
    """
    try:
        if any(damage_of(layout, path) for path in map(layout.table, TABLES) if path.exists()):
            return False
        rows = {name: _num_rows(layout, name) for name in TABLES}
        file = pq.ParquetFile(layout.table("runs"))
    except (OSError, pa.ArrowException, DamagedError):
        return False
    with file:
        header = _facts(file.schema_arrow)
        written = header.get("tables", {})
        if header.get("manifest") != digest or file.metadata.num_rows != len(book):
            return False
        if missing_tables(layout, book) or any(
            rows[name] != facts["rows"] for name, facts in written.items()
        ):
            return False
        outcomes = file.read(columns=["outcome"])["outcome"].combine_chunks().dictionary_encode()
    names = outcomes.dictionary.to_pylist()
    codes = np.array([OUTCOMES.index(name) for name in names], dtype=np.uint8)
    return bool(
        (codes[arrow.as_numpy(outcomes.indices)] == np.frombuffer(book.outcome, dtype=np.uint8)).all()
    )


def missing_tables(layout: Layout, book: RunIndex) -> list[str]:
    """Tables that have rows and no file.

    ``runs.parquet`` says which there were. Where it is gone, or of format 1, the results are looked through
    until it is clear.
    """
    absent = [name for name in TABLES if not layout.table(name).exists()]
    if not absent:
        return []
    written = None
    if not recorded_damage(layout, layout.table("runs")):
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            written = _facts(pq.read_schema(layout.table("runs"))).get("tables")
    with_rows = set(written) if written is not None else set(_tables_with_rows(layout, book, absent))
    return [name for name in absent if name == "runs" or name in with_rows]


_KEYS = {"steps": "steps", "items": "evaluations", "rollouts": "rollouts", "logits": "logit_stats"}
"""Key of a result that holds the rows of each table."""


def _tables_with_rows(layout: Layout, book: RunIndex, names: Sequence[str]) -> Iterator[str]:
    """Those of the tables that any committed result has rows for."""
    left = {name: f'"{_KEYS[name]}":[{{'.encode() for name in names if name in _KEYS}
    lines = LineReader(layout.spools)
    for index in range(len(book)):
        if not left:
            break
        if not book.committed(index):
            continue
        line = lines.read(book.spools[book.spool[index]], *book.location(index))
        for name in [n for n, mark in left.items() if line is not None and mark in (line.body or b"")]:
            del left[name]
            yield name
    lines.close()


def _facts(schema: pa.Schema) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    return found


def _num_rows(layout: Layout, name: str) -> int | None:
    """Rows of a table by its footer; ``None`` when it is not there."""
    path = layout.table(name)
    return int(pq.read_metadata(path).num_rows) if path.exists() else None


def _merge_table(change: Replacement, parts: list[Path], target: Path) -> int:
    """Write the parts one after the other as one file, and return its rows; no part, no table."""
    if not parts:
        change.removing([target])
        return 0
    schema = unified([pq.read_schema(p) for p in parts])
    num_rows = 0
    with _written(change.writing(target), schema) as writer:
        for path in parts:
            table = conform(read_part(path), schema)
            writer.write_table(table)
            num_rows += table.num_rows
    return num_rows


def _written(target: Path, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """A writer of ``target`` row group by row group."""
    return pq.ParquetWriter(target, schema, **COMPRESSION, **options)
