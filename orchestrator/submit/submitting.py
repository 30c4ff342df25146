"""From a request to the text that a queue takes, and into the queue."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.store.job_note import JobNote
from orchestrator.submit.kuberay_text import kuberay_values, rayjob_name
from orchestrator.submit.queued import withdraw
from orchestrator.submit.request import Request
from orchestrator.submit.skypilot_text import task_text
from orchestrator.submit.slurm_text import slurm_values
from sweeps.spec.errors import UserError
from sweeps.spec.redaction import redact

TEMPLATES = Path(__file__).with_name("templates")
"""The texts: ``slurm.sh``, ``slurm_nodes.sh``, ``kuberay.yaml`` and ``skypilot.sh``."""

PLACEHOLDER = re.compile(r"@\{(\w+)\}")
"""What is filled in; ``$`` belongs to the shell."""

EMPTY_LINE = re.compile(r"^@\{(\w+)\}\n", re.MULTILINE)
"""A line that is filled in as a whole, and left out where there is nothing to fill in."""

SUBMIT = {
    "slurm": ("sbatch",),
    "kuberay": ("kubectl", "replace", "--force", "--filename", "-"),
    "skypilot": ("sky", "jobs", "launch", "--yes", "--detach-run"),
}
"""Commands that take a job, on standard input; SkyPilot's takes a file. A RayJob that has ended stays for ten
minutes: it is replaced, as one that is merely changed would not begin again.
"""

SUBMIT_S = {"slurm": 60.0, "kuberay": 60.0, "skypilot": 1800.0}
"""Longest a queue may take to answer; SkyPilot may have to start a machine for its controller first."""

SECRETS = ("HF_TOKEN", "WANDB_API_KEY")
"""Variables that a task of SkyPilot is given by name where they are set here."""


def render(request: Request) -> str:
    """The job that brings Ray up and launches there; of an elastic sweep, on one small node."""
    if request.system == "skypilot":
        return task_text(request, _filled)
    if request.system == "kuberay":
        return _filled("kuberay.yaml", kuberay_values(request))
    asked = {"nodes_asked": request.job["nodes"]}
    values = {**slurm_values(request), **asked, "head_cpus": request.job["cpus_per_node"]}
    if request.is_elastic:
        job = {**request.job, "nodes": 1, "gpus_per_node": 0, "cpus_per_node": request.job["driver_cpus"]}
        job |= {"memory_gib": job["driver_memory_gib"], "partition": job["driver_partition"]}
        values = {**slurm_values(replace(request, job=job)), **asked, "head_cpus": 0}
    return _filled("slurm.sh", values)


def render_nodes(request: Request) -> str:
    """The jobs of one node each of an elastic sweep; empty for any other."""
    return _filled("slurm_nodes.sh", slurm_values(request)) if request.is_elastic else ""


def _filled(template: str, values: Mapping[str, Any]) -> str:
    text = (TEMPLATES / template).read_text()
    text = EMPTY_LINE.sub(lambda match: match[0] if values[match[1]] else "", text)
    text = PLACEHOLDER.sub(lambda match: str(values[match[1]]), text)
    return re.sub(r"\n{3,}", "\n\n", text)


def submit(request: Request) -> tuple[str, JobNote]:
    """Submit it; return what the queue says, and what to remember of the job.

    Raises:
        UserError: when the queue's command is not here or refuses.
    """
    told = _submitted(request.system, render(request))
    note = _note(request, told)
    told = f"managed job {note.job}" if request.system == "skypilot" and note.job else told
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
        if system == "skypilot":
            done = _called_with_file(command, text)
        else:
            done = _called(command, text, SUBMIT_S[system])
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: has not answered for {SUBMIT_S[system]:g} s; try again") from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(f"{command[0]}: {reason[-1] if reason else f'status {done.returncode}'}")
    return done.stdout.strip()


def _called(
    command: Sequence[str], text: str, timeout_s: float, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **more},
    )


def _called_with_file(command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    """Call SkyPilot with a task, and name the variables that hold its nodes' secret and our keys."""
    names = ["RAY_AUTH_TOKEN", *(name for name in SECRETS if os.environ.get(name))]
    words = [*command, *(word for name in names for word in ("--secret", name))]
    with tempfile.TemporaryDirectory(prefix="emsweep-") as folder:
        path = Path(folder) / "task.yaml"
        path.write_text(text)
        token = secrets.token_hex(32)
        return _called([*words, str(path)], "", SUBMIT_S["skypilot"], RAY_AUTH_TOKEN=token)


def _note(request: Request, told: str) -> JobNote:
    now, launch = time.time(), redact(request.launch, os.environ, hexadecimal=False)
    if request.system == "skypilot":
        number = re.search(r"ID: *(?:\x1b\[[0-9;]*m)*(\d+)", told)
        job = number[1] if number else ""
        return JobNote(system=request.system, job=job, submitted_at=now, launch=launch)
    if request.system == "kuberay":
        job = f"{request.job['namespace']}/{rayjob_name(request)}"
        return JobNote(system=request.system, job=job, submitted_at=now, launch=launch)
    job = _number(told)
    log = Path.cwd() / f"emsweep-{request.name}-{job}.log"
    return JobNote(system="slurm", job=job, submitted_at=now, log=str(log), launch=launch)


def _number(told: str) -> str:
    """The number of a job of Slurm's, in its answer."""
    number = re.search(r"job (\d+)", told)
    return number[1] if number else ""
