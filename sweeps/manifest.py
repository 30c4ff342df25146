"""The frozen, ordered list of a sweep's runs. :mod:`sweeps.manifest_file` reads and writes its Parquet form.

Held by columns: a run is a few integer codes into lists of distinct values, and its specification is put
together on demand. Runs are ordered for locality: by model, then by what lets neighbours share work (example,
sampling, seed, objective, optimizer).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps import names
from sweeps.bind import Bound, bind
from sweeps.columns import ABSENT, SEED_KEY, Column, Table, combine
from sweeps.expand import expand
from sweeps.fit import check_fit, check_trainable
from sweeps.groups import TrainerSpec
from sweeps.identity import LATER_GROUPS
from sweeps.lineage import trace
from sweeps.locate import at, mistakes_in
from sweeps.prompts import check_formats, check_lengths
from sweeps.resolve import Need, resolve_group
from sweeps.run_ids import Unidentified, identify
from sweeps.spec import (
    GROUPS,
    RunSpec,
    canonical_json,
    coerce_key,
    group_canonical,
    group_from_dict,
    group_to_dict,
    group_type,
)

if TYPE_CHECKING:
    from sweeps.compose import ComposedSweep

LOCALITY = (
    "model",
    "trainer",
    "engine",
    "resources",
    "example",
    "sampling",
    "seed",
    "objective",
    "optim",
    "schedule",
)
"""Groups by which runs are sorted, the most expensive to change first; evaluation and horizon come last."""


CHUNK_RUNS = 10_000
"""Runs that are hashed or named at a time: a million would take 100 MiB at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One axis of a manifest."""

    key: str
    """Hydra key, the name of its column in every table."""
    values: tuple[Any, ...]
    """Distinct values in YAML order."""
    kind: str
    """``int``, ``float``, ``bool`` or ``str`` (lists and mappings are shown as JSON text)."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A sweep's runs. Index ``i`` runs from 0 to ``len(manifest) - 1``."""

    sweep: str
    """Name of the sweep."""
    run_ids: list[str]
    """Identity of each run, all different."""
    columns: tuple[Column, ...]
    """Axis values of each run, in YAML order."""
    groups: Mapping[str, tuple[str, ...]]
    """Group to the JSON of its distinct configurations."""
    group_codes: Mapping[str, np.ndarray]
    """Group to the configuration of each run, shape (runs,)."""
    steps: np.ndarray
    """Optimizer steps of each run, int64, shape (runs,)."""
    seeds: np.ndarray
    """Seed of each run, int64, shape (runs,)."""
    cells: np.ndarray
    """Cell of each run (every axis but the seed), numbered in column order, int64, shape (runs,)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What is not part of any run: ``sharing``, ``budget``, ``cluster``."""
    overrides: tuple[str, ...] = ()
    """Words of the command line that asked for the sweep."""
    num_duplicates: int = 0
    """Runs left out because another has the same identity."""
    needs: tuple[Need, ...] = ()
    """What is missing on this machine for running it; known only where it was built, not stored."""

    def __len__(self) -> int:
        return len(self.run_ids)

    @functools.cached_property
    def axes(self) -> list[Axis]:
        """Axes in YAML order."""
        return [Axis(key=c.key, values=c.values, kind=c.kind) for c in self.columns]

    @functools.cached_property
    def num_cells(self) -> int:
        """Distinct choices of every axis but the seed."""
        return len(np.unique(self.cells))

    @functools.cached_property
    def index_of(self) -> Mapping[str, int]:
        """Run id to index."""
        return {run_id: i for i, run_id in enumerate(self.run_ids)}

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over identities, axis values and configurations, in order: two equal manifests ask for the
        same.
        """
        digest = hashlib.sha256()
        for start in range(0, len(self), CHUNK_RUNS):
            chunk = "\n".join(self.run_ids[start : start + CHUNK_RUNS])
            digest.update(("\n" if start else "").encode() + chunk.encode())
        axes = [[c.key, c.kind, list(c.values)] for c in self.columns]
        told = [g for g in GROUPS if g not in LATER_GROUPS or self._is_set(g)]
        digest.update(json.dumps([axes, {g: list(self.groups[g]) for g in told}], sort_keys=True).encode())
        for codes in (*(c.codes for c in self.columns), *(self.group_codes[g] for g in told)):
            digest.update(codes.astype("<i8").tobytes())
        return digest.hexdigest()

    def _is_set(self, group: str) -> bool:
        """Whether anything in a group differs from its defaults in any run."""
        return self.groups[group] != (canonical_json(group_to_dict(group_type(group)())),)

    def axis_values(self, i: int) -> dict[str, Any]:
        """Return run ``i``'s value of each axis; ``None`` where the axis does not exist for it."""
        return {c.key: None if c.codes[i] == ABSENT else c.values[c.codes[i]] for c in self.columns}

    def cell(self, i: int) -> int:
        """Return run ``i``'s cell."""
        return int(self.cells[i])

    @functools.cached_property
    def _prefixes(self) -> list[tuple[str, Column]]:
        columns = sorted(self.columns, key=lambda c: c.key == SEED_KEY)  # the seed comes last
        return list(zip(names.prefixes([c.key for c in columns]), columns, strict=True))

    def name(self, i: int) -> str:
        """Return run ``i``'s short readable name."""
        there = [(prefix, c) for prefix, c in self._prefixes if c.codes[i] != ABSENT]
        return names.joined(names.part(prefix, c.values[c.codes[i]]) for prefix, c in there)

    def names(self) -> Iterator[str]:
        """Yield every run's name in order."""
        for start in range(0, len(self), CHUNK_RUNS):
            columns = []
            for prefix, column in self._prefixes:
                codes = column.codes[start : start + CHUNK_RUNS].tolist()
                there = set(codes) - {ABSENT}
                texts = {ABSENT: ""} | {code: names.part(prefix, column.values[code]) for code in there}
                columns.append([texts[code] for code in codes])
            yield from map(names.joined, zip(*columns, strict=True))

    @functools.cached_property
    def _parsed(self) -> dict[tuple[str, int], Any]:
        return {}

    def group(self, name: str, i: int) -> Any:
        """Return run ``i``'s group ``name`` as its dataclass; equal configurations are one object."""
        key = (name, int(self.group_codes[name][i]))
        if key not in self._parsed:
            self._parsed[key] = group_from_dict(name, json.loads(self.groups[name][key[1]]))
        return self._parsed[key]

    def spec(self, i: int) -> RunSpec:
        """Return run ``i``'s full specification."""
        parts = {g: self.group(g, i) for g in GROUPS}
        return RunSpec(**parts, steps=int(self.steps[i]), seed=int(self.seeds[i]))

    def take(self, rows: Sequence[int] | np.ndarray) -> Manifest:
        """Return the manifest of the runs ``rows`` alone, in that order; axes keep all their values."""
        chosen = np.asarray(rows, dtype=np.int64)
        return dataclasses.replace(
            self,
            run_ids=[self.run_ids[i] for i in chosen.tolist()],
            columns=tuple(dataclasses.replace(c, codes=c.codes[chosen]) for c in self.columns),
            group_codes={g: c[chosen] for g, c in self.group_codes.items()},
            steps=self.steps[chosen],
            seeds=self.seeds[chosen],
            cells=self.cells[chosen],
        )

    def write(self, path: Path) -> None:
        """Write the Parquet form; the file appears complete or not at all."""
        from sweeps.manifest_file import write_manifest

        write_manifest(self, Path(path))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read the Parquet form.

        Raises:
            SpecError: if the file is missing, is not a manifest, or was written by a newer version.
        """
        from sweeps.manifest_file import read_manifest

        return read_manifest(Path(path))


def build_manifest(composed: ComposedSweep) -> Manifest:
    """Expand, resolve and identify every run of a composed sweep, in time linear in their number.

    Each distinct configuration of a group is resolved, checked and serialised once; a run costs one hash.

    Raises:
        SpecError: for what :func:`~sweeps.expand.expand`, :func:`~sweeps.bind.bind`,
            :func:`~sweeps.resolve.resolve_group`, a group's own rules or those between groups refuse.
    """
    defaults = _defaults(composed)
    with mistakes_in(composed.source):
        table = expand(composed.grid, defaults)
        bound = bind(composed.layers, table)
        lineage = trace(table, bound["init_from"])
    groups: dict[str, tuple[str, ...]] = {}
    codes: dict[str, np.ndarray] = {}
    fragments: dict[str, list[str]] = {}
    parts: dict[str, list[Any]] = {group: [] for group in GROUPS}
    needs: dict[Need, None] = {}
    for group in GROUPS:
        texts, canonical = [], []
        for config in bound[group].variants:
            resolved, need = resolve_group(group, config)
            part = group_from_dict(group, resolved)
            texts.append(canonical_json(group_to_dict(part), group))
            canonical.append(group_canonical(group, part))
            if need is not None:
                needs[need] = None
            parts[group].append(part)
        groups[group], codes[group], fragments[group] = tuple(texts), bound[group].codes, canonical
    _check_together(parts, codes)
    steps, seeds = _scalars("steps", bound["steps"]), _scalars("seed", bound["seed"])
    with mistakes_in(composed.source), at("axes", "init_from"):
        found = identify(
            Unidentified(
                texts=groups,
                canonical=fragments,
                codes=codes,
                models=parts["model"],
                steps=steps,
                seeds=seeds,
            ),
            lineage,
        )
    run_ids = found.run_ids
    groups["init"], codes["init"] = found.inits, found.init_codes
    keep, num_duplicates = _first_of_each(run_ids, _locality(codes, steps, seeds))
    return Manifest(
        sweep=composed.name,
        run_ids=[run_ids[i] for i in keep.tolist()],
        columns=tuple(_used(c) for c in table.take(keep).columns),
        groups=groups,
        group_codes={g: c[keep].astype(np.int32) for g, c in codes.items()},
        steps=steps[keep],
        seeds=seeds[keep],
        cells=_cells(table, keep),
        options=dict(composed.options),
        overrides=composed.overrides,
        num_duplicates=num_duplicates,
        needs=tuple(needs),
    )


def _defaults(composed: ComposedSweep) -> dict[str, Any]:
    """What an axis holds in a sub-grid that does not set it: the base option or value."""
    values: dict[str, Any] = dict(composed.choices)
    for key in composed.grid.key_names():
        group, _, rest = key.partition(".")
        if key not in values:
            value: Any = composed.base.get(group)
            for name in rest.split(".") if rest else ():
                value = value.get(name) if isinstance(value, Mapping) else None
            values[key] = value
    return values


def _check_together(parts: Mapping[str, Sequence[Any]], codes: Mapping[str, np.ndarray]) -> None:
    """Hold each distinct choice of several groups against the rules between them."""
    everywhere = np.ones(len(codes["model"]), dtype=bool)
    ours = np.array([t.target == TrainerSpec().target for t in parts["trainer"]])[codes["trainer"]]
    for check, rows, *together in (
        (check_fit, everywhere, "objective", "sampling", "example"),
        (check_trainable, everywhere, "model", "optim", "engine"),
        (check_formats, ours, "model", "example", "eval"),
        (check_lengths, ours, "model", "example", "sampling"),
    ):
        columns = [codes[group][rows] for group in together]
        _, firsts = np.unique(combine(columns, int(rows.sum())), return_index=True)
        for row in firsts.tolist():
            check(*(parts[g][column[row]] for g, column in zip(together, columns, strict=True)))


def _scalars(key: str, bound: Bound) -> np.ndarray:
    values = [coerce_key(key, v) for v in bound.variants]
    for extreme in (min(values), max(values)):
        RunSpec(**{key: extreme})  # its range is an interval, so the ends decide
    return np.array(values, dtype=np.int64)[bound.codes]


def _locality(codes: Mapping[str, np.ndarray], steps: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the order of runs in which neighbours share most."""
    keys = [seeds if name == SEED_KEY else codes[name] for name in LOCALITY]
    return np.lexsort([codes["eval"], steps, *reversed(keys)])


def _first_of_each(run_ids: Sequence[str], order: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the rows to keep, in ``order``, without a second run of the same identity."""
    seen: set[str] = set()
    keep = []
    for row in order.tolist():
        if run_ids[row] not in seen:
            seen.add(run_ids[row])
            keep.append(row)
    return np.array(keep, dtype=np.int64), len(run_ids) - len(keep)


def _used(column: Column) -> Column:
    """Drop values that no run has, after exclusions and subsets; ``null`` is that an axis does not exist."""
    used = np.zeros(len(column.values) + 1, dtype=bool)
    used[column.codes] = True
    used[:-1] &= [value is not None for value in column.values]
    if used[:-1].all():
        return column
    recode = np.where(used, np.cumsum(used) - 1, ABSENT).astype(np.int32)
    recode[-1] = ABSENT
    values = tuple(v for v, u in zip(column.values, used[:-1], strict=True) if u)
    return dataclasses.replace(column, values=values, codes=recode[column.codes])


def _cells(table: Table, keep: np.ndarray) -> np.ndarray:
    """Number the cells of the runs that are kept, from 0 without gaps."""
    _, cells = np.unique(table.cells()[keep], return_inverse=True)
    return cells
