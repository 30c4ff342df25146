"""The frozen, ordered list of a sweep's runs. :mod:`sweeps.manifest.manifest_file` reads and writes its
Parquet form.

Held by columns: a run is a few integer codes into lists of distinct values, and its specification is put
together on demand. :mod:`sweeps.manifest.build` makes one of a composed sweep.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sweeps.grid.axes import Axis
from sweeps.grid.columns import ABSENT, SEED_KEY, Column, Table
from sweeps.grid.filters import choose
from sweeps.manifest import run_names
from sweeps.manifest.resolve import Need
from sweeps.spec import (
    GROUPS,
    RunSpec,
    canonical_json,
    group_from_dict,
    group_to_dict,
    group_type,
)
from sweeps.spec.identity import LATER_GROUPS

CHUNK_RUNS = 10_000
"""Runs that are hashed or named at a time: a million would take 100 MiB at once."""

SPACE = "space"
"""Option that holds what a search makes its further runs of (:mod:`sweeps.compose.frozen_sweep`)."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A sweep's runs. Index ``i`` runs from 0 to ``len(manifest) - 1``."""

    sweep: str
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
        return [c.axis for c in self.columns]

    @functools.cached_property
    def num_cells(self) -> int:
        return len(np.unique(self.cells))

    @functools.cached_property
    def index_of(self) -> Mapping[str, int]:
        return {run_id: i for i, run_id in enumerate(self.run_ids)}

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over identities, axis values and configurations, in order, and a search's space: two equal
        manifests ask for the same.
        """
        digest = hashlib.sha256()
        for start in range(0, len(self), CHUNK_RUNS):
            chunk = "\n".join(self.run_ids[start : start + CHUNK_RUNS])
            digest.update(("\n" if start else "").encode() + chunk.encode())
        axes = [[c.key, c.kind, list(c.values)] for c in self.columns]
        hashed = [g for g in GROUPS if g not in LATER_GROUPS or self._is_set(g)]
        texts = {g: [_in_one_order(text) for text in self.groups[g]] for g in hashed}
        digest.update(json.dumps([axes, texts], sort_keys=True).encode())
        for codes in (*(c.codes for c in self.columns), *(self.group_codes[g] for g in hashed)):
            digest.update(codes.astype("<i8").tobytes())
        if SPACE in self.options:
            digest.update(json.dumps(self.options[SPACE], sort_keys=True).encode())
        return digest.hexdigest()

    def _is_set(self, group: str) -> bool:
        """Whether anything in a group differs from its defaults in any run."""
        return self.groups[group] != (canonical_json(group_to_dict(group_type(group)())),)

    def axis_values(self, i: int) -> dict[str, Any]:
        """Return run ``i``'s value of each axis; ``None`` where the axis does not exist for it."""
        return {c.key: None if c.codes[i] == ABSENT else c.values[c.codes[i]] for c in self.columns}

    def cell(self, i: int) -> int:
        return int(self.cells[i])

    @functools.cached_property
    def _prefixes(self) -> list[tuple[str, Column]]:
        columns = sorted(self.columns, key=lambda c: c.key == SEED_KEY)  # the seed comes last
        return list(zip(run_names.prefixes([c.key for c in columns]), columns, strict=True))

    def name(self, i: int) -> str:
        there = [(prefix, c) for prefix, c in self._prefixes if c.codes[i] != ABSENT]
        return run_names.joined(run_names.part(prefix, c.values[c.codes[i]]) for prefix, c in there)

    def names(self) -> Iterator[str]:
        for start in range(0, len(self), CHUNK_RUNS):
            columns = []
            for prefix, column in self._prefixes:
                codes = column.codes[start : start + CHUNK_RUNS].tolist()
                there = set(codes) - {ABSENT}
                texts = {ABSENT: ""} | {code: run_names.part(prefix, column.values[code]) for code in there}
                columns.append([texts[code] for code in codes])
            yield from map(run_names.joined, zip(*columns, strict=True))

    @functools.cached_property
    def _parsed(self) -> dict[tuple[str, int], Any]:
        return {}

    def keep_parsed(self, parsed: Mapping[tuple[str, int], Any]) -> None:
        """Take what configurations are, by group and code, from who knows it without parsing them."""
        self._parsed.update(parsed)

    @property
    def parsed(self) -> Mapping[tuple[str, int], Any]:
        """The configurations that were parsed so far, by group and code."""
        return self._parsed

    def group(self, name: str, i: int) -> Any:
        """Return run ``i``'s group ``name`` as its dataclass; equal configurations are one object."""
        return self._parse(name, self.group_codes[name].item(i))

    def _parse(self, name: str, code: int) -> Any:
        key = name, code
        if key not in self._parsed:
            self._parsed[key] = group_from_dict(name, json.loads(self.groups[name][code]))
        return self._parsed[key]

    def spec(self, i: int) -> RunSpec:
        parsed, codes = self._parsed, self.group_codes
        parts = {g: parsed.get((g, codes[g].item(i))) or self.group(g, i) for g in GROUPS}
        return RunSpec(**parts, steps=int(self.steps[i]), seed=int(self.seeds[i]))

    def specs(self, rows: Sequence[int]) -> list[RunSpec]:
        """Specs of several runs; of hundreds it takes three quarters of the time of one by one."""
        columns = {"steps": self.steps[rows].tolist(), "seed": self.seeds[rows].tolist()}
        for name in GROUPS:
            codes = self.group_codes[name][rows].tolist()
            parsed = {code: self._parse(name, code) for code in set(codes)}
            columns[name] = [parsed[code] for code in codes]
        fields = tuple(columns)
        return [
            RunSpec(**dict(zip(fields, values, strict=True)))
            for values in zip(*columns.values(), strict=True)
        ]

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

    def matching(self, filters: Sequence[str], also: Sequence[Column] = ()) -> list[int]:
        """Return the runs whose axes satisfy every filter, in order; all of them without one.

        Args:
            filters: each one or more terms.
            also: columns that filters may name besides the axes.

        Raises:
            SpecError: for a filter that is none, an unknown axis, or a value that no run has.
        """
        table = Table(num_runs=len(self), columns=(*self.columns, *also))
        chosen = choose(filters, {c.key: c.axis for c in table.columns})
        return [int(i) for i in np.flatnonzero(table.select(chosen))]


def space_keys(manifest: Manifest) -> set[str]:
    """Keys of the axes that a search chooses of; none without one."""
    return {axis["key"] for axis in manifest.options.get(SPACE, {}).get("axes", ())}


def _in_one_order(text: str) -> str:
    """A group's text without the order in which a sweep file says what metrics are: it asks for nothing."""
    begin = text.find(_METRICS)
    if begin < 0:
        return text
    metrics, _ = _DECODER.raw_decode(text, begin + len(_METRICS) - 2)
    return text if list(metrics) == sorted(metrics) else canonical_json(json.loads(text))


_METRICS, _DECODER = '"metrics":{"', json.JSONDecoder()
