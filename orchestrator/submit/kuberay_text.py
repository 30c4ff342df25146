"""What fills in ``templates/kuberay.yaml``: a RayJob, queued by Kueue where a queue is named. Pure."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import yaml

from orchestrator.submit.request import Request

SPOT_TAINTS = ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority", "spot")
"""Taints of spot nodes, which clouds mark in their own ways."""

MAX_NAME = 39
"""Longest sweep name in a job's: with ``emsweep-`` before it 47 characters, the most that KubeRay takes."""

PLAIN = re.compile(r"[A-Za-z][\w./:@-]+")
"""Texts that may go without quotes where YAML does not take them for something else."""


def kubernetes_name(request: Request) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", request.name.lower())[:MAX_NAME].strip("-")
    return name or "sweep"


def rayjob_name(request: Request) -> str:
    """The name of its job: two directories with sweeps of one name have two jobs."""
    mark = sha256(request.directory.encode()).hexdigest()[:6]
    name = kubernetes_name(request)[: MAX_NAME - len(mark) - 1].strip("-")
    return f"emsweep-{name}-{mark}"


def kuberay_values(request: Request) -> Mapping[str, Any]:
    job = request.job
    pad = " " * 16
    variables = [
        f"{pad}- {{name: {scalar(name)}, value: {quoted(value)}}}"
        for name, value in request.environment.items()
    ]
    command = shlex.join([*request.command, "--address", "auto"])
    gpus = job["gpus_per_node"]
    return {
        **job,
        **{key: scalar(job[key]) for key in ("namespace", "image", "claim", "secret")},
        "name": rayjob_name(request),
        "labels": _labels(job),
        # Kueue admits a job with the nodes that it says, so with a queue their number is fixed.
        "autoscales": json.dumps(not job["queue"]),
        "replicas": job["nodes"] if job["queue"] else job["nodes_min"],
        "environment": "\n".join(variables),
        "entrypoint": quoted(command),
        "head_priority": _pod_priority(job, " " * 10),
        "group": "gpu" if gpus else "cpu",
        "placement": _placement(job),
        "gpus": f', nvidia.com/gpu: "{gpus}"' if gpus else "",
    }


def _labels(job: Mapping[str, Any]) -> str:
    labels = {}
    if job["queue"]:
        labels["kueue.x-k8s.io/queue-name"] = job["queue"]
        if job["priority"]:
            labels["kueue.x-k8s.io/priority-class"] = job["priority"]
    return "".join(f", {key}: {scalar(value)}" for key, value in labels.items())


def _pod_priority(job: Mapping[str, Any], pad: str) -> str:
    is_pods = job["priority"] and not job["queue"]
    return f"{pad}priorityClassName: {scalar(job['priority'])}" if is_pods else ""


def _placement(job: Mapping[str, Any]) -> str:
    """Lines of a worker about the nodes that it may be placed on."""
    pad = " " * 12
    lines = [_pod_priority(job, pad)]
    if job["node_selector"]:
        pairs = (f"{scalar(key)}: {quoted(value)}" for key, value in job["node_selector"].items())
        lines.append(f"{pad}nodeSelector: {{{', '.join(pairs)}}}")
    taints = ["nvidia.com/gpu:NoSchedule"] if job["gpus_per_node"] else []
    taints += [f"{key}:NoSchedule" for key in SPOT_TAINTS if job["spot"]]
    tolerated = [f"{pad}  - {{{_toleration(taint)}}}" for taint in (*taints, *job["tolerations"])]
    lines += [f"{pad}tolerations:", *tolerated] if tolerated else []
    return "\n".join(line for line in lines if line)


def _toleration(taint: str) -> str:
    """A taint as ``kubectl taint`` writes it, ``key[=value][:effect]``, as the fields of a toleration."""
    taint, _, effect = taint.partition(":")
    key, _, value = taint.partition("=")
    fields = [f"key: {scalar(key)}", f"operator: {'Equal' if value else 'Exists'}"]
    fields += [f"value: {quoted(value)}"] if value else []
    fields += [f"effect: {effect}"] if effect else []
    return ", ".join(fields)


def scalar(text: str) -> str:
    """A YAML scalar that is a text: without quotes where it is one without them."""
    is_text = PLAIN.fullmatch(text) is not None and yaml.safe_load(text) == text
    return text if is_text else quoted(text)


def quoted(text: Any) -> str:
    """A YAML scalar in double quotes, on one line whatever it holds; ``True`` as YAML writes it."""
    plain = str(text).lower() if isinstance(text, bool) else str(text)
    return yaml.safe_dump(plain, default_style='"', width=math.inf).rstrip("\n")
