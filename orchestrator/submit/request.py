"""What is asked of a queue: the command to run and the machines to run it on. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.scheduling.workload import shape_of
from orchestrator.submit.job_fields import checked_job
from sweeps.manifest.manifest import Manifest
from sweeps.spec import nearest
from sweeps.spec.environment import filled_in
from sweeps.spec.errors import UserError

SYSTEMS = ("slurm", "kuberay")
"""Queues that there are templates for."""

OUTSIDE = ("cluster", "cluster.submit", "cluster.environment", "cluster.notice_s")
"""Keys that are about the submission, not about the launch inside it."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names of environment variables."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One job of a queue."""

    system: str
    """One of :data:`SYSTEMS`."""
    name: str
    command: Sequence[str]
    """What to run inside, without the address of the cluster."""
    directory: str
    job: Mapping[str, Any]
    """Machines and site, from ``cluster.job``."""
    environment: Mapping[str, str]
    """Variables of every process of the job."""
    notice_s: int
    """Seconds' notice that the queue gives before it takes the machines away."""


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
    options = filled_in(manifest.options.get("cluster") or {}, os.environ)
    system = options.get("submit")
    if system not in SYSTEMS:
        hint = nearest(str(system), SYSTEMS) if system else ""
        raise UserError(
            f"cluster.submit={system!r}: names no queue{hint}; choose cluster={' or cluster='.join(SYSTEMS)}"
        )
    job = checked_job(system, options["job"])
    environment = {str(k): str(v) for k, v in (options.get("environment") or {}).items()}
    for name in environment:
        if not VARIABLE.fullmatch(name):
            raise UserError(f"cluster.environment: {name!r} is no name of a variable")
    _require_room(manifest, job)
    kept = [word for word in words if not _is_outside(word)]
    if options.get("grace_s") is not None and not any(w.startswith("cluster.grace_s=") for w in kept):
        kept.append(f"cluster.grace_s={options['grace_s']}")
    command = ["emsweep", "launch", *kept, "cluster=ray_address", "--dir", directory, "--yes", *flags]
    return Request(
        system=system,
        name=manifest.sweep,
        command=command,
        directory=directory,
        job=job,
        environment=environment,
        notice_s=int(options.get("notice_s") or 0),
    )


def _is_outside(word: str) -> bool:
    key = word.lstrip("+~").partition("=")[0]
    return key in OUTSIDE or key.startswith(("cluster.job.", "cluster.environment."))


def _require_room(manifest: Manifest, job: Mapping[str, Any]) -> None:
    for code in sorted(set(manifest.group_codes["resources"].tolist())):
        index = manifest.group_codes["resources"].tolist().index(code)
        shape = shape_of(manifest.group("resources", index))
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
