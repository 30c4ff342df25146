"""The ``cluster`` options of a launch into a queue, each found to be what a job takes. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.submit.container import OWN_VARIABLES
from orchestrator.submit.job_fields import checked_job, require_whole
from sweeps.spec import nearest
from sweeps.spec.environment import filled_in
from sweeps.spec.errors import UserError

SYSTEMS = ("slurm", "kuberay", "skypilot")
"""Queues that there are templates for."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names of environment variables."""

FIXED_VARIABLES = (*OWN_VARIABLES, "EMSWEEP_NODES")
"""Variables that a job sets itself."""

MAX_NOTICE_S = 65_535
"""Longest notice that Slurm gives."""


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """What is asked of a queue, checked and with its references to the environment filled in."""

    system: str
    """One of :data:`SYSTEMS`."""
    job: Mapping[str, Any]
    environment: Mapping[str, str]
    notice_s: int
    grace_s: float | None


def checked_options(cluster: Mapping[str, Any], environment: Mapping[str, str]) -> QueueOptions:
    """Read the ``cluster`` options of a manifest.

    Args:
        cluster: the options.
        environment: what their references stand for.

    Raises:
        UserError: when they name no queue, or for a value that its job does not take.
    """
    options = filled_in(cluster, environment)
    system = options.get("submit")
    if system not in SYSTEMS:
        hint = nearest(str(system), SYSTEMS) if system else ""
        raise UserError(
            f"cluster.submit={system!r}: names no queue{hint}; choose cluster={' or cluster='.join(SYSTEMS)}"
        )
    job = options.get("job")
    if not isinstance(job, Mapping):
        raise UserError(f"cluster.job={job!r}: must be a map of keys, as cluster={system} has it")
    require_whole(system, job)
    notice_s, grace_s = options.get("notice_s"), options.get("grace_s")
    _check_seconds("cluster.notice_s", notice_s, MAX_NOTICE_S, int)
    _check_seconds("cluster.grace_s", grace_s, None, (int, float))
    return QueueOptions(
        system=system,
        job=checked_job(system, job),
        environment=_checked_variables(options.get("environment")),
        notice_s=notice_s or 0,
        grace_s=grace_s,
    )


def _check_seconds(name: str, value: Any, most: int | None, kind: type | tuple[type, ...]) -> None:
    if value is None:
        return
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf or (most is not None and value > most):
        number = "a whole number" if kind is int else "a number"
        span = "of at least 0" if most is None else f"from 0 to {most}"
        raise UserError(f"{name}={value!r}: must be {number} of seconds {span}")


def _checked_variables(variables: Any) -> dict[str, str]:
    """Variables of every process of the job; one that is ``null`` is none."""
    if variables is not None and not isinstance(variables, Mapping):
        raise UserError(
            f"cluster.environment={variables!r}: must be a map of variables, such as {{NAME: text}}"
        )
    for name, value in (variables or {}).items():
        if not VARIABLE.fullmatch(str(name)):
            raise UserError(f"cluster.environment: {name!r} is no name of a variable")
        if name in FIXED_VARIABLES:
            raise UserError(
                f"cluster.environment.{name}={value!r}: the job sets it itself; leave it out"
                + (", and say where with cluster.job.scratch" if name in ("HF_HOME", "RAY_TMPDIR") else "")
            )
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise UserError(f"cluster.environment.{name}={value!r}: must be a text or a number; quote it")
    return {str(name): str(value) for name, value in (variables or {}).items() if value is not None}
