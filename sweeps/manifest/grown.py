"""A manifest with further runs behind its own: what a search has proposed so far. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from sweeps.grid.axes import Kind
from sweeps.grid.columns import ABSENT, Column, Table, spelling
from sweeps.manifest.manifest import Manifest
from sweeps.spec import GROUPS
from sweeps.spec.errors import SpecError


def grown(manifest: Manifest, more: Manifest, orders: Mapping[str, Sequence[object]]) -> Manifest:
    """The runs of both, each once: those of ``manifest`` stay at their places, new ones come behind.

    Args:
        manifest: the runs so far.
        more: further ones, of the same axes.
        orders: values of the axes that have countable ones, in their order; other axes are sorted.

    Raises:
        SpecError: for axes of which one has text where the other has numbers.
    """
    parsed, there = more.parsed, set(manifest.run_ids)
    more = more.take([i for i, run_id in enumerate(more.run_ids) if run_id not in there])
    if not len(more):
        return manifest
    by_key = {c.key: c for c in more.columns}
    keys = [c.key for c in manifest.columns] + [
        k for k in by_key if k not in {c.key for c in manifest.columns}
    ]
    own = {c.key: c for c in manifest.columns}
    columns = tuple(
        _joined(key, (own.get(key), len(manifest)), (by_key.get(key), len(more)), orders.get(key))
        for key in keys
    )
    groups, codes, recodes = {}, {}, {}
    for group in GROUPS:
        number = {text: code for code, text in enumerate(manifest.groups[group])}
        recode = np.array(
            [number.setdefault(text, len(number)) for text in more.groups[group]], dtype=np.int32
        )
        groups[group] = tuple(number)
        codes[group] = np.concatenate([manifest.group_codes[group], recode[more.group_codes[group]]])
        recodes[group] = recode.tolist()
    run_ids = manifest.run_ids + more.run_ids
    found = dataclasses.replace(
        manifest,
        run_ids=run_ids,
        columns=columns,
        groups=groups,
        group_codes=codes,
        steps=np.concatenate([manifest.steps, more.steps]),
        seeds=np.concatenate([manifest.seeds, more.seeds]),
        cells=Table(num_runs=len(run_ids), columns=columns).cells(),
    )
    found.keep_parsed(manifest.parsed)
    found.keep_parsed({(group, recodes[group][code]): part for (group, code), part in parsed.items()})
    return found


def _joined(
    key: str,
    first: tuple[Column | None, int],
    second: tuple[Column | None, int],
    order: Sequence[object] | None,
) -> Column:
    kinds = {c.kind for c, _ in (first, second) if c is not None and c.values}
    if len(kinds) > 1 and kinds != {"int", "float"}:
        raise SpecError(
            f"axis {key}: is {' and '.join(sorted(kinds))}; runs of one sweep agree on a key's type"
        )
    kind: Kind = "float" if len(kinds) > 1 else next(iter(kinds), "str")
    own = [[] if c is None else [_typed(kind, v) for v in c.values] for c, _ in (first, second)]
    places: list[Any]
    values: tuple[Any, ...]
    if order is None and kind in ("int", "float"):
        found, numbered = np.unique(np.array([*own[0], *own[1]]), return_inverse=True)
        values, places = tuple(found.tolist()), [numbered[: len(own[0])], numbered[len(own[0]) :]]
    else:
        values, places = _in_order([*map(partial(_typed, kind), order or ())], own)
    codes = []
    for (column, num), place in zip((first, second), places, strict=True):
        table = np.append(np.asarray(place, dtype=np.int32), np.int32(ABSENT))
        codes.append(np.full(num, ABSENT, dtype=np.int32) if column is None else table[column.codes])
    return Column(key=key, values=values, kind=kind, codes=np.concatenate(codes))


def _in_order(order: Sequence[Any], own: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], list[list[int]]]:
    """All values that are there, those of ``order`` first; and the places of each side's."""
    texts = [[spelling(v) for v in side] for side in own]
    there = {
        text: v
        for side, spelled in zip(own, texts, strict=True)
        for text, v in zip(spelled, side, strict=True)
    }
    chosen = dict.fromkeys(text for text in (*map(spelling, order), *there) if text in there)
    place = {text: number for number, text in enumerate(chosen)}
    return tuple(there[text] for text in chosen), [[place[text] for text in spelled] for spelled in texts]


def _typed(kind: Kind, value: Any) -> Any:
    return float(value) if kind == "float" and value is not None else value
