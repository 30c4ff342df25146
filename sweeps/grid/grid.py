"""The grid language as plain values: axes and how they combine. :mod:`sweeps.grid.expand` turns a grid into
runs.

A :class:`Grid` is built from axes in a notebook exactly as a sweep file builds it::

    from sweeps.grid.grid import axis, concat, product

    grid = product(
        axis("model", ["tiny-64", "tiny-96"]),
        axis("schedule", ["constant", "wsd"]),
        axis("schedule.decay_fraction", [0.1, 0.2], when="schedule=wsd"),
        axis("seed", range(16)),
    ).exclude("model=tiny-96 schedule=wsd")

The first axis varies slowest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.grid.axes import Interval, Kind
from sweeps.grid.columns import kind_of
from sweeps.grid.filters import Filter, parse_filter
from sweeps.spec import SpecError

MAX_RUNS = 5_000_000
"""Largest grid that is expanded. A million runs take about 0.5 GB and half a minute; beyond five the plan
itself becomes the job.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclaredAxis:
    """One Hydra key, its values, and the runs that it exists for."""

    key: str
    """Dotted key such as ``optim.lr``, or a group such as ``model``, whose values are option names."""
    values: tuple[Any, ...]
    """Plain values in the order given; a list is one value. An :class:`~sweeps.grid.axes.Interval` alone
    stands for all numbers in it, for a search to choose of.
    """
    when: Filter | None = None
    """The axis exists only for runs that satisfy this; elsewhere its key keeps the base value."""

    def __post_init__(self) -> None:
        if not self.values:
            raise SpecError(f"axis {self.key}: is empty; give at least one value, such as {self.key}=1,2")
        if len(self.values) > 1 and any(isinstance(v, Interval) for v in self.values):
            raise SpecError(
                f"axis {self.key}: mixes an interval with other values; give one interval, or values only"
            )
        kind_of(self.key, self.ends)

    @property
    def interval(self) -> Interval | None:
        """The interval that the axis is, or ``None`` where its values can be counted."""
        [first, *_] = self.values
        return first if isinstance(first, Interval) else None

    @property
    def ends(self) -> tuple[Any, ...]:
        """Its values; of an interval both ends."""
        return self.values if self.interval is None else (self.interval.low, self.interval.high)

    @property
    def kind(self) -> Kind:
        return kind_of(self.key, self.ends)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subset:
    """A random part of a grid: what has the smallest hash of (seed, values), so a larger subset contains a
    smaller one.
    """

    num: int
    """How many to keep; more than there are keeps all."""
    of: str = "runs"
    """``runs``, or ``cells`` with all their seeds."""
    seed: int = 0
    """Chooses the subset."""

    def __post_init__(self) -> None:
        if self.num < 1:
            raise SpecError(f"sweep.subset.{self.of}={self.num}: must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Axes and the rules that combine them."""

    axes: tuple[DeclaredAxis, ...] = ()
    """Multiplied with each other, in column order."""
    zips: tuple[tuple[str, ...], ...] = ()
    """Keys of axes that advance together instead."""
    parts: tuple[Grid, ...] = ()
    """Sub-grids laid end to end; their concatenation multiplies with ``axes``."""
    excludes: tuple[Filter, ...] = ()
    """A run that satisfies any of these is left out."""
    subset: Subset | None = None
    """Keep only a random part of what is left."""

    def zip(self, *keys: str) -> Grid:
        return dataclasses.replace(self, zips=(*self.zips, keys))

    def exclude(self, *filters: str) -> Grid:
        """Return the grid without the runs that satisfy any of ``filters``."""
        return dataclasses.replace(
            self, excludes=(*self.excludes, *(parse_filter(f, "exclude") for f in filters))
        )

    def sample(self, *, runs: int = 0, cells: int = 0, seed: int = 0) -> Grid:
        """Return the grid cut to a random part: so many runs, or so many cells with all their seeds."""
        subset = Subset(num=cells, of="cells", seed=seed) if cells else Subset(num=runs, seed=seed)
        return dataclasses.replace(self, subset=subset)

    def key_names(self) -> list[str]:
        """Keys of all axes in column order, those of sub-grids last."""
        keys = [a.key for a in self.axes]
        return list(dict.fromkeys([*keys, *(k for part in self.parts for k in part.key_names())]))


def axis(key: str, values: Iterable[Any], when: str | None = None) -> DeclaredAxis:
    """Return an axis; ``when`` is a filter such as ``"schedule=wsd"``."""
    if isinstance(values, range) and len(values) > MAX_RUNS:
        raise too_large(len(values), [f"{key} {len(values):,}"])
    return DeclaredAxis(
        key=key, values=tuple(values), when=parse_filter(when, f"axis {key}: when") if when else None
    )


def product(*axes: DeclaredAxis) -> Grid:
    return Grid(axes=axes)


def concat(*parts: Grid) -> Grid:
    """Return the grid that holds the runs of each of ``parts`` in turn."""
    return Grid(parts=parts)


def upper_bound(grid: Grid) -> int:
    """Return the number of runs before conditions and exclusions, from lengths alone."""
    bound = 1
    zipped = {k for keys in grid.zips for k in keys}
    for a in grid.axes:
        bound *= 1 if a.key in zipped else len(a.values)
    lengths = {a.key: len(a.values) for a in grid.axes}
    for keys in grid.zips:
        bound *= max((lengths.get(k, 1) for k in keys), default=1)
    return bound * (sum(upper_bound(p) for p in grid.parts) if grid.parts else 1)


def too_large(bound: int, lengths: Sequence[str]) -> SpecError:
    """Return the refusal of a grid of up to ``bound`` runs."""
    return SpecError(
        f"the grid has up to {bound:,} runs ({' × '.join(lengths)}): at most {MAX_RUNS:,} are expanded; "
        f"drop values or split the sweep"
    )
