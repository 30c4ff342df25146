"""Committed results as Parquet parts: a few thousand runs a part, written while a sweep goes on.

:mod:`orchestrator.store.layout` says which columns each table has.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store.column_names import ColumnNames
from orchestrator.store.digest_writer import Replacement, remove_recorded
from orchestrator.store.digests import damage_of, recorded_damage
from orchestrator.store.layout import TABLES, Layout
from orchestrator.store.mixed_columns import column
from orchestrator.store.run_index import RunIndex
from orchestrator.store.spool import Line
from sweeps.manifest import arrow
from trainers.run_result import numerics_of, scalars_from_json

PART_RUNS = 2_000
"""Runs in a part: at 10 evaluations of 500 items its lists are about 200 MB before packing, which bounds
memory.
"""

PART_ITEM_ROWS = 2_500
"""Evaluations in a part, for the same reason, when runs are evaluated often."""

PART_S = 10.0
"""Seconds after which what has gathered is written anyway, for readers of a sweep whose runs are slow."""

PART_SHARE = 1 / 8
"""… if it is at least this share of what was written before: some eighty parts at most come before the first
full one, however slow the runs.
"""

COMPRESSION = {"compression": "zstd", "compression_level": 1}
"""Of every table: level 1 is as fast as the disk and halves the size."""

_COUNTS = ("correct", "strict", "boxed", "truncated", "tokens")


class PartWriter:
    """Turns result lines into numbered parts."""

    def __init__(self, layout: Layout, axis_keys: Collection[str] = ()) -> None:
        """Write below ``layout``, after the parts that are there.

        Args:
            axis_keys: keys of the sweep's axes, which no result may be called by.
        """
        self._layout = layout
        self._next = 1 + max(map(_number_of, layout.parts.glob("runs-*.parquet")), default=-1)
        self._run_names, self._step_names = ColumnNames(axis_keys), ColumnNames(axis_keys)
        for table, names in (("runs", self._run_names), ("steps", self._step_names)):
            for path in parts_of(layout, table):
                names.know(pq.read_schema(path).names)
        self._num_written = 0
        self._waiting_since_s: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._runs: list[dict[str, Any]] = []
        self._steps: list[tuple[int, str, Sequence[Mapping[str, Any]]]] = []
        self._items: list[dict[str, Any]] = []
        self._rollouts: list[tuple[Any, ...]] = []
        self._logits: list[dict[str, Any]] = []

    def add(self, index: int, line: Line) -> Mapping[str, Any]:
        """Take one committed result and return its metrics."""
        header, data = line.header, line.result()
        evaluations, rollouts, logits = data["evaluations"], data["rollouts"], data.get("logit_stats", ())
        metrics, steps = scalars_from_json(data)
        run_id = header["run_id"]
        identity = {
            "index": index,
            "run_id": run_id,
            "outcome": header["outcome"],
            "attempt": header["attempt"],
            "worker": header["worker"],
            "host": header["host"],
            "finished_at": header["finished_at"],
            "numerics": numerics_of(data["layout"]),
        }
        self._runs.append({**identity, **self._run_names.row(metrics)})
        self._steps.append((index, run_id, [self._step_names.row(row) for row in steps]))
        self._items += [{"index": index, "run_id": run_id, **e} for e in evaluations]
        self._rollouts += [(index, run_id, r["step"], r["prompt"], r["text"], r["count"]) for r in rollouts]
        self._logits += [{"index": index, "run_id": run_id, **stats} for stats in logits]
        return metrics

    @property
    def is_full(self) -> bool:
        """Whether enough has gathered for a part."""
        return len(self._runs) >= PART_RUNS or len(self._items) >= PART_ITEM_ROWS

    def is_due(self, now_s: float) -> bool:
        """Whether readers have waited long enough for what has gathered; ``now_s`` is a monotonic time."""
        if len(self._runs) < max(1.0, PART_SHARE * self._num_written):
            return False
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        return now_s - self._waiting_since_s >= PART_S

    def write_part(self) -> None:
        """Write what has gathered as one part; ``runs`` last, which makes the part count."""
        if not self._runs:
            return
        tables = {
            "steps": _steps_table(self._steps),
            "items": _items_table(self._items),
            "rollouts": _rollouts_table(self._rollouts),
            "logits": _table(_columns(self._logits)),
            "runs": _table(_finished_first(_columns(self._runs), self._runs)),
        }
        with Replacement(self._layout) as change:
            for name, table in tables.items():
                if table.num_rows:
                    _write(table.sort_by("index"), change.writing(self._layout.part(name, self._next)))
        self._next += 1
        self._num_written += len(self._runs)
        self._waiting_since_s = None
        self._clear()


def _finished_first(columns: dict[str, list[Any]], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The columns in the order in which finished runs name them: tables are about what is named first, which
    a run that diverged early may not have.
    """
    named = chain.from_iterable(row for row in rows if row["outcome"] == "done")
    return {key: columns[key] for key in dict.fromkeys(chain(named, columns))}


