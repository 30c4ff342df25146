"""Committed results as Parquet: parts while a sweep runs, whole tables at its end, all from the spools.

:mod:`orchestrator.store.layout` says which columns each table has.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.book import Book
from orchestrator.store.layout import FORMAT_VERSION, OUTCOMES, TABLES, Layout, write_atomically
from orchestrator.store.spool import Line, LineReader
from sweeps.manifest import Manifest
from trainers.protocol import RunResult

PART_RUNS = 2_000
"""Runs in a part: at 10 evaluations of 500 items its lists are about 200 MB before packing, which bounds
memory.
"""

PART_ITEM_ROWS = 2_500
"""Evaluations in a part, for the same reason, when runs are evaluated often."""

METADATA_KEY = b"emsweep"
"""Key of the schema metadata of ``runs.parquet``: JSON with the format's version and the manifest's digest.
"""

_COUNTS = ("correct", "strict", "boxed", "truncated", "tokens")
_WRITE = {"compression": "zstd", "compression_level": 1}


class PartWriter:
    """Turns result lines into numbered parts."""

    def __init__(self, layout: Layout, first_part: int = 0) -> None:
        self._layout = layout
        self._next = first_part
        self._clear()

    def _clear(self) -> None:
        self._runs: list[dict[str, Any]] = []
        self._steps: list[tuple[int, str, Sequence[Mapping[str, Any]]]] = []
        self._items: list[dict[str, Any]] = []
        self._rollouts: list[tuple] = []
        self._logits: list[dict[str, Any]] = []

    def add(self, index: int, line: Line) -> Mapping[str, Any]:
        """Take one committed result and return its metrics."""
        header, data = line.header, line.result()
        evaluations, rollouts, logits = data["evaluations"], data["rollouts"], data.get("logit_stats", ())
        result = RunResult.from_json({**data, "evaluations": (), "rollouts": (), "logit_stats": ()})
        run_id = header["run_id"]
        self._runs.append(
            {
                "index": index,
                "run_id": run_id,
                "outcome": header["outcome"],
                "attempt": header["attempt"],
                "worker": header["worker"],
                "host": header["host"],
                "finished_at": header["finished_at"],
                **result.metrics,
            }
        )
        self._steps.append((index, run_id, result.steps))
        self._items += [{"index": index, "run_id": run_id, **e} for e in evaluations]
        self._rollouts += [(index, run_id, r["step"], r["prompt"], r["text"], r["count"]) for r in rollouts]
        self._logits += [{"index": index, "run_id": run_id, **stats} for stats in logits]
        return result.metrics

    @property
    def is_full(self) -> bool:
        """Whether enough has gathered for a part."""
        return len(self._runs) >= PART_RUNS or len(self._items) >= PART_ITEM_ROWS

    def write_part(self) -> None:
        """Write what has gathered as one part; ``runs`` last, which makes the part count."""
        if not self._runs:
            return
        tables = {
            "steps": _steps_table(self._steps),
            "items": _items_table(self._items),
            "rollouts": _rollouts_table(self._rollouts),
            "logits": pa.Table.from_pydict(_columns(self._logits)),
            "runs": pa.Table.from_pydict(_columns(self._runs)),
        }
        for name, table in tables.items():
            if table.num_rows:
                _write(table.sort_by("index"), self._layout.part(name, self._next))
        self._next += 1
        self._clear()


def parts_of(layout: Layout, name: str) -> list[Path]:
    """The parts of a table that count, by number."""
    numbers = sorted(p.stem.rpartition("-")[2] for p in layout.parts.glob("runs-*.parquet"))
    paths = [layout.parts / f"{name}-{number}.parquet" for number in numbers]
    return [p for p in paths if p.exists()]


def drop_parts(layout: Layout) -> None:
    """Remove all parts."""
    for path in layout.parts.glob("*.parquet"):
        path.unlink()


def rebuild(layout: Layout, manifest: Manifest, book: Book) -> None:
    """Write the four tables from the spools alone."""
    drop_parts(layout)
    parts, lines = PartWriter(layout), LineReader(layout.spools)
    for index in range(len(book)):
        if book.committed(index):
            line = lines.read(book.spools[book.spool[index]], *book.place(index))
            if line is not None:
                parts.add(index, line)
                if parts.is_full:
                    parts.write_part()
    lines.close()
    parts.write_part()
    merge(layout, manifest, book)


def merge(layout: Layout, manifest: Manifest, book: Book) -> None:
    """Merge the parts into the four tables and drop them."""
    for name in TABLES[1:]:
        _merge_table(parts_of(layout, name), layout.table(name))
    write_runs(layout, manifest, book)
    drop_parts(layout)


def write_runs(layout: Layout, manifest: Manifest, book: Book) -> None:
    """Write ``runs.parquet``: one row per manifest run, with the metrics of the parts."""
    columns = ["index", "run_id", "name", "cell", *(axis.key for axis in manifest.axes)]
    table = pq.read_table(layout.manifest, columns=list(dict.fromkeys(columns))).replace_schema_metadata(None)
    outcome = np.frombuffer(book.outcome, dtype=np.uint8).astype(np.int32)
    table = table.append_column(
        "outcome", pa.DictionaryArray.from_arrays(outcome, pa.array(OUTCOMES)).cast(pa.string())
    )
    metrics = _concat([pq.read_table(path) for path in parts_of(layout, "runs")])
    rows = np.full(len(book), -1, dtype=np.int64)
    if metrics is not None:
        rows[metrics["index"].to_numpy()] = np.arange(metrics.num_rows)
        found = metrics.drop_columns(["index", "run_id", "outcome"]).take(pa.array(rows, mask=rows < 0))
    else:
        found = pa.table({k: pa.nulls(len(book), t) for k, t in _ATTEMPT_TYPES.items()})
    found = _with_failures(found, book)
    for key in found.column_names:
        if key not in table.column_names:
            table = table.append_column(key, found[key])
    header = json.dumps({"version": FORMAT_VERSION, "manifest": manifest.digest}).encode()
    _write(table.replace_schema_metadata({METADATA_KEY: header}), layout.table("runs"))


def is_current(layout: Layout, digest: str, book: Book) -> bool:
    """Whether ``runs.parquet`` was written for this manifest and says what the book says."""
    try:
        file = pq.ParquetFile(layout.table("runs"))
    except (OSError, pa.ArrowException):
        return False
    with file:
        header = json.loads((file.schema_arrow.metadata or {}).get(METADATA_KEY, b"{}"))
        if header.get("manifest") != digest or file.metadata.num_rows != len(book):
            return False
        outcomes = file.read(columns=["outcome"])["outcome"].combine_chunks().dictionary_encode()
    names = outcomes.dictionary.to_pylist()
    codes = np.array([OUTCOMES.index(name) for name in names], dtype=np.uint8)
    return bool((codes[outcomes.indices.to_numpy()] == np.frombuffer(book.outcome, dtype=np.uint8)).all())


_ATTEMPT_TYPES = {
    "attempt": pa.int64(),
    "worker": pa.string(),
    "host": pa.string(),
    "finished_at": pa.float64(),
}


def _with_failures(found: pa.Table, book: Book) -> pa.Table:
    """Fill the attempt's columns of runs that ended in failure, and add ``error`` and ``fingerprint``."""
    num = len(book)
    error: list[str | None] = [None] * num
    fingerprint: list[str | None] = [None] * num
    patches: dict[str, dict[int, Any]] = {"attempt": {}, "worker": {}, "finished_at": {}}
    for index, note in book.notes.items():
        if OUTCOMES[book.outcome[index]] in ("failed", "quarantined"):
            error[index], fingerprint[index] = note.failure.message, note.failure.fingerprint
            patches["attempt"][index] = note.attempt
            patches["worker"][index] = note.worker
            patches["finished_at"][index] = note.at
    for key, patch in patches.items():
        if patch:
            values = found[key].to_pylist()
            for index, value in patch.items():
                values[index] = value
            position = found.column_names.index(key)
            found = found.set_column(position, key, pa.array(values, _ATTEMPT_TYPES[key]))
    found = found.append_column("error", pa.array(error, pa.string()))
    return found.append_column("fingerprint", pa.array(fingerprint, pa.string()))


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, ``None`` where a row lacks a key; keys in order of first appearance."""
    columns: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        for key, value in row.items():
            column = columns.get(key)
            if column is None:
                column = columns[key] = [None] * number
            column.append(value)
        for column in columns.values():
            if len(column) == number:
                column.append(None)
    return columns


def _steps_table(runs: Sequence[tuple[int, str, Sequence[Mapping[str, Any]]]]) -> pa.Table:
    rows = ({"index": i, "run_id": run_id, **row} for i, run_id, steps in runs for row in steps)
    return pa.Table.from_pydict(_columns(rows))


def _items_table(rows: list[dict[str, Any]]) -> pa.Table:
    names = ("index", "run_id", "benchmark", "step", "mode", "temperature", "num_samples")
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in names}
    for name in _COUNTS:
        arrays = [_words(row[name]) for row in rows]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int32)
        np.cumsum([len(a) for a in arrays], out=offsets[1:])
        values = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int32)
        columns[name] = pa.ListArray.from_arrays(offsets, values)
    return pa.table(columns)


def _words(text: str) -> np.ndarray:
    """Inverse of :func:`trainers.protocol.pack_ints` as an int32 array."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u4").astype(np.int32)


def _rollouts_table(rows: list[tuple]) -> pa.Table:
    names = ("index", "run_id", "step", "prompt", "text", "count")
    return (
        pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))) if rows else pa.table({"index": []})
    )


def _concat(tables: list[pa.Table]) -> pa.Table | None:
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def _merge_table(parts: list[Path], target: Path) -> None:
    """Concatenate parts row group by row group, in constant memory; no part, no table."""
    if not parts:
        target.unlink(missing_ok=True)
        return
    schema = pa.unify_schemas([pq.read_schema(p) for p in parts], promote_options="permissive")
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with pq.ParquetWriter(temporary, schema, **_WRITE) as writer:
            for table in _aligned(parts, schema):
                writer.write_table(table)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _aligned(parts: list[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    for path in parts:
        table = pq.read_table(path)
        for field in schema:
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        yield table.select(schema.names).cast(schema)


def _write(table: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **_WRITE)
    write_atomically(path, sink.getvalue().to_pybytes())
