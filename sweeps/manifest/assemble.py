"""The one place where a manifest is put together, from columns or from whole specifications: equal runs
become one, values that no run has go, cells are numbered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sweeps.grid.columns import ABSENT, Column, Table
from sweeps.manifest.manifest import Manifest
from sweeps.spec import (
    GROUPS,
    RunSpec,
    group_canonical,
    group_text,
    join_run_id,
    lineage_canonical,
    run_id_of,
)


def assemble(
    *,
    sweep: str,
    run_ids: Sequence[str],
    columns: Sequence[Column],
    groups: Mapping[str, Sequence[str]],
    group_codes: Mapping[str, np.ndarray],
    steps: np.ndarray,
    seeds: np.ndarray,
    order: np.ndarray | None = None,
    **more: Any,
) -> Manifest:
    """Return the manifest of the runs in ``order`` (as given, unless it says otherwise), each identity once.

    The arguments are those of :class:`Manifest`; ``run_ids`` may repeat.
    """
    seen: set[str] = set()
    rows = []
    for row in range(len(run_ids)) if order is None else order.tolist():
        if run_ids[row] not in seen:
            seen.add(run_ids[row])
            rows.append(row)
    keep = np.array(rows, dtype=np.int64)
    table = Table(num_runs=len(run_ids), columns=tuple(columns)).take(keep)
    return Manifest(
        sweep=sweep,
        run_ids=[run_ids[row] for row in rows],
        columns=tuple(map(_used, table.columns)),
        groups={group: tuple(groups[group]) for group in GROUPS},
        group_codes={group: group_codes[group][keep].astype(np.int32) for group in GROUPS},
        steps=steps[keep],
        seeds=seeds[keep],
        cells=table.cells(),
        num_duplicates=len(run_ids) - len(rows),
        **more,
    )


def manifest_of_specs(
    specs: Sequence[RunSpec], columns: Sequence[Column], *, sweep: str, options: Mapping[str, Any]
) -> tuple[Manifest, list[int]]:
    """Return the manifest of these runs, and the place of each in it; equal ones are one run.

    Each distinct group object is serialised once, so specifications should share what they have in common.
    """
    texts: dict[str, dict[str, int]] = {}
    fragments: dict[str, list[str]] = {}
    codes: dict[str, np.ndarray] = {}
    for group in GROUPS:
        texts[group], fragments[group] = {}, []
        code_of: dict[int, int] = {}
        codes[group] = np.empty(len(specs), dtype=np.int32)
        for row, spec in enumerate(specs):
            part = getattr(spec, group)
            if id(part) not in code_of:
                text = group_text(group, part)
                code_of[id(part)] = code = texts[group].setdefault(text, len(texts[group]))
                if code == len(fragments[group]):
                    fragments[group].append(group_canonical(group, part))
            codes[group][row] = code_of[id(part)]
    run_ids = []
    for row, spec in enumerate(specs):
        parent = spec.parent
        lineage = lineage_canonical([run_id_of(parent)] if parent else spec.init.runs)
        canonical = {group: fragments[group][codes[group][row]] for group in GROUPS} | {"init": lineage}
        run_ids.append(join_run_id(canonical, spec.steps, spec.seed))
    manifest = assemble(
        sweep=sweep,
        run_ids=run_ids,
        columns=columns,
        groups={group: tuple(texts[group]) for group in GROUPS},
        group_codes=codes,
        steps=np.array([spec.steps for spec in specs], dtype=np.int64),
        seeds=np.array([spec.seed for spec in specs], dtype=np.int64),
        options=dict(options),
    )
    return manifest, [manifest.index_of[run_id] for run_id in run_ids]


def _used(column: Column) -> Column:
    """Drop values that no run has, after exclusions and subsets; ``null`` is that an axis does not exist."""
    used = np.zeros(len(column.values) + 1, dtype=bool)
    used[column.codes] = True
    used[:-1] &= np.array([value is not None for value in column.values], dtype=bool)
    if used[:-1].all():
        return column
    recode = np.where(used, np.cumsum(used) - 1, ABSENT).astype(np.int32)
    recode[-1] = ABSENT
    values = tuple(v for v, u in zip(column.values, used[:-1], strict=True) if u)
    return dataclasses.replace(column, values=values, codes=recode[column.codes])