def parts_of(layout: Layout, name: str) -> list[Path]:
    """The parts of a table that count, by number."""
    numbers = sorted(p.stem.rpartition("-")[2] for p in layout.parts.glob("runs-*.parquet"))
    paths = [layout.parts / f"{name}-{number}.parquet" for number in numbers]
    return [p for p in paths if p.exists()]


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a part, or some of its columns, in this thread."""
    with pq.ParquetFile(path) as file:
        return file.read(columns, use_threads=False)


def _number_of(part: Path) -> int:
    return int(part.stem.rpartition("-")[2])


def kept_parts(layout: Layout, book: RunIndex) -> set[int]:
    """The runs whose committed results are in the parts that a driver before has left, so that readers have
    them on; of parts any of which is damaged, or says other than the journals, none is left.
    """
    held: set[int] = set()
    for path in parts_of(layout, "runs"):
        beside = [layout.part(table, _number_of(path)) for table in TABLES]
        try:
            damaged = any(damage_of(layout, p) for p in beside if p.exists() or recorded_damage(layout, p))
            rows = [] if damaged else read_part(path, ["index", "run_id", "worker"]).to_pylist()
        except (OSError, pa.ArrowException, KeyError):
            damaged, rows = True, []
        found = {row["index"] for row in rows if _is_committed(book, **row)}
        if damaged or len(found) < len(rows) or held & found:
            drop_parts(layout)
            return set()
        held |= found
    return held


def _is_committed(book: RunIndex, index: int, run_id: str, worker: str) -> bool:
    """Whether a worker's result is the one that counts for a run of the manifest."""
    known = index < len(book) and book.run_ids[index] == run_id and book.committed(index)
    return known and book.spools[book.spool[index]] == f"{worker}.jsonl"


def drop_parts(layout: Layout) -> None:
    """Remove all parts."""
    paths = list(layout.parts.glob("*.parquet"))
    if paths:
        remove_recorded(layout, paths)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, ``None`` where a row lacks a key; keys in order of first appearance."""
    return {key: [row.get(key) for row in rows] for key in dict.fromkeys(chain.from_iterable(rows))}


def _steps_table(runs: Sequence[tuple[int, str, Sequence[Mapping[str, Any]]]]) -> pa.Table:
    identity: dict[str, list[Any]] = {
        "index": [index for index, _, steps in runs for _ in steps],
        "run_id": [run_id for _, run_id, steps in runs for _ in steps],
    }
    return _table({**identity, **_columns([row for *_, steps in runs for row in steps])})


def _table(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    return pa.table({name: column(values, name) for name, values in columns.items()})


def _items_table(rows: list[dict[str, Any]]) -> pa.Table:
    names = ("index", "run_id", "benchmark", "step", "mode", "temperature", "num_samples")
    columns = {name: arrow.array([row[name] for row in rows], name) for name in names}
    for name in _COUNTS:
        arrays = [_words(row[name]) for row in rows]
        values = np.concatenate([np.zeros(0, dtype=np.int32), *arrays])
        columns[name] = arrow.lists([len(a) for a in arrays], arrow.numbers(values))
    return pa.table(columns)


def _words(text: str) -> np.ndarray:
    """Inverse of :func:`trainers.run_result.pack_ints` as an int32 array."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u4").astype(np.int32)


def _rollouts_table(rows: list[tuple[Any, ...]]) -> pa.Table:
    names = ("index", "run_id", "step", "prompt", "text", "count")
    return _table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {})


def _write(table: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **COMPRESSION)
    path.write_bytes(sink.getvalue())
