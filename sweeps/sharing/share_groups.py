"""Which runs share what the untrained model does, and which share optimizer steps. Pure.

The levels of :mod:`sweeps.sharing.stages`, taken from the manifest's columns: a number for each run, equal
where runs agree. Runs that start from another's result, or go in rounds, have the numbers of their earliest
phase.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property

import numpy as np

from sweeps.grid.columns import combine
from sweeps.manifest.manifest import Manifest
from sweeps.sharing.stages import KIN_GROUPS, rollout_key, trunk_key
from sweeps.spec import RunSpec, canonical_json, phases_of


class ShareGroups:
    """A manifest's runs by what decides sharing; every array is int64 of shape (runs,)."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        codes = manifest.group_codes
        num = len(manifest)
        _, seed = np.unique(manifest.seeds, return_inverse=True)
        kin = combine([*(codes[g] for g in KIN_GROUPS), seed], num)
        self._first_phases = _first_phases(manifest) if has_phases(manifest) else {}
        self.same_rollouts = self._as_first_phase(kin, rollout_key)
        self.num_same_rollouts = len(np.unique(self.same_rollouts))

    @cached_property
    def same_gradient(self) -> np.ndarray:
        """Runs that share a step-0 gradient, numbered."""
        return combine([self.same_rollouts, self._manifest.group_codes["objective"]], len(self._manifest))

    @cached_property
    def num_same_gradient(self) -> int:
        return len(np.unique(self.same_gradient))

    @cached_property
    def same_trunk(self) -> np.ndarray:
        """Runs that differ in rates, horizon and evaluation alone, numbered."""
        optim = self._optim_without_rate[self._manifest.group_codes["optim"]]
        trunk = combine([self.same_gradient, optim], len(self._manifest))
        return self._as_first_phase(trunk, trunk_key)

    def _as_first_phase(self, numbers: np.ndarray, key: Callable[[RunSpec], str]) -> np.ndarray:
        """Give runs that start from another's result the number of that one's, or one that they share."""
        if not self._first_phases:
            return numbers
        first_phase, missing = numbers.copy(), int(numbers.max()) + 1
        shared: dict[str, int] = {}
        for row, (earlier, spec) in self._first_phases.items():
            if earlier >= 0:
                first_phase[row] = numbers[earlier]
            else:
                first_phase[row] = shared.setdefault(key(spec), missing + len(shared))
        return np.unique(first_phase, return_inverse=True)[1]

    @cached_property
    def _optim_without_rate(self) -> np.ndarray:
        seen: dict[str, int] = {}
        codes = []
        for text in self._manifest.groups["optim"]:
            rest = {k: v for k, v in json.loads(text).items() if k != "lr"}
            codes.append(seen.setdefault(canonical_json(rest), len(seen)))
        return np.array(codes)


def has_phases(manifest: Manifest) -> bool:
    """Whether some run starts from another of the sweep, or goes in rounds, be it a single one."""
    firsts = {group: np.unique(manifest.group_codes[group], return_index=True)[1] for group in PHASE_GROUPS}
    return any(_has_phases(manifest, int(row)) for rows in firsts.values() for row in rows.tolist())


PHASE_GROUPS = ("init", "curate")
"""Groups that decide whether a run has several phases."""


def _has_phases(manifest: Manifest, row: int) -> bool:
    return bool(manifest.group("init", row).changes) or manifest.group("curate", row).is_on


def _first_phases(manifest: Manifest) -> dict[int, tuple[int, RunSpec]]:
    """The earliest phase of each run that has several: its row if it is one of the runs, and what it is."""
    first_phases = {}
    for row in range(len(manifest)):
        if _has_phases(manifest, row):
            first = phases_of(manifest.spec(row))[0]
            first_phases[row] = (manifest.index_of.get(first.run_id, -1), first)
    return first_phases
