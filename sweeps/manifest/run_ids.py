"""Identities of a manifest's runs, from the canonical text of their groups; earlier runs before those that
start from them. Costs one hash a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.grid.columns import combine
from sweeps.manifest.lineage import RUN_ID, Lineage, OpenSweep, find_by_id, init_of_cell, init_of_run
from sweeps.manifest.manifest import Manifest
from sweeps.spec import (
    GROUPS,
    RUN_ID_LENGTH,
    InitSpec,
    ModelSpec,
    SpecError,
    canonical_json,
    group_canonical,
    group_from_dict,
    group_to_dict,
    joined_groups,
    joined_scalars,
    lineage_canonical,
    run_id_of,
)

CHUNK_ROWS = 10_000
"""Runs whose order is turned into Python integers at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identified:
    """Runs with their identities."""

    run_ids: list[str]
    inits: tuple[str, ...]
    """JSON of the distinct configurations of the group ``init``."""
    init_codes: np.ndarray
    """Index into ``inits`` of each run, int64, shape (runs,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unidentified:
    """Runs whose groups are settled."""

    texts: Mapping[str, Sequence[str]]
    """Group to the JSON of its distinct configurations."""
    canonical: Mapping[str, Sequence[str]]
    """The same, science part alone."""
    codes: Mapping[str, np.ndarray]
    """Group to the configuration of each run, shape (runs,)."""
    models: Sequence[ModelSpec]
    steps: np.ndarray
    """int64, shape (runs,)."""
    seeds: np.ndarray
    """int64, shape (runs,)."""


def identify(runs: Unidentified, lineage: Lineage, open_sweep: OpenSweep | None = None) -> Identified:
    """Hash every run; ``open_sweep`` reads the directories of other sweeps that runs start from.

    Raises:
        SpecError: for a run that cannot start from where it is told to.
    """
    num = len(runs.steps)
    base = canonical_json(group_to_dict(InitSpec()))
    inits, init_codes = {base: 0}, np.zeros(num, dtype=np.int64)
    ids = [""] * num
    parents: list[tuple[str, ...]] = [()] * num

    def part_of(group: str, row: int) -> tuple[int, str]:
        if group == "init":
            return 0, list(inits)[init_codes[row]]
        code = int(runs.codes[group][row])
        return code, runs.texts[group][code]

    scalars = {"steps": runs.steps, "seed": runs.seeds}
    for level in [*_levels(lineage)] if not lineage.is_trivial else [range(num)]:
        for row in level:
            text = lineage.texts[row]
            if not text:
                continue
            earlier = int(lineage.rows[row])
            if earlier < 0 and RUN_ID.fullmatch(text):
                earlier = find_by_id(ids, text)
            if earlier >= 0:
                init = init_of_cell(row, earlier, part_of, scalars)
                parents[row] = (ids[earlier],)
            else:
                init = init_of_run(text, runs.models[runs.codes["model"][row]], open_sweep)
                parents[row] = tuple(init.runs)
            init_codes[row] = inits.setdefault(canonical_json(group_to_dict(init)), len(inits))
        _hash(runs, level, parents, ids)
    return Identified(run_ids=ids, inits=tuple(inits), init_codes=init_codes)


def _integers(array: np.ndarray) -> Iterator[int]:
    """Yield an array's integers; so few exist at a time that a million take no memory."""
    for start in range(0, len(array), CHUNK_ROWS):
        yield from array[start : start + CHUNK_ROWS].tolist()


def _levels(lineage: Lineage) -> list[list[int]]:
    """Rows in an order in which what a run starts from comes before it."""
    first, *rest = lineage.by_depth()
    at_base = [row for row in first if not lineage.texts[row]]
    return [level for level in (at_base, [row for row in first if lineage.texts[row]], *rest) if level]


def _hash(runs: Unidentified, rows: Sequence[int], parents: Sequence[Sequence[str]], ids: list[str]) -> None:
    """Fill in ``ids`` of some rows; those that agree in all groups share the beginning of their hash."""
    chosen = np.asarray(rows, dtype=np.int64)
    groups = [g for g in GROUPS if g != "init"]
    combos = combine([runs.codes[g][chosen] for g in groups], len(chosen))
    last: tuple[int, Sequence[str]] = (-1, ())
    begun = hashlib.sha256()
    for place in _integers(np.argsort(combos, kind="stable")):
        row = int(chosen[place])
        key = (int(combos[place]), parents[row])
        if key != last:
            last = key
            fragments = {g: runs.canonical[g][runs.codes[g][row]] for g in groups}
            lineage = lineage_canonical(parents[row])
            begun = hashlib.sha256(joined_groups(fragments | {"init": lineage}).encode())
        digest = begun.copy()
        digest.update(joined_scalars(int(runs.steps[row]), int(runs.seeds[row])).encode())
        ids[row] = digest.hexdigest()[:RUN_ID_LENGTH]


def first_wrong_id(manifest: Manifest) -> int | None:
    """The first run whose id is not the hash of its configuration, or ``None``: one hash a run.

    What was stored as one run must never be computed as another.
    """
    try:
        fragments = {
            group: [group_canonical(group, group_from_dict(group, json.loads(text))) for text in texts]
            for group, texts in manifest.groups.items()
            if group != "init"
        }
        runs = Unidentified(
            texts=manifest.groups,
            canonical=fragments,
            codes=manifest.group_codes,
            models=(),
            steps=manifest.steps,
            seeds=manifest.seeds,
        )
        lineages = _lineages(manifest)
    except (SpecError, ValueError, KeyError, TypeError, AttributeError):
        return 0
    ids = [""] * len(manifest)
    _hash(runs, range(len(manifest)), lineages, ids)
    return next((i for i, found in enumerate(ids) if found != manifest.run_ids[i]), None)


def _lineages(manifest: Manifest) -> Sequence[Sequence[str]]:
    """What each run starts from, as ids."""
    codes = manifest.group_codes["init"]
    inits = [group_from_dict("init", json.loads(text)) for text in manifest.groups["init"]]
    if not any(init.changes for init in inits):
        shared = [tuple(init.runs) for init in inits]
        return [shared[code] for code in _integers(codes)]
    found: list[tuple[str, ...]] = []
    for row in range(len(manifest)):
        init = inits[codes[row]]
        parent = manifest.spec(row).parent if init.changes else None
        found.append((run_id_of(parent),) if parent is not None else tuple(init.runs))
    return found
