"""The jobs of a multirun as a manifest: what is an axis, what is a run, which jobs are the same run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.hydra_launcher.configurations import Word, plain
from sweeps.grid.columns import ABSENT, SEED_KEY, Column, Table
from sweeps.manifest.manifest import Manifest
from sweeps.spec import (
    GROUPS,
    ResourcesSpec,
    RunSpec,
    TrainerSpec,
    canonical_json,
    group_canonical,
    join_run_id,
)
from sweeps.spec.identity import group_to_dict

TARGET = "orchestrator.hydra_launcher.trainer.HydraJob"
"""What runs a job."""

TAKEN = ("index", "run_id", "name", "cell", "outcome", "attempt", "worker", "host", "finished_at", "error")
"""Columns of every table of runs; an axis of such a name gets an underscore."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as Hydra asks for it."""

    overrides: tuple[str, ...]
    """Its words."""
    words: Sequence[Word]
    """The same, parsed."""
    content: Mapping[str, Any]
    """What its configuration says."""

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
        name: of the sweep.
        task: module and name of the task function, part of each run's identity.
        resources: what every job occupies.
        options: what is not part of any run.
    """
    spec = RunSpec(resources=resources, steps=1)
    same = {g: group_canonical(g, getattr(spec, g)) for g in GROUPS}
    numbers: dict[str, int] = {}
    firsts: list[Job] = []
    texts: list[str] = []
    run_of = []
    for job in jobs:
        trainer = TrainerSpec(target=TARGET, params={"task": task, "config": job.content})
        run_id = join_run_id(same | {"trainer": group_canonical("trainer", trainer)}, 1, job.seed)
        if run_id not in numbers:
            numbers[run_id] = len(numbers)
            firsts.append(job)
            texts.append(canonical_json(group_to_dict(trainer)))
        run_of.append(numbers[run_id])
    count = len(firsts)
    columns = _columns(firsts)
    groups = {g: (canonical_json(group_to_dict(getattr(spec, g))),) for g in GROUPS}
    codes = {g: np.zeros(count, dtype=np.int32) for g in GROUPS}
    manifest = Manifest(
        sweep=name,
        run_ids=list(numbers),
        columns=columns,
        groups=groups | {"trainer": tuple(texts)},
        group_codes=codes | {"trainer": np.arange(count, dtype=np.int32)},
        steps=np.ones(count, dtype=np.int64),
        seeds=np.array([job.seed for job in firsts], dtype=np.int64),
        cells=Table(num_runs=count, columns=columns).cells(),
        options=dict(options),
        num_duplicates=len(jobs) - count,
    )
    return manifest, run_of


def _columns(jobs: Sequence[Job]) -> tuple[Column, ...]:
    """A column for each key that differs between jobs, and the seed's."""
    given = [{w.key: plain(w.value) for w in job.words if w.ours} for job in jobs]
    keys = dict.fromkeys(key for values in given for key in values)
    columns = [_column(key, [values.get(key) for values in given]) for key in keys if key != SEED_KEY]
    kept = [c for c in columns if len(c.values) > 1 or (c.codes == ABSENT).any()] or columns[:1]
    return (*kept, _column(SEED_KEY, [job.seed for job in jobs]))


def _column(key: str, given: Sequence[Any]) -> Column:
    values = [canonical_json(v) if isinstance(v, (list, dict)) else v for v in given]
    present = [v for v in values if v is not None]
    kinds = {type(v) for v in present}
    kind = kinds.pop() if len(kinds) == 1 else float if kinds == {int, float} else str
    typed = [None if v is None else kind(v) for v in values]
    distinct = {v: i for i, v in enumerate(dict.fromkeys(v for v in typed if v is not None))}
    codes = np.array([ABSENT if v is None else distinct[v] for v in typed], dtype=np.int32)
    name = f"{key}_" if key in TAKEN else key
    return Column(key=name, values=tuple(distinct), kind=kind.__name__, codes=codes)
