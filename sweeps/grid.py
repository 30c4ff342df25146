"""The grid language as plain values: axes, how they combine, and their expansion. Needs numpy, nothing else.

A :class:`Grid` is built from axes in a notebook exactly as a sweep file builds it::

    from sweeps.grid import axis, concat, product

    grid = product(
        axis("model", ["tiny-64", "tiny-96"]),
        axis("schedule", ["constant", "wsd"]),
        axis("schedule.decay_fraction", [0.1, 0.2], when="schedule=wsd"),
        axis("seed", range(16)),
    ).exclude("model=tiny-96 schedule=wsd")

Expansion is columnar: a run is a row of small integer codes, one column an axis, so that its cost is linear
in the number of runs and a rule is evaluated once per distinct value, never once per run. The first axis
varies slowest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.filters import Filter, as_text, parse_filter
from sweeps.locate import at
from sweeps.spec import SpecError, nearest

MAX_RUNS = 5_000_000
"""Largest grid that is expanded. A million runs take about 0.5 GB and half a minute; beyond five the plan
itself becomes the job.
"""

ABSENT = -1
"""Code of an axis that does not exist for a run."""

SEED_KEY = "seed"
"""The axis that separates the runs of one cell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One Hydra key and its values."""

    key: str
    """Dotted key such as ``optim.lr``, or a group such as ``model``, whose values are option names."""
    values: tuple[Any, ...]
    """Plain values in the order given; a list is one value."""
    when: Filter | None = None
    """The axis exists only for runs that satisfy this; elsewhere its key keeps the base value."""

    def __post_init__(self) -> None:
        if not self.values:
            raise SpecError(f"axis {self.key}: is empty; give at least one value, such as {self.key}=1,2")
        kind_of(self.key, self.values)

    @property
    def kind(self) -> str:
        """``int``, ``float``, ``bool`` or ``str`` (lists and mappings are shown as JSON text)."""
        return kind_of(self.key, self.values)


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

    axes: tuple[Axis, ...] = ()
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
        """Return the grid with the axes ``keys`` advancing together."""
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


def axis(key: str, values: Iterable[Any], when: str | None = None) -> Axis:
    """Return an axis; ``when`` is a filter such as ``"schedule=wsd"``."""
    if isinstance(values, range) and len(values) > MAX_RUNS:
        raise too_large(len(values), [f"{key} {len(values):,}"])
    return Axis(key=key, values=tuple(values), when=parse_filter(when, f"axis {key}: when") if when else None)


def product(*axes: Axis) -> Grid:
    """Return the grid of every combination of ``axes``."""
    return Grid(axes=axes)


def concat(*parts: Grid) -> Grid:
    """Return the grid that holds the runs of each of ``parts`` in turn."""
    return Grid(parts=parts)


def kind_of(key: str, values: Sequence[Any]) -> str:
    """Return the one kind of ``values``; ``None`` fits every kind.

    Raises:
        SpecError: if text, truth values and numbers are mixed.
    """
    kinds = {_kind(v) for v in values if v is not None}
    if kinds == {"int", "float"}:
        return "float"
    if len(kinds) > 1:
        shown = ", ".join(as_text(v) for v in values[:6])
        raise SpecError(f"axis {key}: the values {shown} mix {' and '.join(sorted(kinds))}; use one type")
    return kinds.pop() if kinds else "str"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return {int: "int", float: "float"}.get(type(value), "str")


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One axis of an expanded grid."""

    key: str
    """The axis."""
    values: tuple[Any, ...]
    """Distinct values in the order given."""
    kind: str
    """``int``, ``float``, ``bool`` or ``str``."""
    codes: np.ndarray
    """Index into ``values`` of each run, int32, shape (runs,); :data:`ABSENT` where the axis does not exist.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """An expanded grid."""

    num_runs: int
    """Rows."""
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


def combine(codes: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    """Number the distinct rows of ``codes`` from 0 in lexicographic order; int64, shape (rows,)."""
    joint = np.zeros(num_rows, dtype=np.int64)
    for column in codes:
        width = int(column.max(initial=0)) + 2
        _, joint = np.unique(joint * width + column + 1, return_inverse=True)
    return joint


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


def expand(grid: Grid, defaults: Mapping[str, Any] | None = None) -> Table:
    """Expand ``grid`` in linear time.

    Args:
        grid: what to expand.
        defaults: values of keys which only some sub-grids set, for the others.

    Raises:
        SpecError: for a grid above :data:`MAX_RUNS`, zipped axes of unequal length, a condition on an axis
            that does not
            exist, sub-grids that disagree on an axis's type, or exclusions that leave nothing.
    """
    bound = upper_bound(grid)
    if bound > MAX_RUNS:
        raise too_large(bound, _lengths(grid))
    table = _expand(grid, defaults or {})
    order = {key: i for i, key in enumerate(grid.key_names())}
    return Table(num_runs=table.num_runs, columns=tuple(sorted(table.columns, key=lambda c: order[c.key])))


def too_large(bound: int, lengths: Sequence[str]) -> SpecError:
    """Return the refusal of a grid of up to ``bound`` runs."""
    return SpecError(
        f"the grid has up to {bound:,} runs ({' × '.join(lengths)}): at most {MAX_RUNS:,} are expanded; "
        f"drop values or split the sweep"
    )


def _lengths(grid: Grid) -> list[str]:
    own = [f"{a.key} {len(a.values):,}" for a in grid.axes]
    return [
        *own,
        *([f"{len(grid.parts)} sub-grids {sum(map(upper_bound, grid.parts)):,}"] if grid.parts else []),
    ]


def _expand(grid: Grid, defaults: Mapping[str, Any]) -> Table:
    table = Table(num_runs=1, columns=())
    for step in _in_dependency_order(grid, defaults):
        table = step(table)
    kinds = {c.key: c.kind for c in table.columns}
    for i, rule in enumerate(grid.excludes):
        with at("exclude", i):
            rule.check(kinds, "exclude")
            table = table.take(~table.select(rule))
            if table.num_runs == 0:
                raise SpecError(f"exclude {str(rule)!r}: leaves no run; narrow it or drop it")
    return _draw(table, grid.subset) if grid.subset else table


@dataclass(frozen=True, slots=True)
class _Step:
    """One factor of the product: a bundle of zipped axes, or the concatenated sub-grids."""

    keys: tuple[str, ...]
    needs: frozenset[str]
    apply: Callable[[Table], Table]

    def __call__(self, table: Table) -> Table:
        return self.apply(table)


def _in_dependency_order(grid: Grid, defaults: Mapping[str, Any]) -> list[_Step]:
    waiting = [_bundle_step(axes) for axes in _bundles(grid)]
    if grid.parts:
        parts = _concatenate([_expand_part(i, p, defaults) for i, p in enumerate(grid.parts)], defaults)
        waiting.append(_Step(tuple(c.key for c in parts.columns), frozenset(), lambda t: _cross(t, parts)))
    known = [k for step in waiting for k in step.keys]
    for key in known:
        if known.count(key) > 1:
            raise SpecError(f"axis {key}: is declared twice in one product; join the values in one place")
    ordered: list[_Step] = []
    done: set[str] = set()
    while waiting:
        ready = [s for s in waiting if s.needs <= done]
        if not ready:
            step = next((s for s in waiting if s.needs - set(known)), waiting[0])
            missing = sorted(step.needs - set(known))
            with at("axes", step.keys[0]):
                if missing:
                    raise SpecError(
                        f"axis {step.keys[0]}: its condition names {missing[0]!r}, which is not an axis"
                        f"{nearest(missing[0], known)}; the axes are {', '.join(known)}"
                    )
                raise SpecError(f"axis {step.keys[0]}: its condition depends on itself; break the circle")
        ordered += ready[:1]
        done.update(ready[0].keys)
        waiting.remove(ready[0])
    return ordered


def _expand_part(number: int, part: Grid, defaults: Mapping[str, Any]) -> Table:
    with at("concat", number):
        return _expand(part, defaults)


def _bundles(grid: Grid) -> list[list[Axis]]:
    by_key = {a.key: a for a in grid.axes}
    leader: dict[str, tuple[str, ...]] = {}
    for i, keys in enumerate(grid.zips):
        with at("zip", i):
            _check_zip(keys, by_key, leader)
        leader.update(dict.fromkeys(keys, keys))
    bundles: dict[tuple[str, ...], list[Axis]] = {}
    for a in grid.axes:
        bundles.setdefault(leader.get(a.key, (a.key,)), []).append(a)
    return list(bundles.values())


def _check_zip(keys: tuple[str, ...], by_key: Mapping[str, Axis], taken: Mapping[str, Any]) -> None:
    shown = f"zip [{', '.join(keys)}]"
    for key in keys:
        if key not in by_key:
            known = ", ".join(by_key) or "none"
            raise SpecError(f"{shown}: {key!r} is not an axis{nearest(key, by_key)}; the axes are {known}")
        if key in taken:
            raise SpecError(f"{shown}: {key!r} is already zipped; name it once")
    lengths = {k: len(by_key[k].values) for k in keys}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{k} has {n}" for k, n in lengths.items())
        raise SpecError(f"{shown}: {counts} values; zipped axes need equally many")


def _bundle_step(axes: list[Axis]) -> _Step:
    conditions = [a.when for a in axes if a.when is not None]
    needs = frozenset(k for c in conditions for k in c.key_names())
    return _Step(tuple(a.key for a in axes), needs, lambda table: _multiply(table, axes, conditions))


def _multiply(table: Table, axes: list[Axis], conditions: list[Filter]) -> Table:
    """Repeat each run of ``table`` once per value of the zipped ``axes``, where their conditions hold."""
    length = len(axes[0].values)
    exists = np.ones(table.num_runs, dtype=bool)
    kinds = {c.key: c.kind for c in table.columns}
    for condition in conditions:
        condition.check(kinds, f"axis {axes[0].key}: when")
        exists &= table.select(condition)
    counts = np.where(exists, length, 1)
    rows = np.repeat(np.arange(table.num_runs), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.where(exists[rows], np.arange(len(rows)) - first, ABSENT).astype(np.int32)
    added = tuple(_column(a.key, a.values, place) for a in axes)
    return Table(num_runs=len(rows), columns=(*table.take(rows).columns, *added))


def _column(key: str, values: Sequence[Any], codes: np.ndarray) -> Column:
    """Build a column; equal values share a code, whatever their place in the list."""
    kind = kind_of(key, values)
    plain = [float(v) if kind == "float" and v is not None else v for v in values]
    distinct: dict[str, int] = {}
    recode = [distinct.setdefault(_spelling(v), len(distinct)) for v in plain]
    firsts = {code: v for v, code in reversed(list(zip(plain, recode, strict=True)))}
    table = np.array([*recode, ABSENT], dtype=np.int32)
    return Column(
        key=key, values=tuple(firsts[i] for i in range(len(distinct))), kind=kind, codes=table[codes]
    )


def _spelling(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _cross(left: Table, right: Table) -> Table:
    rows = np.repeat(np.arange(left.num_runs), right.num_runs)
    columns = tuple(dataclasses.replace(c, codes=np.tile(c.codes, left.num_runs)) for c in right.columns)
    return Table(num_runs=len(rows), columns=(*left.take(rows).columns, *columns))


def _concatenate(tables: list[Table], defaults: Mapping[str, Any]) -> Table:
    keys = list(dict.fromkeys(c.key for t in tables for c in t.columns))
    columns = []
    for key in keys:
        values: list[Any] = []
        codes = []
        for table in tables:
            found = next((c for c in table.columns if c.key == key), None)
            if found is None and key not in defaults:
                codes.append(np.full(table.num_runs, ABSENT, dtype=np.int32))
                continue
            own = found.values if found else (defaults[key],)
            own_codes = found.codes if found else np.zeros(table.num_runs, dtype=np.int32)
            codes.append(np.where(own_codes == ABSENT, ABSENT, own_codes + len(values)))
            values.extend(own)
        _agree(key, tables)
        columns.append(_column(key, values, np.concatenate(codes)))
    return Table(num_runs=sum(t.num_runs for t in tables), columns=tuple(columns))


def _agree(key: str, tables: list[Table]) -> None:
    kinds = {c.kind: i for i, t in reversed(list(enumerate(tables, 1))) for c in t.columns if c.key == key}
    if len(kinds) > 1 and set(kinds) != {"int", "float"}:
        shown = " but ".join(
            f"{kind} in sub-grid {i}" for kind, i in sorted(kinds.items(), key=lambda x: x[1])
        )
        raise SpecError(f"axis {key}: is {shown}; sub-grids must agree on a key's type")


def _draw(table: Table, subset: Subset) -> Table:
    """Keep the runs (or cells) with the smallest hash of their values, in their old order."""
    columns = [c for c in table.columns if subset.of == "runs" or c.key != SEED_KEY]
    units = combine([c.codes for c in columns], table.num_runs)
    _, firsts = np.unique(units, return_index=True)
    spelled = [[_spelling(v) for v in c.values] for c in columns]
    absent = _spelling(None)
    hashes = []
    for row in firsts.tolist():
        text = "|".join(
            f"{c.key}={absent if c.codes[row] == ABSENT else s[c.codes[row]]}"
            for c, s in zip(columns, spelled, strict=True)
        )
        hashes.append(hashlib.sha256(f"{subset.seed}|{text}".encode()).digest())
    chosen = sorted(range(len(hashes)), key=hashes.__getitem__)[: subset.num]
    keep = np.zeros(len(hashes), dtype=bool)
    keep[chosen] = True
    return table.take(keep[units])
