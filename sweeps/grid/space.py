"""What a search chooses of: the axes of a grid without their product, intervals among them. Pure."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.grid.columns import ABSENT, SEED_KEY, Column, Table, spelling
from sweeps.grid.filters import Filter
from sweeps.grid.grid import MAX_RUNS, DeclaredAxis, Grid
from sweeps.spec.errors import SpecError

Point = Mapping[str, Any]
"""A value for each axis that exists for it, the seed aside."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """The points of which a search proposes some."""

    axes: tuple[DeclaredAxis, ...]
    """All but the seed, each after those that its condition is about."""
    columns: tuple[DeclaredAxis, ...]
    """The same and the seed, in the order of a table's columns."""
    excludes: tuple[Filter, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Values of the seed axis, in their order, each once."""
        return tuple(dict.fromkeys(next(a.values for a in self.columns if a.key == SEED_KEY)))

    @property
    def is_listed(self) -> bool:
        """Whether each axis has listed values, so that the space is a grid."""
        return not any(a.interval for a in self.axes)

    @property
    def is_finite(self) -> bool:
        """Whether its points can be gone through: an interval of whole numbers has as many as it holds."""
        return self._num_choices <= MAX_RUNS

    @property
    def _num_choices(self) -> float:
        """Points without regard to conditions and exclusions."""
        return math.prod(_num_choices(a) for a in self.axes)

    def allows(self, point: Point) -> bool:
        """Whether no exclusion takes the point out."""
        return not any(rule.matches(point) for rule in self.excludes)

    def holds(self, point: Point) -> bool:
        """Whether the point is one of the space: values of its axes, of those that exist for it alone."""
        there = [a for a in self.axes if a.when is None or a.when.matches(point)]
        return (
            {a.key for a in there} == set(point)
            and all(_is_of(a, point[a.key]) for a in there)
            and self.allows(point)
        )

    def num_points(self, most: int) -> int:
        """Points of a finite space, counted up to one more than ``most``; of one whose axes have too many
        choices to be gone through that many at once.
        """
        if not self.is_finite:
            return most + 1
        return sum(1 for _ in itertools.islice(self.points(), most + 1))

    def points(self) -> Iterator[dict[str, Any]]:
        """All points of a finite space, the first axis varying slowest."""
        seen = set()
        for values in itertools.product(*map(_choices, self.axes)):
            point: dict[str, Any] = {}
            for a, value in zip(self.axes, values, strict=True):
                if a.when is None or a.when.matches(point):
                    point[a.key] = value
            if self.allows(point) and (key := spelling(point)) not in seen:
                seen.add(key)
                yield point

    def table(self, points: Sequence[Point], seeds: Sequence[int]) -> Table:
        """The runs of these points, of each with its seed."""
        return Table(
            num_runs=len(points),
            columns=tuple(
                _column(a, seeds if a.key == SEED_KEY else [p.get(a.key, _NONE) for p in points])
                for a in self.columns
            ),
        )


def _num_choices(axis: DeclaredAxis) -> float:
    if axis.interval is None:
        return len(axis.values)
    return axis.interval.high - axis.interval.low + 1 if axis.interval.is_whole else math.inf


def _choices(axis: DeclaredAxis) -> Sequence[Any]:
    """The values of an axis that has few enough."""
    if axis.interval is None:
        return axis.values
    return range(int(axis.interval.low), int(axis.interval.high) + 1)


_NONE = object()
"""Stands for an axis that does not exist for a point; ``None`` is a value that one may have."""


def space_of(grid: Grid) -> Space:
    """The space of a grid's axes.

    Raises:
        SpecError: for axes that advance together, sub-grids and random parts, of which nothing can be
            proposed; for a seed that is an interval, a condition or exclusion about seeds, and a condition on
            an axis that does not exist.
    """
    for is_there, key, fix in (
        (grid.zips, "sweep.zip", "a search chooses each axis by itself; leave one of the axes out"),
        (
            grid.parts,
            "sweep.concat",
            "a search has one set of axes; give an axis that some lack a condition, when:",
        ),
        (grid.subset, "sweep.subset", "search.trials says how many are tried; leave it out"),
    ):
        if is_there:
            raise SpecError(f"{key}: cannot be searched: {fix}")
    kinds = {a.key: a.kind for a in grid.axes}
    columns = tuple(
        a if a.when is None else dataclasses.replace(a, when=a.when.resolved(kinds, f"axis {a.key}: when"))
        for a in grid.axes
    )
    for a in columns:
        if a.key == SEED_KEY and (a.interval is not None or a.when is not None):
            raise SpecError(
                f"{SEED_KEY}={a.interval or a.when}: a search chooses no seeds; list them, as seed=range(4)"
            )
        if a.when is not None and SEED_KEY in a.when.key_names():
            raise SpecError(f"axis {a.key}: when {a.when}: a search chooses values for all seeds of a trial")
    excludes = tuple(rule.resolved(kinds, "exclude") for rule in grid.excludes)
    for rule in excludes:
        if SEED_KEY in rule.key_names():
            raise SpecError(f"exclude {str(rule)!r}: a search chooses values for all seeds of a trial")
    return Space(
        axes=tuple(_in_order([a for a in columns if a.key != SEED_KEY])), columns=columns, excludes=excludes
    )


def ends_of(grid: Grid) -> Grid:
    """The grid with both ends in the place of each interval."""
    return dataclasses.replace(grid, axes=tuple(dataclasses.replace(a, values=a.ends) for a in grid.axes))


def _in_order(axes: list[DeclaredAxis]) -> Iterator[DeclaredAxis]:
    done: set[str] = set()
    while axes:
        ready = [a for a in axes if a.when is None or a.when.key_names() <= done]
        if not ready:
            raise SpecError(f"axis {axes[0].key}: its condition depends on itself; break the circle")
        yield ready[0]
        done.add(ready[0].key)
        axes.remove(ready[0])


def _is_of(a: DeclaredAxis, value: Any) -> bool:
    if a.interval is None:
        return spelling(value) in {spelling(v) for v in a.values}
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and a.interval.low <= value <= a.interval.high


def _column(a: DeclaredAxis, given: Sequence[Any]) -> Column:
    there = np.array([v is not _NONE for v in given], dtype=bool)
    codes = np.full(len(given), ABSENT, dtype=np.int32)
    if a.interval is not None or a.key == SEED_KEY:
        numbers, codes[there] = np.unique([v for v in given if v is not _NONE], return_inverse=True)
        return Column(key=a.key, values=tuple(numbers.tolist()), kind=a.kind, codes=codes)
    code = {spelling(v): number for number, v in enumerate(a.values)}
    codes[there] = [code[spelling(v)] for v in given if v is not _NONE]
    plain = tuple(float(v) if a.kind == "float" and v is not None else v for v in a.values)
    return Column(key=a.key, values=plain, kind=a.kind, codes=codes)
