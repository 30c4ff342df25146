"""The runs of a sweep as plain arrays: axes as level numbers, metrics as floats.

What tables group and average. A run costs one to four bytes per axis and eight per metric, so a million runs
are kept for as long as the sweep is open, and grouping them is a look-up where SQL would hash text anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.data.axes import SEED
from analysis.data.frames import to_frame
from analysis.data.groups import Groups
from analysis.data.views import finite_sql, quoted
from orchestrator.store.layout import OUTCOMES
from sweeps.grid.axes import Axis
from sweeps.grid.filters import Term
from sweeps.spec.errors import UserError

SPARSE = 4
"""Possible combinations of levels per run up to which groups are found by counting, beyond it by sorting."""

MAX_GROUPINGS = 8
"""Ways of grouping all runs that are remembered: 8 MB each for a million runs."""

BATCH_STEPS = 500_000
"""Rows of ``steps`` read at once (12 MB)."""

STEP_VALUES = 32_000_000
"""Values of a step metric held at once (256 MB): 2,400 steps of 13,440 runs, 32 of a million."""

MAX_STEP_METRICS = 3
"""Step metrics that are remembered: what one page of curves draws."""


class RunArrays:
    """One snapshot of a sweep's runs, in the order of the manifest; metrics are read when first asked for."""

    def __init__(
        self,
        arrow: Callable[[str], pa.Table],
        batches: Callable[[str, int], Iterator[pa.Table]],
        axes: Sequence[Axis],
        sources: Sequence[str],
    ) -> None:
        """Read identities and axes.

        Args:
            arrow: runs SQL over the views of :mod:`analysis.data.views`.
            batches: the same in tables of at most so many rows.
            sources: values of the column ``sweep``.
        """
        self._arrow, self._batches = arrow, batches
        self._axes, self._sources = tuple(axes), tuple(sources)
        self._size: int | None = None
        self.wider: tuple[RunArrays, np.ndarray] | None = None
        """The arrays that these were taken out of, and their rows there."""
        self._forget()
        table = self._read([quoted([name]) for name in ("outcome", *(axis.key for axis in axes))])
        self._levels: dict[str, pa.Array] = {}
        for axis in axes:
            self._levels[axis.key], self._codes[axis.key] = _encode(table[axis.key], axis)
        outcome = Axis(key="outcome", values=OUTCOMES, kind="str")
        self._levels["outcome"], self._codes["outcome"] = _encode(table["outcome"], outcome)
        self._levels["sweep"] = pa.array(sources)
        several = len(sources) > 1
        self._codes["sweep"] = (
            _source_numbers(table["sweep"], sources) if several else np.zeros(len(table), dtype=np.int8)
        )
        self._rows: list[np.ndarray] | None = self._rows_by_index(table["index"].to_numpy())

    def where(self, terms: Iterable[Term]) -> RunArrays:
        """The runs that satisfy every term of a filter, taken out of these arrays instead of read anew."""
        rows = np.flatnonzero(self.selected(terms))
        narrowed = copy(self)
        narrowed._size, narrowed.wider = len(rows), (self, rows)
        narrowed._forget()
        return narrowed

    def _forget(self) -> None:
        self._codes: dict[str, np.ndarray] = {}
        self._groups: dict[tuple[str, ...], Groups] = {}
        self._metrics: dict[str, np.ndarray] = {}
        self._steps: dict[str, list[tuple[int, np.ndarray]]] = {}
        self._recorded_steps: np.ndarray | None = None
        self._rows = None

    def __len__(self) -> int:
        assert self._size is not None
        return self._size

    @property
    def identity(self) -> str:
        """SQL columns that :meth:`locate` needs of any view."""
        return "sweep, index" if len(self._sources) > 1 else "index"

    @property
    def cell_keys(self) -> list[str]:
        return [axis.key for axis in self._axes if axis.key != SEED]

    def levels(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Values of an axis that runs have, numbers ascending; and the place of each run's value among them.

        Shapes (L,) and (R,).
        """
        codes, levels = self._code(key), self._levels[key].to_numpy(zero_copy_only=False)
        used = np.zeros(len(levels), dtype=bool)
        used[codes] = True
        return levels[used], codes if used.all() else (np.cumsum(used, dtype=codes.dtype) - 1)[codes]

    def _code(self, key: str) -> np.ndarray:
        """Number of each run's level of an axis, of ``outcome`` or of ``sweep``; shape (R,)."""
        if key not in self._codes and self.wider is not None:
            wider, rows = self.wider
            self._codes[key] = wider._code(key)[rows]
        return self._codes[key]

    def is_outcome(self, *names: str) -> np.ndarray:
        """Whether each run came out as one of these; shape (R,)."""
        return self.selected([Term(key="outcome", op="=", values=names)])

    def load(self, metrics: Sequence[str]) -> None:
        """Read these metrics in one go, where they are not here yet."""
        new = [name for name in dict.fromkeys(metrics) if name not in self._metrics]
        if self.wider is not None:
            wider, rows = self.wider
            wider.load(new)
            self._metrics |= {name: wider.metric(name)[rows] for name in new}
        elif new:
            table = self._read([f"{finite_sql(name)} AS {quoted([name])}" for name in new])
            for name in new:
                self._metrics[name] = table[name].to_numpy()

    def metric(self, name: str) -> np.ndarray:
        """A metric of each run, NaN where it is missing or not finite; shape (R,)."""
        self.load([name])
        return self._metrics[name]

    def step_values(self, metric: str) -> Iterator[tuple[int, np.ndarray]]:
        """Each step at which a column of ``steps`` has values, ascending, and its value in each run.

        Arrays of shape (R,), NaN where a run has none.
        """
        if self.wider is not None:
            wider, rows = self.wider
            for step, value in wider.step_values(metric):
                yield step, value[rows]
        elif metric in self._steps:
            yield from self._steps[metric]
        else:
            yield from self._read_steps(metric)

    def _read_steps(self, metric: str) -> Iterator[tuple[int, np.ndarray]]:
        if self._recorded_steps is None:
            self._recorded_steps = np.sort(
                self._arrow("SELECT DISTINCT step FROM raw_steps")["step"].to_numpy()
            )
        steps = self._recorded_steps
        at_once = max(1, STEP_VALUES // max(1, len(self)))
        known = f"SELECT {self.identity}, step, {finite_sql(metric)} AS value FROM raw_steps"
        for start in range(0, len(steps), at_once):
            part = steps[start : start + at_once]
            values_TR = np.full((len(part), len(self)), np.nan)
            between = f"step BETWEEN {part[0]} AND {part[-1]}"
            sql = f"SELECT * FROM ({known}) WHERE value IS NOT NULL AND {between}"
            for batch in self._batches(sql, BATCH_STEPS):
                row = self.locate(batch)
                ours = row >= 0
                column = np.searchsorted(part, batch["step"].to_numpy()[ours])
                values_TR[column, row[ours]] = batch["value"].to_numpy()[ours]
            has_value = ~np.isnan(values_TR).all(axis=1)
            read = list(zip(part[has_value].tolist(), values_TR[has_value], strict=True))
            if len(part) == len(steps):
                self._steps[metric] = read
                if len(self._steps) > MAX_STEP_METRICS:
                    del self._steps[next(iter(self._steps))]
            yield from read

    def rows(self, sql: str) -> pa.Table:
        """Rows of the snapshot that a query selects; :meth:`locate` says which runs they are of."""
        return self._arrow(sql)

    def per_run(self, sql: str) -> dict[str, np.ndarray]:
        """Numbers that a query has one row per run for, by column: arrays of shape (R,), NaN for no row.

        The query selects :attr:`identity` and the numbers.
        """
        table = self.rows(sql)
        row = self.locate(table)
        values = {}
        for name in table.column_names:
            if name not in ("sweep", "index"):
                values[name] = np.full(len(self), np.nan)
                values[name][row[row >= 0]] = table[name].to_numpy()[row >= 0]
        return values

    def group(self, keys: Sequence[str], rows: np.ndarray | None = None) -> Groups:
        """Sort all runs, or these, into groups by the values of some axes; into one without any."""
        grouping = tuple(keys)
        if grouping not in self._groups:
            wider = self.wider
            self._groups[grouping] = wider[0].group(keys, wider[1]) if wider else self._sort(keys)
            if len(self._groups) > MAX_GROUPINGS:
                del self._groups[next(iter(self._groups))]
        whole = self._groups[grouping]
        return whole if rows is None else whole.of(rows)

    def _sort(self, keys: Sequence[str]) -> Groups:
        codes = [self._codes[key] for key in keys]
        sizes = [len(self._levels[key]) for key in keys]
        number = np.zeros(len(self), dtype=np.int64)
        for code, size in zip(codes, sizes, strict=True):
            number *= size
            number += code
        if np.prod(sizes, dtype=float) <= SPARSE * max(1000, len(number)):
            used = np.bincount(number, minlength=1) > 0
            combinations, number = np.flatnonzero(used), (np.cumsum(used) - 1)[number]
        else:
            combinations, number = np.unique(number, return_inverse=True)
        levels = dict(zip(keys, np.unravel_index(combinations, sizes) if keys else (), strict=True))
        return Groups(number=number, levels=levels, size=len(combinations))

    def frame(self, groups: Groups) -> pd.DataFrame:
        """One row per group: the values of its axes, typed."""
        if not groups.levels:
            return pd.DataFrame(index=range(groups.size))
        taken = {key: self._levels[key].take(pa.array(code)) for key, code in groups.levels.items()}
        return to_frame(pa.table(taken), self._axes)

    def has_level(self, key: str, value: Any) -> np.ndarray:
        """Whether each run has this value of an axis; shape (R,)."""
        return np.array([v == value for v in self._levels[key].to_pylist()] or [False])[self._code(key)]

    def selected(self, terms: Iterable[Term]) -> np.ndarray:
        """Whether each run satisfies every term of a filter over axes, outcome and sweep; shape (R,)."""
        mask = np.ones(len(self), dtype=bool)
        for term in terms:
            matching = [term.matches(value) for value in self._levels[term.key].to_pylist()]
            mask &= np.array(matching or [False])[self._code(term.key)]
        return mask

    def locate(self, table: pa.Table) -> np.ndarray:
        """Row of each run named by the columns :attr:`identity`; −1 for one that is not among these."""
        index, rows_of_sources = table["index"].to_numpy(), self._rows_of_sources()
        if len(self._sources) == 1:
            return rows_of_sources[0].take(index, mode="clip")
        rows = np.full(len(index), -1)
        source = _source_numbers(table["sweep"], self._sources)
        for number, row_of in enumerate(rows_of_sources):
            rows[source == number] = row_of.take(index[source == number], mode="clip")
        return rows

    def _read(self, selected: Sequence[str]) -> pa.Table:
        """Expressions over ``runs`` in the order of the sources and, within each, of the manifest."""
        table = self._arrow(f"SELECT {self.identity}, {', '.join(selected)} FROM runs")
        if self._size not in (None, len(table)):
            raise UserError("the sweep was rewritten while it was read: open it again")
        self._size = len(table)
        index = table["index"].to_numpy()
        if len(self._sources) > 1:
            return table.take(pa.array(np.lexsort([index, _source_numbers(table["sweep"], self._sources)])))
        return table if (index[1:] > index[:-1]).all() else table.take(pa.array(np.argsort(index)))

    def _rows_of_sources(self) -> list[np.ndarray]:
        """What :meth:`_rows_by_index` found, of these runs."""
        if self._rows is None:
            assert self.wider is not None
            places = self.places()
            self._rows = [places[row_of] for row_of in self.wider[0]._rows_of_sources()]
        return self._rows

    def places(self) -> np.ndarray:
        """The row here of each run of :attr:`wider`, −1 for one that was left out; and a last −1, so that −1
        has a place too. Shape (W + 1,).
        """
        assert self.wider is not None
        wider, rows = self.wider
        places = np.full(len(wider) + 1, -1)
        places[rows] = np.arange(len(rows))
        return places

    def _rows_by_index(self, index: np.ndarray) -> list[np.ndarray]:
        """Per source the row of each index of its manifest, and a last −1 for any index beyond."""
        rows_of_sources = []
        for number in range(len(self._sources)):
            members = np.flatnonzero(self._codes["sweep"] == number)
            rows = np.full(int(index[members].max(initial=-1)) + 2, -1)
            rows[index[members]] = members
            rows_of_sources.append(rows)
        return rows_of_sources


def _encode(column: pa.ChunkedArray, axis: Axis) -> tuple[pa.Array, np.ndarray]:
    """Levels in order, and the number of each run's level."""
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # combine_chunks keeps an empty column chunked
        return pa.array([], column.type), np.zeros(0, dtype=np.int32)
    distinct = encoded.dictionary.to_pylist()
    if axis.kind in ("str", "bool"):
        position = {value: number for number, value in enumerate(axis.values)}
        order = sorted(
            range(len(distinct)),
            key=lambda i: (distinct[i] is None, position.get(distinct[i], len(position))),
        )
    else:
        order = sorted(range(len(distinct)), key=lambda i: (distinct[i] is None, distinct[i]))
    kind = np.min_scalar_type(-max(1, len(order)))
    rank = np.empty(len(order), dtype=kind)
    rank[order] = np.arange(len(order), dtype=kind)
    return encoded.dictionary.take(pa.array(order)), rank[encoded.indices.to_numpy()]


def _source_numbers(column: pa.ChunkedArray, sources: Sequence[str]) -> np.ndarray:
    return pc.index_in(column, pa.array(sources)).to_numpy()
