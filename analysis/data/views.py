"""The SQL views ``runs``, ``steps``, ``items`` and ``rollouts`` over a sweep's Parquet files.

Each view carries the axes of the run, so that one ``GROUP BY`` answers a question; DuckDB reads only the
columns used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from analysis.data.axes import SEED
from analysis.data.mixed_texts import MIXED, STORED, as_numbers, number_like
from analysis.data.source import DETAILS, Source
from sweeps.grid.axes import Axis
from sweeps.grid.filters import as_text

IDENTITY = (
    "sweep",
    "index",
    "run_id",
    "name",
    "cell",
    "outcome",
    "attempt",
    "worker",
    "host",
    "finished_at",
    "numerics",
)
"""Columns of ``runs`` that say which run it is and how it went."""

FAILURE = ("error", "fingerprint")
"""Columns of ``runs`` that are null unless the run failed."""

_NUMERIC = ("BIGINT", "INTEGER", "DOUBLE", "FLOAT", "HUGEINT", "UBIGINT", "SMALLINT", "TINYINT", "UINTEGER")


def quoted(names: Iterable[str]) -> str:
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(value: Any) -> str:
    """SQL literal that compares equal, bit for bit, with a stored axis value."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.17e}"  # exponent notation is read as a double; plain decimals are not
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def finite_sql(metric: str) -> str:
    """SQL for a metric as a number, null where it is missing, NaN or infinite."""
    return f"CASE WHEN isfinite({quoted([metric])}::DOUBLE) THEN {quoted([metric])}::DOUBLE END"


def column_names(connection: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    return [row[0] for row in connection.execute(f"DESCRIBE {view}").fetchall()]


def in_order(names: Sequence[str], axis_keys: Sequence[str]) -> list[str]:
    """Columns of ``runs``: which run, how it went, axes, results, and last what went wrong."""
    first = [name for name in (*IDENTITY, *axis_keys) if name in names]
    last = [name for name in FAILURE if name in names]
    return [*first, *(name for name in names if name not in (*first, *last)), *last]


def metric_columns(connection: duckdb.DuckDBPyConnection, axis_keys: Sequence[str]) -> list[str]:
    skip = {*IDENTITY, *FAILURE, *axis_keys, SEED}
    rows = connection.execute("DESCRIBE runs").fetchall()
    return [name for name, kind, *_ in rows if name not in skip and kind in _NUMERIC]


def confinement(sources: Sequence[Source]) -> Iterator[str]:
    """Yield the statements after which the database reads these sweeps' files, and touches no other.

    Whatever a crafted value might make of a query, no file is written or read by it, and no extension loaded.
    It cannot be undone while the database is open.
    """
    files = [
        f for source in sources for f in (source.manifest, *(p for t in source.files.values() for p in t))
    ]
    yield f"SET GLOBAL allowed_paths = [{', '.join(literal(str(path)) for path in files)}]"
    yield "SET GLOBAL enable_external_access = false"


def definitions(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], axes: Sequence[Axis], predicate: str
) -> Iterator[str]:
    names = labels(sources)
    selects = [_runs_of(connection, s, label, axes) for s, label in zip(sources, names, strict=True)]
    union = " UNION ALL BY NAME ".join(selects)
    if len(sources) > 1:
        # The same run_id is the same science: a finished copy wins, then the first directory named.
        finished = "outcome IN ('done', 'diverged')"
        rank = f"row_number() OVER (PARTITION BY run_id ORDER BY {finished} DESC, sweep_order)"
        order = " ".join(f"WHEN {literal(label)} THEN {i}" for i, label in enumerate(names))
        yield (
            f"CREATE TEMP VIEW copies AS SELECT * FROM ({union}) WHERE {finished} "
            "QUALIFY count(*) OVER (PARTITION BY run_id) > 1"
        )
        union = (
            f"SELECT * EXCLUDE (sweep_order, copy) FROM (SELECT *, {rank} AS copy FROM "
            f"(SELECT *, CASE sweep {order} END AS sweep_order FROM ({union}))) WHERE copy = 1"
        )
    axis_keys = [axis.key for axis in axes]
    skip = {*IDENTITY, *FAILURE, *axis_keys, SEED, "state"}
    body = f"SELECT * FROM ({union}) WHERE {predicate}"
    if mixed := number_like(connection, f"SELECT * FROM ({union})", skip):
        yield f"CREATE TEMP VIEW {MIXED} AS SELECT {quoted(mixed)} FROM ({body})"
    yield f"CREATE TEMP VIEW {STORED} AS {body}"
    yield f"CREATE TEMP VIEW runs AS {as_numbers(body, mixed)}"
    keys = quoted(axis_keys)
    for table in (name for name in DETAILS if name != "runs"):
        parts = [
            f"SELECT {literal(label)} AS sweep, * {_renamed(source.files[table])} FROM "
            f"{_rows_of(source, table)}"
            for source, label in zip(sources, names, strict=True)
            if source.files[table]
        ]
        if parts:
            axes_of = f"SELECT sweep, index, outcome{', ' + keys if keys else ''} FROM runs"
            body = " UNION ALL BY NAME ".join(parts)
            mixed = number_like(connection, body, skip) if table == "steps" else []
            yield f"CREATE TEMP VIEW raw_{table} AS {as_numbers(body, mixed)}"
            joined = f"raw_{table} JOIN ({axes_of}) USING (sweep, index)"
            yield f"CREATE TEMP VIEW {table} AS SELECT * FROM {joined}"
        else:
            yield f"CREATE TEMP VIEW {table} AS SELECT sweep, index, run_id, 0 AS step FROM runs WHERE false"


