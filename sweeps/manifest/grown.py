"""A manifest with further runs behind its own: what a search has proposed so far. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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
    there = set(manifest.run_ids)
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
    groups, codes = {}, {}
    for group in GROUPS:
        number = {text: code for code, text in enumerate(manifest.groups[group])}
        recode = np.array(
            [number.setdefault(text, len(number)) for text in more.groups[group]], dtype=np.int32
        )
        groups[group] = tuple(number)
        codes[group] = np.concatenate([manifest.group_codes[group], recode[more.group_codes[group]]])
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
    found.keep_parsed(manifest)
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
    values: dict[str, Any] = {}
    texts: list[list[str]] = []
    for column, _ in (first, second):
        own = [] if column is None else [_typed(kind, v) for v in column.values]
        texts.append([spelling(v) for v in own])
        values.update(zip(texts[-1], own, strict=True))
    if order is None:
        chosen = sorted(values, key=lambda text: values[text])
    else:
        listed = [spelling(_typed(kind, v)) for v in order]
        chosen = [t for t in dict.fromkeys(listed) if t in values]
        chosen += [t for t in values if t not in set(listed)]
    place = {text: number for number, text in enumerate(chosen)}
    codes = []
    for (column, num), spelled in zip((first, second), texts, strict=True):
        table = np.array([*(place[text] for text in spelled), ABSENT], dtype=np.int32)
        codes.append(np.full(num, ABSENT, dtype=np.int32) if column is None else table[column.codes])
    return Column(key=key, values=tuple(values[t] for t in chosen), kind=kind, codes=np.concatenate(codes))


def _typed(kind: Kind, value: Any) -> Any:
    return float(value) if kind == "float" else value
