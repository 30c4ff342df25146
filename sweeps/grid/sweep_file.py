"""The ``sweep:`` node of a sweep file, read into a :class:`~sweeps.grid.grid.Grid` and rules. Pure.

::

    # @package _global_
    defaults:
      - override /eval: addition          # plain Hydra: options and values for every run
    steps: 10
    sweep:
      about: which learning rate lifts which model
      axes:                               # multiplied; this order is the order of table columns
        model: [tiny-64, tiny-96]
        schedule: [constant, wsd]
        schedule.decay_fraction: {values: [0.1, 0.2], when: schedule=wsd}
        optim.lr: 1e-4,2e-4               # Hydra's override grammar works too
        objective.temperature: interval(0.5,1.5)   # for a search to choose of: search=tpe
        seed: range(16)
      zip: [[lr, objective.temperature]]         # axes that advance together
      exclude: [model=tiny-96 optim.lr>=2e-4]    # filters (sweeps.grid.filters); any match leaves a run out
      concat: [{axes: …}, {axes: …}]             # sub-grids laid end to end, multiplied with the axes above
      set: [{when: model=tiny-96, resources: large, sampling.max_new_tokens: 32}]   # settings, not axes
      subset: {cells: 20, seed: 0}               # a random part: runs, or cells with all their seeds
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.grid.axes import resolve
from sweeps.grid.error_location import at
from sweeps.grid.filters import parse_filter
from sweeps.grid.grid import DeclaredAxis, Grid, Subset
from sweeps.grid.resolve_configs import Rule
from sweeps.spec import SpecError, nearest

GRID_KEYS = ("axes", "zip", "exclude", "concat", "subset")
"""Keys of a grid, and of each sub-grid in ``concat``."""

SWEEP_KEYS = ("name", "about", *GRID_KEYS, "set")
"""Keys of the ``sweep:`` node; any other scalar is a parameter to refer to, as ``${sweep.n}``."""

Values = Callable[[str, Any], Sequence[Any]]
"""Takes an axis key and what was written for its values; returns them checked and typed, or raises SpecError.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """What a sweep file declares."""

    grid: Grid
    rules: tuple[Rule, ...] = ()


def read_sweep(node: Mapping[str, Any], values: Values) -> Declared:
    """Read the ``sweep:`` node.

    Raises:
        SpecError: for an unknown key, a value of the wrong shape, or what ``values`` refuses.
    """
    if "sweep" in node:
        with at("sweep"):
            raise SpecError("sweep.sweep: is nested; put `# @package _global_` on the file's first line")
    for key, value in node.items():
        misspelt = difflib.get_close_matches(str(key), SWEEP_KEYS, cutoff=0.7)
        if key not in SWEEP_KEYS and (misspelt or isinstance(value, (list, Mapping))):
            hint = nearest(str(key), SWEEP_KEYS)
            with at(key):
                raise SpecError(f"sweep.{key}: unknown key{hint}; a sweep has {', '.join(SWEEP_KEYS)}")
    rules = []
    for i, entry in enumerate(_list(node, "set", Mapping)):
        with at("set", i):
            rules.append(_rule(entry, values))
    return Declared(grid=_grid({k: node.get(k) for k in GRID_KEYS}, values), rules=tuple(rules))


def _grid(node: Mapping[str, Any], values: Values) -> Grid:
    for key in node:
        if key not in GRID_KEYS:
            with at(key):
                raise SpecError(
                    f"{key}: unknown key{nearest(str(key), GRID_KEYS)}; a sub-grid has {', '.join(GRID_KEYS)}"
                )
    axes = []
    for key, written in _mapping(node, "axes").items():
        with at("axes", key):
            axes.append(_axis(str(key), written, values))
    excludes = []
    for i, text in enumerate(_list(node, "exclude", str)):
        with at("exclude", i):
            excludes.append(parse_filter(text, "exclude"))
    parts = []
    for i, part in enumerate(_list(node, "concat", Mapping)):
        with at("concat", i):
            parts.append(_grid(part, values))
    return Grid(
        axes=tuple(axes),
        zips=tuple(_zips(node, [axis.key for axis in axes])),
        parts=tuple(parts),
        excludes=tuple(excludes),
        subset=_subset(node),
    )


