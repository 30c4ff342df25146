"""From axis values to configurations: what each group of each run holds. Pure.

Layers of a group, later ones winning: the base option (or the option that a rule or a group axis names), the
rules whose condition holds, the axes on single keys; then ``${key}`` references are looked up in that same
run. A group is built once per distinct combination of the axes that can reach it, so that the cost does not
grow with the number of runs.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sweeps.grid.columns import ABSENT, Column, Table, combine
from sweeps.grid.filters import Filter
from sweeps.spec import GROUPS, SCALARS, SpecError, nearest

REFERENCE = re.compile(r"\$\{([^${}:]+)\}")
"""``${optim.lr}``: the value of another key of the same run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Settings that hold where a condition does: resources of a large model, say. Not an axis, so not a
    column.
    """

    when: Filter
    assign: Mapping[str, Any]
    """Key to value; a group's value is an option name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """Everything below the axes."""

    base: Mapping[str, Any]
    """Groups, ``steps`` and ``seed`` as plain nested values; references unresolved."""
    options: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Group to option name to configuration, for each option that an axis or a rule names."""
    rules: Sequence[Rule] = ()
    """In order; a later one wins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What one group (or ``steps``, ``seed``) holds across the runs."""

    variants: tuple[Any, ...]
    codes: np.ndarray
    """Index into ``variants`` of each run, int64, shape (runs,)."""
    texts: tuple[str, ...] = ()
    """JSON of each variant, where it was needed to tell them apart."""


def bind(layers: Layers, table: Table) -> dict[str, Bound]:
    """Return what each group, ``steps`` and ``seed`` hold in every run of ``table``.

    Raises:
        SpecError: for a rule on an axis that does not exist, an unknown or circular reference.
    """
    kinds = {c.key: c.kind for c in table.columns}
    rules = [dataclasses.replace(rule, when=rule.when.resolved(kinds, "set: when")) for rule in layers.rules]
    layers = dataclasses.replace(layers, rules=rules)
    return {name: _bind_one(name, layers, table) for name in (*GROUPS, *SCALARS)}


def _bind_one(name: str, layers: Layers, table: Table) -> Bound:
    reaching = _influences(name, layers, table.columns, set())
    columns = [c for c in table.columns if c.key in reaching]
    refers = any(True for c in columns for v in c.values for _ in references(v))
    if name in SCALARS and reaching == {name} and not refers and (columns[0].codes != ABSENT).all():
        return Bound(variants=columns[0].values, codes=columns[0].codes.astype(np.int64))
    combos = combine([c.codes for c in columns], table.num_runs)
    _, firsts = np.unique(combos, return_index=True)
    distinct: dict[str, int] = {}
    variants: list[Any] = []
    recode = np.empty(len(firsts), dtype=np.int64)
    for combo, row in enumerate(firsts.tolist()):
        chosen = {c.key: c.values[c.codes[row]] for c in columns if c.codes[row] != ABSENT}
        value = _Run(layers, chosen).value(name)
        code = distinct.setdefault(json.dumps(value, sort_keys=True), len(variants))
        if code == len(variants):
            variants.append(value)
        recode[combo] = code
    return Bound(variants=tuple(variants), codes=recode[combos], texts=tuple(distinct))


class _Run:
    """One choice of axis values, looked up key by key."""

    def __init__(self, layers: Layers, chosen: Mapping[str, Any]) -> None:
        self._layers = layers
        self._chosen = chosen
        self._rules = [r.assign for r in layers.rules if r.when.matches(chosen)]
        self._raw: dict[str, Any] = {}

    def value(self, name: str) -> Any:
        return self._resolve(self._layered(name), (name,))

    def _layered(self, name: str) -> Any:
        """The group before references are looked up."""
        if name in self._raw:
            return self._raw[name]
        if name in SCALARS:
            value = self._layers.base.get(name)
            for source in (*self._rules, self._chosen):
                value = source.get(name, value)
            return value
        named = [source[name] for source in (*self._rules, self._chosen) if name in source]
        value = self._layers.options[name][named[-1]] if named else self._layers.base[name]
        value = _copied(value)
        for source in (*self._rules, self._chosen):
            for key, new in source.items():
                if key.startswith(f"{name}."):
                    _set(value, key.split(".")[1:], new)
        self._raw[name] = value
        return value

    def _resolve(self, value: Any, trail: tuple[str, ...]) -> Any:
        if isinstance(value, Mapping):
            return {k: self._resolve(v, (*trail[:-1], f"{trail[-1]}.{k}")) for k, v in value.items()}
        if isinstance(value, list):
            return [self._resolve(v, trail) for v in value]
        if not isinstance(value, str) or "${" not in value:
            return value
        whole = REFERENCE.fullmatch(value)
        if whole:
            return self._look_up(whole[1].strip(), trail)
        return REFERENCE.sub(lambda m: str(self._look_up(m[1].strip(), trail)), value)

    def _look_up(self, key: str, trail: tuple[str, ...]) -> Any:
        if key in trail:
            raise SpecError(
                f"{trail[0]}: the references {' → '.join((*trail, key))} go in a circle; give one a value"
            )
        value: Any = {
            name: self._layered(name) for name in (key.split(".")[0],) if name in (*GROUPS, *SCALARS)
        }
        for i, part in enumerate(key.split(".")):
            if not isinstance(value, Mapping) or part not in value:
                parent = ".".join(key.split(".")[:i])
                known = (
                    [f"{parent}.{k}".lstrip(".") for k in value] if isinstance(value, Mapping) and i else []
                )
                hint = nearest(key, known or (*GROUPS, *SCALARS))
                raise SpecError(f"{trail[-1]}: refers to ${{{key}}}, which does not exist{hint}")
            value = value[part]
        return self._resolve(value, (*trail, key))


def _copied(value: Any) -> Any:
    """A copy of plain values, all the way down."""
    if isinstance(value, Mapping):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def _set(config: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        config = config.setdefault(part, {})
    config[path[-1]] = value


def _influences(path: str, layers: Layers, columns: Sequence[Column], seen: set[str]) -> set[str]:
    """Axes that can change what ``path`` (a group or a key) holds, through rules and references too."""
    if path in seen:
        return set()
    seen.add(path)
    reaching = {c.key for c in columns if _touches(c.key, path)}
    sources = [*_subtrees(layers, path), *(v for c in columns if _touches(c.key, path) for v in c.values)]
    for rule in layers.rules:
        if any(_touches(key, path) for key in rule.assign):
            reaching |= rule.when.key_names()
            sources += list(rule.assign.values())
    for key in dict.fromkeys(k for s in sources for k in references(s)):
        reaching |= _influences(key, layers, columns, seen)
    return reaching


def _touches(key: str, path: str) -> bool:
    return key == path or key.startswith(f"{path}.") or path.startswith(f"{key}.")


def _subtrees(layers: Layers, path: str) -> Iterator[Any]:
    group, *rest = path.split(".")
    for config in (layers.base.get(group), *layers.options.get(group, {}).values()):
        value: Any = config
        for part in rest:
            value = value.get(part) if isinstance(value, Mapping) else None
        yield value


def references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from (m[1].strip() for m in REFERENCE.finditer(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item)
