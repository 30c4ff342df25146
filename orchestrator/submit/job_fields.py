"""The values of ``cluster.job``: each goes into a line of the job's text, so each has a pattern. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sweeps.spec.errors import UserError

KUBERNETES_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""Names of Kubernetes objects (RFC 1123)."""

PATTERNS = {
    "partition": re.compile(r"[\w.,:@/+-]+"),
    "account": re.compile(r"[\w.,:@/+-]+"),
    "qos": re.compile(r"[\w.,:@/+-]+"),
    "driver_partition": re.compile(r"[\w.,:@/+-]+"),
    "constraint": re.compile(r"[\w.,:@/+&|*()\[\]-]+"),
    "time": re.compile(r"[0-9]+([-:][0-9]+)*"),
    "namespace": KUBERNETES_NAME,
    "claim": KUBERNETES_NAME,
    "secret": KUBERNETES_NAME,
    "image": re.compile(r"[\w./:@-]+"),
    "scratch": re.compile(r"[^\x00-\x1f\x7f]+"),
    "setup": re.compile(r"[^\x00]*"),
}
"""What a text may hold; ``scratch`` is quoted besides, ``setup`` is shell by intention."""

OPTIONAL = ("partition", "driver_partition", "account", "qos", "constraint", "setup")
"""Texts that may be missing."""

NUMBERS = (
    *("nodes", "nodes_min", "gpus_per_node", "cpus_per_node", "memory_gib"),
    *("driver_cpus", "driver_memory_gib"),
)
"""Whole numbers, from 0."""

FLAGS = ("spot", "elastic")
"""On or off."""


def checked_job(system: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """The job's values, each found to be what its line takes.

    Raises:
        UserError: for an unknown key, or a value that would not stay within its line.
    """
    for key, value in job.items():
        name = f"cluster.job.{key}"
        if key in NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UserError(f"{name}={value!r}: must be a whole number of at least 0")
        elif key in FLAGS:
            if not isinstance(value, bool):
                raise UserError(f"{name}={value!r}: must be true or false")
        elif key not in PATTERNS:
            raise UserError(f"{name}: unknown key; a job of {system} has {', '.join(job_keys(job))}")
        elif value is None and key in OPTIONAL:
            continue
        elif not PATTERNS[key].fullmatch(str(value)) or (key != "setup" and "\n" in str(value)):
            raise UserError(
                f"{name}={value!r}: would not stay within its line of the job; must match "
                f"{PATTERNS[key].pattern}"
            )
    return {"setup": "", **job} | {k: "" for k in OPTIONAL if job.get(k) is None}


def job_keys(job: Mapping[str, Any]) -> list[str]:
    return [key for key in job if key in (*PATTERNS, *NUMBERS, *FLAGS)]
