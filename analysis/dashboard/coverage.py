"""A map of the grid: one tile per cell, filled by what became of its runs.

The first axes make rows and the last ones columns; where a grid is too large for the page, axes in between
are left out and a tile stands for several cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from analysis.dashboard.links import plain
from analysis.data.axes import cell_label
from analysis.data.sweep import SweepData
from analysis.data.views import quoted
from sweeps.grid.filters import write_filter
from sweeps.spec.text import label

MAX_COLUMNS, MAX_ROWS = 48, 64
"""Tiles that a page has room for."""

GAP = 0.6
"""Room between groups of lines, in tiles."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of the map: the values of its axes, the innermost told apart from the others."""

    axes: tuple[str, ...]
    """Axes, the slowest first."""
    inner: list[tuple[float, str]]
    """Place of each line of tiles, in tiles, and the value of the innermost axis."""
    places: dict[tuple[int, ...], float]
    """Place of each combination of values, by their positions on the axes."""
    outer: list[tuple[float, float, str]]
    """First and last place of each group of lines, and the values of the other axes; empty with one axis."""

    @property
    def length(self) -> float:
        """Tiles from end to end, gaps included."""
        return self.inner[-1][0] + 1 if self.inner else 1.0


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One cell, or several."""

    x: float
    """Place from the left, in tiles."""
    y: float
    """Place from above, in tiles."""
    name: str
    """Its axis values and counts, for people."""
    filter: str
    """The filter that means its runs."""
    shares: tuple[float, float]
    """Shares of its runs with a result, and of those that failed."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The map."""

    down: Side
    across: Side
    left_out: tuple[str, ...]
    tiles: list[Tile] = field(repr=False)


def split_axes(sizes: Sequence[tuple[str, int]]) -> tuple[list[str], list[str], list[str]]:
    """Axes for rows, for columns, and those there is no room for, from ``(key, values)`` in order."""
    rest = [(key, size) for key, size in sizes if size > 1] or list(sizes[:1])
    columns: list[str] = []
    width = 1
    while rest and width * rest[-1][1] <= MAX_COLUMNS and (len(rest) > 1 or not columns):
        key, size = rest.pop()
        if columns and math.prod(s for _, s in rest) * size < width:
            rest.append((key, size))
            break
        columns.insert(0, key)
        width *= size
    rows: list[str] = []
    height = 1
    while rest and height * rest[0][1] <= MAX_ROWS:
        key, size = rest.pop(0)
        rows.append(key)
        height *= size
    return rows, columns, [key for key, _ in rest]


def coverage(sweep: SweepData) -> Coverage:
    axes = {axis.key: axis.values for axis in sweep.axes}
    rows, columns, left_out = split_axes([(key, len(axes[key])) for key in sweep.cell_keys])
    keys = [*rows, *columns]
    select = f"{quoted(keys)}, " if keys else ""
    counted = sweep.arrow(
        f"SELECT {select}count(*) AS total, "
        "count(*) FILTER (outcome IN ('done', 'diverged')) AS done, "
        "count(*) FILTER (outcome IN ('failed', 'quarantined')) AS failed, "
        "count(*) FILTER (outcome = 'diverged') AS diverged, "
        "count(*) FILTER (outcome = 'skipped') AS skipped, "
        "count(*) FILTER (outcome = 'stopped') AS stopped "
        f"FROM runs {'GROUP BY ALL' if keys else ''}"
    ).to_pylist()
    order = {key: {value: i for i, value in enumerate(axes[key])} for key in keys}

    def codes_of(names: Sequence[str], row: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(order[n].get(row[n], len(order[n])) for n in names)

    down = _side(rows, {codes_of(rows, row) for row in counted}, axes)
    across = _side(columns, {codes_of(columns, row) for row in counted}, axes)
    tiles = []
    for row in counted:
        values = {key: plain(row[key]) for key in keys}
        total = row["total"]
        counts = f"{row['done']} of {total} runs have a result"
        counts += f", {row['failed']} failed" if row["failed"] else ""
        counts += f", {row['diverged']} diverged" if row["diverged"] else ""
        counts += f", {row['skipped']} not needed" if row["skipped"] else ""
        counts += f", {row['stopped']} stopped early" if row["stopped"] else ""
        tiles.append(
            Tile(
                x=across.places[codes_of(columns, row)],
                y=down.places[codes_of(rows, row)],
                name=f"{cell_label(values)}: {counts}",
                filter=write_filter(values),
                shares=(row["done"] / total, row["failed"] / total),
            )
        )
    return Coverage(down=down, across=across, left_out=tuple(left_out), tiles=tiles)


def at_work(sweep: SweepData, shown: Coverage, runs: Sequence[int]) -> frozenset[str]:
    """Filters of the tiles that some of these runs, given by their index, belong to."""
    keys = [*shown.down.axes, *shown.across.axes]
    if not runs:
        return frozenset()
    if not keys:
        return frozenset(tile.filter for tile in shown.tiles)
    listed = ", ".join(str(int(index)) for index in runs)
    rows = sweep.arrow(f"SELECT DISTINCT {quoted(keys)} FROM runs WHERE index IN ({listed})").to_pylist()
    return frozenset(write_filter({key: row[key] for key in keys}) for row in rows)


def _side(names: Sequence[str], occupied: Set[tuple[int, ...]], axes: Mapping[str, Sequence[Any]]) -> Side:
    """Lay out the lines of one side, with a gap wherever an axis other than the innermost changes."""
    places: dict[tuple[int, ...], float] = {}
    inner: list[tuple[float, str]] = []
    outer: list[tuple[float, float, str]] = []
    at = 0.0
    for number, codes in enumerate(sorted(occupied)):
        labels = [_word(axes[name], code) for name, code in zip(names, codes, strict=True)]
        group = " · ".join(labels[:-1])
        if number and outer and outer[-1][2] != group:
            at += GAP
        if len(names) > 1:
            start = outer.pop()[0] if outer and outer[-1][2] == group else at
            outer.append((start, at, group))
        inner.append((at, labels[-1] if labels else ""))
        places[codes] = at
        at += 1
    return Side(axes=tuple(names), inner=inner, outer=outer, places=places)


def _word(values: Sequence[Any], code: int) -> str:
    return label(values[code]) if code < len(values) and values[code] is not None else "–"
