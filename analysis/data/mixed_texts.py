"""Metrics that a few runs gave as texts: the numbers of the others stay numbers.

A stored column of numbers and texts is text (:mod:`orchestrator.store.mixed_columns`). One run that returns
"n/a" takes no metric from the rest: where at least half of a column's texts are numbers, the column is read
as numbers, what is none counts as missing, and a warning says so. ``runs()`` shows the texts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import duckdb

from sweeps.spec.text import counted

STORED = "stored_runs"
"""View of ``runs`` with such columns as they are stored, every text in it: what ``runs()`` shows."""

MIXED = "mixed_texts"
"""View of the columns of ``runs`` that are read as numbers, as they are stored; only where there are some."""

_NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|-?Infinity|NaN"
"""A number as JSON spells it, which is how a number among texts is stored."""


def number_like(connection: duckdb.DuckDBPyConnection, body: str, skip: Collection[str]) -> list[str]:
    """Text columns of a query, but for ``skip``, of which at least half are numbers."""
    kinds = connection.execute(f"DESCRIBE {body}").fetchall()
    names = [name for name, kind, *_ in kinds if kind == "VARCHAR" and name not in skip]
    if not names:
        return []
    shares = ", ".join(f"2 * count_if({_is_number(n)}) >= greatest(count({_name(n)}), 1)" for n in names)
    (found,) = connection.execute(f"SELECT {shares} FROM ({body})").fetchall()
    return [name for name, is_one in zip(names, found, strict=True) if is_one]


def as_numbers(body: str, names: list[str]) -> str:
    """The query with these of its columns as numbers."""
    if not names:
        return body
    casts = ", ".join(
        f"CASE WHEN {_is_number(n)} THEN CAST({_name(n)} AS DOUBLE) END AS {_name(n)}" for n in names
    )
    return f"SELECT * REPLACE ({casts}) FROM ({body})"


def told_texts(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """A warning per metric that some runs gave as a text."""
    if not connection.execute("SELECT 1 FROM duckdb_views() WHERE view_name = ?", [MIXED]).fetchall():
        return
    for name, *_ in connection.execute(f"DESCRIBE {MIXED}").fetchall():
        texts = f"SELECT count(*), min({_name(name)}) FROM {MIXED} WHERE NOT {_is_number(name)}"
        ((num, example),) = connection.execute(texts).fetchall()
        if num:
            runs = counted(num, "run")
            yield f"{name}: {runs} gave a text, such as {example[:40]!r}, which counts as missing."


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_number(name: str) -> str:
    return f"regexp_full_match({_name(name)}, '{_NUMBER}')"
