"""The values of ``cluster.job``: each goes into a line of the job's text, so each has a pattern. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.submit.container import check_container
from orchestrator.submit.sbatch_options import require_free
from sweeps.spec.errors import UserError

MACHINES = ("nodes", "gpus_per_node", "cpus_per_node", "memory_gib")

KEYS = {
    "slurm": (
        *(*MACHINES, "time", "partition", "account", "qos", "constraint", "elastic", "driver_cpus"),
        *("driver_memory_gib", "driver_partition", "sbatch", "setup", "scratch", "container"),
    ),
    "kuberay": (
        *("namespace", "image", "nodes_min", *MACHINES, "claim", "secret", "spot", "node_selector"),
        *("tolerations", "queue", "priority"),
    ),
    "skypilot": (*MACHINES, "gpu", "spot", "infra", "bucket", "image", "setup", "scratch"),
}
"""Keys of each queue's jobs."""

KUBERNETES_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""Names of Kubernetes objects (RFC 1123)."""

LABEL = r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?"
"""Keys of Kubernetes' labels and taints."""

LABEL_VALUE = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?")
"""Values of Kubernetes' labels."""

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
    "queue": re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"),
    "priority": re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"),
    "gpu": re.compile(r"[\w.-]+"),
    "infra": re.compile(r"[\w./*-]+"),
    "bucket": re.compile(r"[a-z0-9]+://[\w./-]+"),
    "image": re.compile(r"[\w./:@-]+"),
    "scratch": re.compile(r"/[^\x00-\x1f\x7f$`]*"),
    "setup": re.compile(r"[^\x00]*"),
}
"""What a text may hold; ``scratch`` is quoted besides, ``setup`` is shell by intention."""

OPTIONAL = (
    *("partition", "driver_partition", "account", "qos", "constraint"),
    *("queue", "priority", "gpu", "infra", "bucket", "setup"),
)
"""Texts that may be missing."""

OPTIONAL_IN = {"skypilot": ("image",)}
"""Texts that may be missing of one queue's jobs."""

NUMBERS = (
    *("nodes", "nodes_min", "gpus_per_node", "cpus_per_node", "memory_gib"),
    *("driver_cpus", "driver_memory_gib"),
)
"""Whole numbers, from 0."""

FROM_1 = ("nodes", "cpus_per_node", "driver_cpus")
"""Those of which a job needs one at least."""

FLAGS = ("spot", "elastic")
"""On or off."""

LISTS = {
    "sbatch": re.compile(r"--[a-z][a-z0-9-]*(=[^\s\"'\\#`$]+)?"),
    "tolerations": re.compile(rf"{LABEL}(=[\w.-]+)?(:(NoSchedule|PreferNoSchedule|NoExecute))?"),
}
"""Lists of texts, and what each text may be: an option of sbatch, a taint as ``kubectl taint`` writes it."""

MAPS = {"node_selector": (re.compile(LABEL), LABEL_VALUE)}
"""Maps of texts, and what their keys and values may be; ``null`` is empty."""


def checked_job(system: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """The job's values, each found to be what its line takes; texts are texts, also where YAML reads ``5``.

    Raises:
        UserError: for an unknown key, or a value that would not stay within its line.
    """
    for key, value in job.items():
        name = f"cluster.job.{key}"
        if key not in KEYS[system]:
            raise UserError(f"{name}: unknown key; a job of {system} has {', '.join(KEYS[system])}")
        if key in NUMBERS:
            least = int(key in FROM_1)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"{name}={value!r}: must be a whole number of at least {least}")
        elif key in FLAGS:
            if not isinstance(value, bool):
                raise UserError(f"{name}={value!r}: must be true or false")
        elif key in LISTS:
            _check_list(name, value, LISTS[key])
            if key == "sbatch":
                require_free(value)
        elif key in MAPS:
            _check_map(name, value, *MAPS[key])
        elif key == "container":
            check_container(value)
        elif value is None and key in (*OPTIONAL, *OPTIONAL_IN.get(system, ())):
            continue
        elif value is None:
            raise UserError(f"{name}=null: must be given")
        elif isinstance(value, bool) or not isinstance(value, str | int):
            raise UserError(f"{name}={value!r}: must be one text; quote it")
        elif key == "scratch" and not PATTERNS[key].fullmatch(str(value)):
            raise UserError(
                f"{name}={value!r}: must be a folder from the root, such as /tmp, without variables: "
                "none is looked up on a node"
            )
        elif not PATTERNS[key].fullmatch(str(value)) or (key != "setup" and "\n" in str(value)):
            raise UserError(_escapes(name, value, PATTERNS[key]))
    if system == "skypilot" and job.get("gpus_per_node") and not job.get("gpu"):
        raise UserError(
            f"cluster.job.gpu: is missing, while cluster.job.gpus_per_node={job['gpus_per_node']}; give "
            "SkyPilot's name of the GPUs, such as cluster.job.gpu=H100 (sky gpus list)"
        )
    if job.get("nodes_min", 0) > job.get("nodes", math.inf):
        raise UserError(
            f"cluster.job.nodes_min={job['nodes_min']}: is above cluster.job.nodes={job['nodes']}; lower it"
        )
    texts = {key: str(job[key]) for key in PATTERNS if job.get(key) is not None}
    return {**job, **texts} | {k: "" for k in OPTIONAL if job.get(k) is None and k != "setup"}


def require_whole(system: str, job: Mapping[str, Any]) -> None:
    """Refuse a job that lacks a key.

    Raises:
        UserError: naming the keys.
    """
    if missing := [key for key in KEYS[system] if key not in job]:
        raise UserError(
            f"cluster.job: has no {', '.join(missing)}; begin the cluster's file with defaults: [{system}]"
        )


def _check_list(name: str, values: Any, pattern: re.Pattern[str]) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"{name}={values!r}: must be a list of texts, such as [{name.rpartition('.')[2]}]")
    for value in values:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise UserError(_escapes(name, value, pattern))


def _check_map(name: str, values: Any, keys: re.Pattern[str], texts: re.Pattern[str]) -> None:
    if values is not None and not isinstance(values, Mapping):
        raise UserError(f"{name}={values!r}: must be a map of texts, such as {{key: value}}")
    for key, value in (values or {}).items():
        if not keys.fullmatch(str(key)):
            raise UserError(_escapes(name, key, keys))
        if value is None or not texts.fullmatch(_plain(value)):
            raise UserError(_escapes(f"{name}.{key}", value, texts))


def _plain(value: Any) -> str:
    """A value as its line has it: YAML reads ``true`` and ``8`` as no texts."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escapes(name: str, value: Any, pattern: re.Pattern[str]) -> str:
    return f"{name}={value!r}: would not stay within its line of the job; must match {pattern.pattern}"