def _axis(key: str, written: Any, values: Values) -> DeclaredAxis:
    condition = None
    if isinstance(written, Mapping):
        extra = [k for k in written if k not in ("values", "when")]
        if extra or "values" not in written:
            raise SpecError(
                f"axis {key}: give values, and when as a filter; found {', '.join(map(str, written))}"
            )
        condition, written = written.get("when"), written["values"]
    if written is None or written in ([], ""):
        raise SpecError(f"axis {key}: is empty; give at least one value, such as {key}: [1, 2]")
    when = parse_filter(condition, f"axis {key}: when") if condition is not None else None
    return DeclaredAxis(key=key, values=tuple(values(key, written)), when=when)


def _zips(node: Mapping[str, Any], known: Sequence[str]) -> Iterable[tuple[str, ...]]:
    entries = node.get("zip") or []
    if isinstance(entries, list) and entries and all(isinstance(e, str) for e in entries):
        entries = [entries]
    for i, keys in enumerate(entries if isinstance(entries, list) else [entries]):
        with at("zip", i):
            if not isinstance(keys, list) or len(keys) < 2 or not all(isinstance(k, str) for k in keys):
                raise SpecError(
                    f"zip {keys!r}: must list at least two axes, such as [optim.lr, objective.temperature]"
                )
            shown = f"zip [{', '.join(keys)}]"
            try:
                yield tuple(resolve(word, known) for word in keys)
            except SpecError as error:
                raise SpecError(f"{shown}: {error}") from None


def _subset(node: Mapping[str, Any]) -> Subset | None:
    written = _mapping(node, "subset")
    with at("subset"):
        extra = [k for k in written if k not in ("runs", "cells", "seed")]
        numbers = {k: v for k, v in written.items() if v is not None}
        wrong = [k for k, v in numbers.items() if not isinstance(v, int) or isinstance(v, bool)]
        if extra or wrong or ("runs" in numbers and "cells" in numbers):
            raise SpecError(f"sweep.subset {written}: give runs or cells, and a seed, as whole numbers")
        for of in ("runs", "cells"):
            if of in numbers:
                return Subset(num=numbers[of], of=of, seed=numbers.get("seed", 0))
    return None


def _rule(entry: Mapping[str, Any], values: Values) -> Rule:
    assign = {str(k): v for k, v in entry.items() if k != "when"}
    if "when" not in entry or not assign:
        raise SpecError(f"set {dict(entry)}: give when: FILTER and at least one key to set")
    checked = {}
    for key, value in assign.items():
        typed = values(key, [value])
        checked[key] = typed[0]
    return Rule(when=parse_filter(entry["when"], "set: when"), assign=checked)


def _mapping(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = node.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        with at(key):
            raise SpecError(f"sweep.{key}={value!r}: must be a mapping of keys to values")
    return value


def _list(node: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    value = node.get(key)
    items = [] if value is None else value if isinstance(value, list) else [value]
    for i, item in enumerate(items):
        if not isinstance(item, kind):
            with at(key, i):
                word = "text" if kind is str else "a mapping"
                raise SpecError(f"sweep.{key}: each entry must be {word}, not {item!r}")
    return items


def override(declared: Declared, given: Iterable[tuple[str, Sequence[Any]]], swept: set[str]) -> Declared:
    """Let the command line win: its values replace those of an axis, or make a new axis where there are
    several.

    Args:
        given: key and values in the order of the words.
        swept: keys that were given as a list of values, which become an axis if there is none.
    """
    grid, rules = declared.grid, list(declared.rules)
    for key, values in given:
        if key in grid.key_names():
            grid = _replace(grid, key, tuple(values))
        elif key in swept:
            grid = dataclasses.replace(grid, axes=(*grid.axes, DeclaredAxis(key=key, values=tuple(values))))
        rules = [_without(rule, key) for rule in rules]
    return Declared(grid=grid, rules=tuple(r for r in rules if r.assign))


def _replace(grid: Grid, key: str, values: tuple[Any, ...]) -> Grid:
    """Give the axis ``key`` new values wherever it stands; a single value leaves its zip, for it has nothing
    to advance with.
    """
    axes = tuple(dataclasses.replace(a, values=values) if a.key == key else a for a in grid.axes)
    zips = grid.zips
    if len(values) == 1:
        zips = tuple(tuple(k for k in keys if k != key) for keys in zips)
        zips = tuple(keys for keys in zips if len(keys) > 1)
    return dataclasses.replace(
        grid, axes=axes, zips=zips, parts=tuple(_replace(p, key, values) for p in grid.parts)
    )


def _without(rule: Rule, key: str) -> Rule:
    assign = {k: v for k, v in rule.assign.items() if k != key and not k.startswith(f"{key}.")}
    return dataclasses.replace(rule, assign=assign)
