"""From a grid to its runs, in time linear in their number: factors are multiplied in the order in which their
conditions need each other, then exclusions and the random part are taken. Pure.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.grid.columns import ABSENT, SEED_KEY, Column, Table, column, combine, spelling
from sweeps.grid.error_location import at
from sweeps.grid.filters import Filter
from sweeps.grid.grid import MAX_RUNS, DeclaredAxis, Grid, Subset, too_large, upper_bound
from sweeps.spec import SpecError, nearest


def expand(grid: Grid, defaults: Mapping[str, Any] | None = None) -> Table:
    """Expand ``grid`` in linear time.

    Args:
        defaults: values of keys which only some sub-grids set, for the others.

    Raises:
        SpecError: for an interval, a grid above :data:`MAX_RUNS`, zipped axes of unequal length, a condition
            on an axis that does not exist, sub-grids that disagree on an axis's type, or exclusions that
            leave nothing.
    """
    _refuse_intervals(grid)
    bound = upper_bound(grid)
    if bound > MAX_RUNS:
        raise too_large(bound, _lengths(grid))
    table = _expand(grid, defaults or {})
    order = {key: i for i, key in enumerate(grid.key_names())}
    return Table(num_runs=table.num_runs, columns=tuple(sorted(table.columns, key=lambda c: order[c.key])))


def _refuse_intervals(grid: Grid) -> None:
    for a in grid.axes:
        if a.interval is not None:
            raise SpecError(
                f"{a.key}={a.interval}: has no countable values; list them, use range(start,stop,step), or "
                "let a search choose of it: add search=tpe"
            )
    for part in grid.parts:
        _refuse_intervals(part)


def _lengths(grid: Grid) -> list[str]:
    lengths = [f"{a.key} {len(a.values):,}" for a in grid.axes]
    return [
        *lengths,
        *([f"{len(grid.parts)} sub-grids {sum(map(upper_bound, grid.parts)):,}"] if grid.parts else []),
    ]


def _expand(grid: Grid, defaults: Mapping[str, Any]) -> Table:
    table = Table(num_runs=1, columns=())
    for step in _in_dependency_order(grid, defaults):
        table = step(table)
    kinds = {c.key: c.kind for c in table.columns}
    for i, rule in enumerate(grid.excludes):
        with at("exclude", i):
            table = table.take(~table.select(rule.resolved(kinds, "exclude")))
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
    bundles = _bundles(grid)
    parts = Table(num_runs=1, columns=())
    if grid.parts:
        parts = _concatenate([_expand_part(i, p, defaults) for i, p in enumerate(grid.parts)], defaults)
    declared: list[DeclaredAxis | Column] = [*(a for axes in bundles for a in axes), *parts.columns]
    known = [a.key for a in declared]
    for key in known:
        if known.count(key) > 1:
            raise SpecError(f"axis {key}: is declared twice in one product; join the values in one place")
    kinds = {a.key: a.kind for a in declared}
    waiting = [_bundle_step(axes, kinds) for axes in bundles]
    if grid.parts:
        waiting.append(_Step(tuple(c.key for c in parts.columns), frozenset(), lambda t: _cross(t, parts)))
    ordered: list[_Step] = []
    done: set[str] = set()
    while waiting:
        ready = [s for s in waiting if s.needs <= done]
        if not ready:
            key = waiting[0].keys[0]
            with at("axes", key):
                raise SpecError(f"axis {key}: its condition depends on itself; break the circle")
        ordered += ready[:1]
        done.update(ready[0].keys)
        waiting.remove(ready[0])
    return ordered


def _expand_part(number: int, part: Grid, defaults: Mapping[str, Any]) -> Table:
    with at("concat", number):
        return _expand(part, defaults)


def _bundles(grid: Grid) -> list[list[DeclaredAxis]]:
    by_key = {a.key: a for a in grid.axes}
    leader: dict[str, tuple[str, ...]] = {}
    for i, keys in enumerate(grid.zips):
        with at("zip", i):
            _check_zip(keys, by_key, leader)
        leader.update(dict.fromkeys(keys, keys))
    bundles: dict[tuple[str, ...], list[DeclaredAxis]] = {}
    for a in grid.axes:
        bundles.setdefault(leader.get(a.key, (a.key,)), []).append(a)
    return list(bundles.values())


def _check_zip(keys: tuple[str, ...], by_key: Mapping[str, DeclaredAxis], taken: Mapping[str, Any]) -> None:
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


def _bundle_step(axes: list[DeclaredAxis], kinds: Mapping[str, str]) -> _Step:
    conditions = []
    for a in axes:
        with at("axes", a.key):
            conditions += [a.when.resolved(kinds, f"axis {a.key}: when")] if a.when is not None else []
    needs = frozenset(k for c in conditions for k in c.key_names())
    return _Step(tuple(a.key for a in axes), needs, lambda table: _multiply(table, axes, conditions))


def _multiply(table: Table, axes: list[DeclaredAxis], conditions: list[Filter]) -> Table:
    """Repeat each run of ``table`` once per value of the zipped ``axes``, where their conditions hold."""
    length = len(axes[0].values)
    exists = np.ones(table.num_runs, dtype=bool)
    for condition in conditions:
        exists &= table.select(condition)
    counts = np.where(exists, length, 1)
    rows = np.repeat(np.arange(table.num_runs), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    codes = np.where(exists[rows], np.arange(len(rows)) - first, ABSENT).astype(np.int32)
    added = tuple(column(a.key, a.values, codes) for a in axes)
    return Table(num_runs=len(rows), columns=(*table.take(rows).columns, *added))


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
            given = next((c for c in table.columns if c.key == key), None)
            if given is None and key not in defaults:
                codes.append(np.full(table.num_runs, ABSENT, dtype=np.int32))
                continue
            own_values = given.values if given else (defaults[key],)
            own_codes = given.codes if given else np.zeros(table.num_runs, dtype=np.int32)
            codes.append(np.where(own_codes == ABSENT, ABSENT, own_codes + len(values)))
            values.extend(own_values)
        _agree(key, tables)
        columns.append(column(key, values, np.concatenate(codes)))
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
    spelled = [[spelling(v) for v in c.values] for c in columns]
    absent = spelling(None)
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
