"""From a request to the text that a queue takes, and into the queue."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.store.job_note import JobNote
from orchestrator.submit.queued import withdraw
from orchestrator.submit.request import Request
from sweeps.spec.errors import UserError

TEMPLATES = Path(__file__).with_name("templates")
"""The texts: ``slurm.sh``, ``slurm_nodes.sh`` and ``kuberay.yaml``."""

PLACEHOLDER = re.compile(r"@\{(\w+)\}")
"""What is filled in; ``$`` belongs to the shell."""

SUBMIT = {"slurm": ("sbatch",), "kuberay": ("kubectl", "apply", "--filename", "-")}
"""Commands that take a job on standard input."""

SPOT = "\n".join(
    f"              - {{key: {key}, operator: Exists, effect: NoSchedule}}"
    for key in ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority", "spot")
)
"""What lets a pod be placed on spot nodes, which clouds mark in their own ways."""

MAX_NAME = 39
"""Longest sweep name in a job's: with ``emsweep-`` before it 47 characters, the most that KubeRay takes."""

SITE = ("partition", "account", "qos", "constraint")
"""Keys of ``cluster.job`` that are an option of sbatch as they stand, left out where the site decides."""

SUBMIT_S = 60.0
"""Longest a queue may take to answer."""


def render(request: Request) -> str:
    """The job that brings Ray up and launches there; of an elastic sweep, on one small node."""
    if request.system != "slurm":
        return _filled("kuberay.yaml", _kuberay_values(request))
    values = {**_slurm_values(request), "head_cpus": request.job["cpus_per_node"]}
    if request.is_elastic:
        job = {**request.job, "nodes": 1, "gpus_per_node": 0, "cpus_per_node": request.job["driver_cpus"]}
        job |= {"memory_gib": job["driver_memory_gib"], "partition": job["driver_partition"]}
        values = {**_slurm_values(replace(request, job=job)), "head_cpus": 0}
    return _filled("slurm.sh", values)


def render_nodes(request: Request) -> str:
    """The jobs of one node each of an elastic sweep; empty for any other."""
    return _filled("slurm_nodes.sh", _slurm_values(request)) if request.is_elastic else ""


def _filled(template: str, values: Mapping[str, Any]) -> str:
    text = PLACEHOLDER.sub(lambda match: str(values[match[1]]), (TEMPLATES / template).read_text())
    return re.sub(r"\n{3,}", "\n\n", text)


def submit(request: Request) -> tuple[str, JobNote]:
    """Submit it; return what the queue says, and what to remember of the job.

    Raises:
        UserError: when the queue's command is not here or refuses.
    """
    told = _submitted(request.system, render(request))
    note = _note(request, told)
    if request.is_elastic:
        try:
            nodes = _submitted(request.system, render_nodes(request))
        except UserError:
            withdraw(note)  # a driver without nodes would wait for ever
            raise
        note = replace(note, nodes=_number(nodes))
        told = f"{told}, its nodes as {note.nodes}"
    return told, note


def _submitted(system: str, text: str) -> str:
    """What a queue says to a job."""
    command = SUBMIT[system]
    if shutil.which(command[0]) is None:
        raise UserError(
            f"cluster={system}: there is no {command[0]} here; call this where there is one, or use "
            "--dry-run and take the text there"
        )
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=SUBMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: has not answered for {SUBMIT_S:g} s; try again") from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(f"{command[0]}: {reason[-1] if reason else f'status {done.returncode}'}")
    return done.stdout.strip()


def _note(request: Request, told: str) -> JobNote:
    now = time.time()
    if request.system != "slurm":
        job = f"{request.job['namespace']}/emsweep-{_kubernetes_name(request)}"
        return JobNote(system=request.system, job=job, submitted_at=now)
    job = _number(told)
    log = Path.cwd() / f"emsweep-{request.name}-{job}.log"
    return JobNote(system="slurm", job=job, submitted_at=now, log=str(log))


def _number(told: str) -> str:
    """The number of a job of Slurm's, in its answer."""
    number = re.search(r"job (\d+)", told)
    return number[1] if number else ""


def _kubernetes_name(request: Request) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", request.name.lower())[:MAX_NAME].strip("-")


def _slurm_values(request: Request) -> Mapping[str, Any]:
    job = request.job
    site = [f"#SBATCH --{key}={job[key]}" for key in SITE if job.get(key)]
    site += [f"#SBATCH --gpus-per-node={job['gpus_per_node']}"] if job["gpus_per_node"] else []
    exports = [f"export {name}={shlex.quote(value)}" for name, value in request.environment.items()]
    return {
        **job,
        "name": request.name,
        "site": "".join(f"{line}\n" for line in site),
        "exports": "\n".join(exports),
        "notice_s": request.notice_s,
        "scratch": shlex.quote(job["scratch"]),
        "command": shlex.join(request.command),
        "directory": shlex.quote(request.directory),
        "grace_s": f"{request.grace_s:g}",
    }


def _kuberay_values(request: Request) -> Mapping[str, Any]:
    job = request.job
    pad = " " * 16
    lines = [f"{pad}- {{name: {name}, value: {_quoted(v)}}}" for name, v in request.environment.items()]
    command = shlex.join([*request.command, "--address", "auto"])
    return {
        **job,
        "name": _kubernetes_name(request),
        "environment": "\n".join(lines),
        "entrypoint": _quoted(command),
        "spot": SPOT if job["spot"] else "",
    }


def _quoted(text: str) -> str:
    """A YAML scalar in double quotes, on one line whatever it holds."""
    return json.dumps(text)
