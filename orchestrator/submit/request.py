"""What is asked of a queue: the command to run and the machines to run it on. Pure."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.scheduling.events import Shape
from orchestrator.scheduling.workload import shape_of
from orchestrator.submit.options import checked_options
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import UserError

OUTSIDE = ("cluster", "cluster.job", "cluster.submit", "cluster.environment", "cluster.notice_s")
"""Keys that are about the submission, not about the launch inside it."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One job of a queue."""

    system: str
    """One of :data:`~orchestrator.submit.options.SYSTEMS`."""
    name: str
    command: Sequence[str]
    """What to run inside, without the address of the cluster."""
    launch: str
    """The command line that asks for the job."""
    directory: str
    job: Mapping[str, Any]
    """Machines and site, from ``cluster.job``."""
    environment: Mapping[str, str]
    """Variables of every process of the job."""
    notice_s: int
    """Seconds' notice that the queue gives before it takes the machines away."""
    grace_s: float = 0.0
    """Seconds of it that runs get to finish."""

    @property
    def is_elastic(self) -> bool:
        """Whether each node is a job of its own, beside a small one for the driver."""
        return bool(self.job.get("elastic"))

    def for_runs(self, manifest: Manifest, num_open: int) -> Request:
        """The same, of no more nodes than there is work for; a job that is not elastic stays as it is."""
        if not self.is_elastic:
            return self
        per_node = min(_workers_a_node(shape, self.job) / shape.world_size for shape in _shapes(manifest))
        nodes = max(1, min(self.job["nodes"], math.ceil(num_open / per_node)))
        return replace(self, job={**self.job, "nodes": nodes})


def request_of(
    manifest: Manifest, words: Sequence[str], *, directory: str, flags: Sequence[str] = ()
) -> Request:
    """The request that a launch with these words stands for.

    Args:
        manifest: the runs.
        words: of the command line.
        directory: the sweep directory.
        flags: options of the launch inside, such as ``--allow-target mine``.

    Raises:
        UserError: when the cluster has no queue, or its nodes do not hold the largest run.
    """
    options = checked_options(manifest.options.get("cluster") or {}, os.environ)
    job = options.job
    _require_room(manifest, job)
    kept = [word for word in words if not _is_outside(word)]
    if options.grace_s is not None and not any(w.startswith("cluster.grace_s=") for w in kept):
        kept.append(f"cluster.grace_s={options.grace_s}")
    command = [
        "emsweep",
        "launch",
        *kept,
        "cluster=ray_address",
        f"cluster.grows_to={job['nodes'] * job['cpus_per_node']}",
        "--dir",
        directory,
        "--yes",
        *flags,
    ]
    return Request(
        system=options.system,
        name=manifest.sweep,
        command=command,
        launch=shlex.join(["emsweep", "launch", *words, "--dir", directory, *flags]),
        directory=directory,
        job=job,
        environment=options.environment,
        notice_s=options.notice_s,
        grace_s=options.grace_s or 0.0,
    )


def _is_outside(word: str) -> bool:
    key = word.lstrip("+~").partition("=")[0]
    return key in OUTSIDE or key.startswith(("cluster.job.", "cluster.environment."))


def _shapes(manifest: Manifest) -> list[Shape]:
    """What the workers of a sweep occupy, one of each kind."""
    _, firsts = np.unique(manifest.group_codes["resources"], return_index=True)
    return [shape_of(manifest.group("resources", int(index))) for index in firsts]


def _workers_a_node(shape: Shape, job: Mapping[str, Any]) -> int:
    """Worker processes of a shape that one node holds."""
    by_gpus = [job["gpus_per_node"] / shape.gpus] if shape.gpus else []
    return max(1, int(min([job["cpus_per_node"] / shape.cpus, *by_gpus])))


def _require_room(manifest: Manifest, job: Mapping[str, Any]) -> None:
    for shape in _shapes(manifest):
        if shape.gpus > job["gpus_per_node"] or shape.cpus > job["cpus_per_node"]:
            raise UserError(
                f"resources: a process takes {shape.gpus:g} GPUs and {shape.cpus:g} cores, a node has "
                f"{job['gpus_per_node']} and {job['cpus_per_node']}; raise cluster.job.gpus_per_node or "
                "cluster.job.cpus_per_node"
            )
        total = job["nodes"] * job["gpus_per_node"]
        if shape.world_size * shape.gpus > total:
            raise UserError(
                f"resources: a run takes {shape.world_size} x {shape.gpus:g} GPUs, the job has {total}; "
                "raise cluster.job.nodes"
            )