def labels(sources: Sequence[Source]) -> list[str]:
    """Name of each source in the column ``sweep``: its folder's, or the whole path where two folders are
    alike.
    """
    names = [source.directory.resolve().name for source in sources]
    return [
        name if names.count(name) == 1 else str(s.directory) for name, s in zip(names, sources, strict=True)
    ]


def _read(files: Sequence[Path]) -> str:
    listed = ", ".join(literal(str(path)) for path in files)
    return f"read_parquet([{listed}], union_by_name = true)"


def _rows_of(source: Source, table: str) -> str:
    """The rows of a table besides ``runs``, each with the index of its run in the manifest."""
    rows = _read(source.files[table])
    if not source.is_of_earlier_grid:
        return rows
    manifest = f"SELECT run_id, index AS place FROM read_parquet({literal(str(source.manifest))})"
    places = f"SELECT t.* REPLACE (m.place AS index) FROM {rows} t JOIN ({manifest}) m USING (run_id)"
    return f"({places})"


def _renamed(files: Sequence[Path]) -> str:
    """``model`` of the logits table says base or tuned; it is called ``state`` beside the axis ``model``."""
    return "RENAME (model AS state)" if "model" in pq.read_schema(files[0]).names else ""


def _runs_of(connection: duckdb.DuckDBPyConnection, source: Source, label: str, axes: Sequence[Axis]) -> str:
    columns = source.columns
    files = source.files["runs"]
    if len(files) == 1 and files[0].name == "runs.parquet" and not source.is_of_earlier_grid:
        body = f"SELECT * FROM {_read(files)}"
    else:
        body = _unfinished(source)
    fixed, ruled = "", ""
    for axis in (axis for axis in axes if axis.key not in columns):
        stored, values = f"spec.{axis.key.partition('.')[0]}", _configured(connection, source, axis)
        if len(set(map(literal, values.values()))) <= 1:
            fixed += f", {literal(next(iter(values.values()), None))} AS {quoted([axis.key])}"
        else:  # a rule of the sweep file sets it for some runs
            cases = " ".join(f"WHEN {literal(text)} THEN {literal(v)}" for text, v in values.items())
            ruled += f", CASE {quoted([stored])} {cases} END AS {quoted([axis.key])}"
    if ruled:
        manifest = f"SELECT index{ruled} FROM read_parquet({literal(str(source.manifest))})"
        body = f"SELECT * FROM ({body}) JOIN ({manifest}) USING (index)"
    return f"SELECT {literal(label)} AS sweep, *{fixed} FROM ({body})"


def _unfinished(source: Source) -> str:
    """Runs of a sweep that is under way: the manifest says which there are, the parts what came of some.

    A part holds results only: no axes, and no row for a run that has none. The last word on a run wins.
    """
    known = ("index", "run_id", "name", "cell", *source.columns)
    runs = f"SELECT {quoted(known)} FROM read_parquet({literal(str(source.manifest))})"
    files = source.files["runs"]
    if not files:
        return f"SELECT *, 'pending' AS outcome FROM ({runs})"
    recorded = {name for path in files for name in pq.read_schema(path).names}
    results = [name for name in sorted(recorded) if name not in (*known, "outcome")]
    # A part without an outcome column holds results that are all in.
    outcome = "coalesce(outcome, 'done')" if "outcome" in recorded else "'done'"
    key = "run_id" if source.is_of_earlier_grid else "index"
    rows = f"SELECT {key}, {outcome} AS outcome, {quoted(results)} FROM {_read(files)}"
    age = "finished_at DESC" if "finished_at" in results else key
    latest = f"row_number() OVER (PARTITION BY {key} ORDER BY outcome = 'pending', {age})"
    newest = f"SELECT * EXCLUDE (age) FROM (SELECT *, {latest} AS age FROM ({rows})) WHERE age = 1"
    return (
        f"SELECT m.*, coalesce(r.outcome, 'pending') AS outcome, r.* EXCLUDE ({key}, outcome) "
        f"FROM ({runs}) m LEFT JOIN ({newest}) r ON m.{key} = r.{key}"
    )


def _configured(connection: duckdb.DuckDBPyConnection, source: Source, axis: Axis) -> dict[Any, Any]:
    """Values that a sweep gives to a key that is no axis of it, by what the runs' frozen specs store of the
    key's group, spelt as the sweep that varies the key spells them. As a rule there is one.
    """
    group, _, field = axis.key.partition(".")
    column = f"spec.{group}"
    path = literal(str(source.manifest))
    if column not in column_names(connection, f"(SELECT * FROM read_parquet({path}))"):
        return {}
    stored = connection.execute(f"SELECT DISTINCT {quoted([column])} FROM read_parquet({path})").fetchall()
    return {text: _value_in(text, field, axis) for (text,) in stored}


def _value_in(stored: Any, field: str, axis: Axis) -> Any:
    if not isinstance(stored, str):
        return stored
    value = json.loads(stored)
    for part in (field or "name").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return as_text(value) if axis.kind == "str" and value is not None else value
