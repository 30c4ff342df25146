"""From a request to the text that a queue takes, and into the queue."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.store.job_note import JobNote
from orchestrator.submit.request import Request
from sweeps.spec.errors import UserError

TEMPLATES = Path(__file__).with_name("templates")
"""The texts: ``slurm.sh`` and ``kuberay.yaml``."""

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
    values = _slurm_values(request) if request.system == "slurm" else _kuberay_values(request)
    (template,) = TEMPLATES.glob(f"{request.system}.*")
    text = PLACEHOLDER.sub(lambda match: str(values[match[1]]), template.read_text())
    return re.sub(r"\n{3,}", "\n\n", text)


def submit(request: Request) -> tuple[str, JobNote]:
    """Submit it; return what the queue says, and what to remember of the job.

    Raises:
        UserError: when the queue's command is not here or refuses.
    """
    command = SUBMIT[request.system]
    if shutil.which(command[0]) is None:
        raise UserError(
            f"cluster={request.system}: there is no {command[0]} here; call this where there is one, or use "
            "--dry-run and take the text there"
        )
    try:
        done = subprocess.run(
            command, input=render(request), capture_output=True, text=True, timeout=SUBMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: has not answered for {SUBMIT_S:g} s; try again") from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(f"{command[0]}: {reason[-1] if reason else f'status {done.returncode}'}")
    told = done.stdout.strip()
    return told, _note(request, told)


def _note(request: Request, told: str) -> JobNote:
    now = time.time()
    if request.system != "slurm":
        job = f"{request.job['namespace']}/emsweep-{_kubernetes_name(request)}"
        return JobNote(system=request.system, job=job, submitted_at=now)
    number = re.search(r"job (\d+)", told)
    job = number[1] if number else ""
    log = Path.cwd() / f"emsweep-{request.name}-{job}.log"
    return JobNote(system="slurm", job=job, submitted_at=now, log=str(log))


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
