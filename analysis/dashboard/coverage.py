"""A map of the grid: one tile per cell, filled by what became of its runs.

The first axes make rows and the last ones columns; where a grid is too large for the page, axes in between
are left out and a tile stands for several cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from analysis.axes import cell_label, label
from analysis.dashboard.links import filter_text, plain
from analysis.sweep import Sweep
from analysis.views import quoted

MAX_COLUMNS, MAX_ROWS = 48, 64
"""Tiles that a page has room for."""

STATES = ("done", "failed", "left")
"""Parts of a tile from below: results, failures, and what has neither."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One cell, or several."""

    column: int
    """Position from the left."""
    row: int
    """Position from above."""
    name: str
    """Its axis values and counts, for people."""
    filter: str
    """The filter that means its runs."""
    shares: tuple[float, float]
    """Shares of its runs with a result, and of those that failed."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The map."""

    rows: tuple[str, ...]
    """Axes of the rows."""
    columns: tuple[str, ...]
    """Axes of the columns."""
    left_out: tuple[str, ...]
    """Axes that the map does not tell apart."""
    row_labels: list[str]
    """Values of each row."""
    column_labels: list[str]
    """Values of each column."""
    tiles: list[Tile] = field(repr=False)
    """The tiles there are."""


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


def coverage(sweep: Sweep) -> Coverage:
    """Count outcomes per tile."""
    axes = {axis.key: axis.values for axis in sweep.axes}
    rows, columns, left_out = split_axes([(key, len(axes[key])) for key in sweep.cell_keys])
    keys = [*rows, *columns]
    select = f"{quoted(keys)}, " if keys else ""
    counted = sweep.arrow(
        f"SELECT {select}count(*) AS total, "
        "count(*) FILTER (outcome IN ('done', 'diverged')) AS done, "
        "count(*) FILTER (outcome IN ('failed', 'quarantined')) AS failed, "
        "count(*) FILTER (outcome = 'diverged') AS diverged "
        f"FROM runs {'GROUP BY ALL' if keys else ''}"
    ).to_pylist()
    order = {key: {value: i for i, value in enumerate(axes[key])} for key in keys}

    def place(names: Sequence[str], row: dict) -> tuple[int, ...]:
        return tuple(order[n].get(row[n], len(order[n])) for n in names)

    row_places = sorted({place(rows, row) for row in counted})
    column_places = sorted({place(columns, row) for row in counted})
    tiles = []
    for row in counted:
        values = {key: plain(row[key]) for key in keys}
        total = row["total"]
        words = f"{row['done']} of {total} runs have a result"
        words += f", {row['failed']} failed" if row["failed"] else ""
        words += f", {row['diverged']} diverged" if row["diverged"] else ""
        tiles.append(
            Tile(
                column=column_places.index(place(columns, row)),
                row=row_places.index(place(rows, row)),
                name=f"{cell_label(values)}: {words}",
                filter=filter_text(values),
                shares=(row["done"] / total, row["failed"] / total),
            )
        )
    return Coverage(
        rows=tuple(rows),
        columns=tuple(columns),
        left_out=tuple(left_out),
        row_labels=[_words(rows, found, axes) for found in row_places],
        column_labels=[_words(columns, found, axes) for found in column_places],
        tiles=tiles,
    )


def _words(names: Sequence[str], places: Sequence[int], axes: dict) -> str:
    shown = [axes[n][p] if p < len(axes[n]) else None for n, p in zip(names, places, strict=True)]
    return " · ".join("–" if value is None else label(value) for value in shown)
