"""The jobs of a multirun as a manifest: what is an axis, what is a run, which jobs are the same run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.hydra_launcher.configurations import Word, json_value
from orchestrator.trust.needs import HYDRA_JOB
from sweeps.grid.columns import ABSENT, SEED_KEY, Column, column_of_runs
from sweeps.manifest.assemble import manifest_of_specs
from sweeps.manifest.manifest import Manifest
from sweeps.spec import (
    ResourcesSpec,
    RunSpec,
    TrainerSpec,
    canonical_json,
)

TARGET = HYDRA_JOB
"""What runs a job."""

TAKEN = ("index", "run_id", "name", "cell", "outcome", "attempt", "worker", "host", "finished_at", "error")
"""Columns of every table of runs; an axis of such a name gets an underscore."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as Hydra asks for it."""

    overrides: tuple[str, ...]
    words: Sequence[Word]
    content: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """The value of ``seed``, which makes jobs that differ in nothing else one cell; 0 without one."""
        values = [w.value for w in self.words if w.key == SEED_KEY]
        return values[-1] if values and isinstance(values[-1], int) and values[-1] >= 0 else 0


def manifest_of(
    jobs: Sequence[Job], *, name: str, task: str, resources: ResourcesSpec, options: Mapping[str, Any]
) -> tuple[Manifest, list[int]]:
    """The manifest of these jobs, and the run of each; jobs that say the same are one run.

    Args:
        jobs: in Hydra's order, which the runs keep.
        task: module and name of the task function, part of each run's identity.
    """
    common = RunSpec(resources=resources, steps=1)
    trainers = [TrainerSpec(target=TARGET, params={"task": task, "config": job.content}) for job in jobs]
    specs = [replace(common, trainer=t, seed=job.seed) for t, job in zip(trainers, jobs, strict=True)]
    return manifest_of_specs(specs, _columns(jobs), sweep=name, options=options)


def _columns(jobs: Sequence[Job]) -> tuple[Column, ...]:
    """A column for each key that differs between jobs, and the seed's."""
    given = [{w.key: json_value(w.value) for w in job.words if w.ours} for job in jobs]
    keys = dict.fromkeys(key for values in given for key in values)
    columns = [_column(key, [values.get(key) for values in given]) for key in keys if key != SEED_KEY]
    kept = [c for c in columns if len(c.values) > 1 or (c.codes == ABSENT).any()] or columns[:1]
    return (*kept, _column(SEED_KEY, [job.seed for job in jobs]))


def _column(key: str, given: Sequence[Any]) -> Column:
    """A job's words need not agree on a type: numbers beside text are text."""
    values = [canonical_json(v) if isinstance(v, (list, dict)) else v for v in given]
    kinds = {type(v) for v in values if v is not None}
    if len(kinds) > 1 and kinds != {int, float}:
        values = [None if v is None else str(v) for v in values]
    return column_of_runs(f"{key}_" if key in TAKEN else key, values)
