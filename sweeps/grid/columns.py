"""An expanded grid, column by column: a run is a row of small integer codes, one column an axis. Needs numpy,
nothing else.

A rule is so evaluated once per distinct value, never once per run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.grid.axes import Axis, Kind
from sweeps.grid.filters import Filter, as_text
from sweeps.spec import SpecError

ABSENT = -1
"""Code of an axis that does not exist for a run."""

SEED_KEY = "seed"
"""The axis that separates the runs of one cell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One axis of an expanded grid."""

    key: str
    values: tuple[Any, ...]
    kind: Kind
    codes: np.ndarray
    """Index into ``values`` of each run, int32, shape (runs,); :data:`ABSENT` where the axis does not exist.
    """

    @property
    def axis(self) -> Axis:
        return Axis(key=self.key, values=self.values, kind=self.kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """An expanded grid."""

    num_runs: int
    columns: tuple[Column, ...]
    """One per axis, in the order in which the axes were declared."""

    def take(self, rows: np.ndarray) -> Table:
        """Return the table of ``rows`` (indices, or a mask of shape (runs,))."""
        columns = tuple(dataclasses.replace(c, codes=c.codes[rows]) for c in self.columns)
        num = int(rows.sum()) if rows.dtype == bool else len(rows)
        return Table(num_runs=num, columns=columns)

    def select(self, condition: Filter) -> np.ndarray:
        """Return the mask of the runs that satisfy ``condition``, bool, shape (runs,)."""
        mask = np.ones(self.num_runs, dtype=bool)
        by_key = {c.key: c for c in self.columns}
        for term in condition.terms:
            column = by_key[term.key]
            # One verdict per distinct value, the last for "absent", which code -1 picks.
            verdicts = np.array([*(term.matches(v) for v in column.values), term.matches(None)])
            mask &= verdicts[column.codes]
        return mask

    def cells(self) -> np.ndarray:
        """Return each run's cell, numbered from 0 in column order, int64, shape (runs,)."""
        return combine([c.codes for c in self.columns if c.key != SEED_KEY], self.num_runs)


def column(key: str, values: Sequence[Any], codes: np.ndarray) -> Column:
    """Build a column; equal values share a code, whatever their place in the list."""
    kind = kind_of(key, values)
    plain = [float(v) if kind == "float" and v is not None else v for v in values]
    distinct: dict[str, int] = {}
    recode = [distinct.setdefault(spelling(v), len(distinct)) for v in plain]
    firsts = {code: v for v, code in reversed(list(zip(plain, recode, strict=True)))}
    table = np.array([*recode, ABSENT], dtype=np.int32)
    return Column(
        key=key, values=tuple(firsts[i] for i in range(len(distinct))), kind=kind, codes=table[codes]
    )


def column_of_runs(key: str, given: Sequence[Any]) -> Column:
    """Build a column from the value that each run has; ``None`` is that the axis does not exist for it."""
    exists = np.array([value is not None for value in given], dtype=bool)
    codes = np.where(exists, np.cumsum(exists) - 1, ABSENT).astype(np.int32)
    return column(key, [value for value in given if value is not None], codes)


def spelling(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def combine(codes: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    """Number the distinct rows of ``codes`` from 0 in lexicographic order; int64, shape (rows,)."""
    joint = np.zeros(num_rows, dtype=np.int64)
    for column in codes:
        width = int(column.max(initial=0)) + 2
        _, joint = np.unique(joint * width + column + 1, return_inverse=True)
    return joint


def kind_of(key: str, values: Sequence[Any]) -> Kind:
    """Return the one kind of ``values``; ``None`` fits every kind.

    Raises:
        SpecError: if text, truth values and numbers are mixed.
    """
    kinds: set[Kind] = {_kind(v) for v in values if v is not None}
    if kinds == {"int", "float"}:
        return "float"
    if len(kinds) > 1:
        shown = ", ".join(as_text(v) for v in values[:6])
        raise SpecError(f"axis {key}: the values {shown} mix {' and '.join(sorted(kinds))}; use one type")
    return kinds.pop() if kinds else "str"


def _kind(value: Any) -> Kind:
    if isinstance(value, bool):
        return "bool"
    kinds: dict[type, Kind] = {int: "int", float: "float"}
    return kinds.get(type(value), "str")
