"""What the columns of a table are called, whatever names its trainers chose.

SQL knows no case: ``loss`` and ``Loss`` are one column there, and asked for the one it would answer with
the other. So names that differ in case only are one column, spelled as it came first. A name that is taken,
by what is known of every run or by an axis, is put into a namespace of its own: a metric ``seed`` is the
column ``metric.seed``, as is the second of two names of one result that differ in case only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

NAMESPACE = "metric."

_OF_EVERY_RUN = (
    *("index", "run_id", "name", "cell", "seed", "sweep", "outcome", "attempt", "worker", "host"),
    *("finished_at", "numerics", "error", "fingerprint"),
    *("copy", "sweep_order", "age"),
)
"""Columns that say which run it is and how it went, and those by which readers merge tables."""


class ColumnNames:
    """Names of one table's columns, given as results come."""

    def __init__(self, axis_keys: Iterable[str] = ()) -> None:
        self._taken = {name.lower() for name in (*_OF_EVERY_RUN, *axis_keys)}
        self._spelled: dict[str, str] = {}
        self._given: dict[str, str] = {}
        self._as_given: set[str] = set()

    def know(self, columns: Iterable[str]) -> None:
        """Spell as they are those columns that were written before."""
        for column in columns:
            self._spelled.setdefault(column.lower(), column)

    def row(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values under the names of their columns."""
        if self._as_given.issuperset(values):
            return values
        given = self._given
        row = {given.get(name) or self._give(name): value for name, value in values.items()}
        return row if len(row) == len(values) else self._apart(values)

    def _give(self, name: str) -> str:
        column = NAMESPACE + name if name.lower() in self._taken else name
        self._given[name] = self._spelled.setdefault(column.lower(), column)
        if self._given[name] == name:
            self._as_given.add(name)
        return self._given[name]

    def _apart(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Like :meth:`row` where two names mean one column."""
        row: dict[str, Any] = {}
        for name, value in values.items():
            column, apart = self._given[name], name
            while column in row:
                apart = NAMESPACE + apart
                column = self._spelled.setdefault(apart.lower(), apart)
            row[column] = value
        return row
