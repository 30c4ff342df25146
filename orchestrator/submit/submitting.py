"""From a request to the text that a queue takes, and into the queue."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.store.job_note import JobNote
from orchestrator.submit.kuberay_text import kuberay_values, kubernetes_name
from orchestrator.submit.queued import withdraw
from orchestrator.submit.request import Request
from orchestrator.submit.slurm_text import slurm_values
from sweeps.spec.errors import UserError

TEMPLATES = Path(__file__).with_name("templates")
"""The texts: ``slurm.sh``, ``slurm_nodes.sh`` and ``kuberay.yaml``."""

PLACEHOLDER = re.compile(r"@\{(\w+)\}")
"""What is filled in; ``$`` belongs to the shell."""

EMPTY_LINE = re.compile(r"^@\{(\w+)\}\n", re.MULTILINE)
"""A line that is filled in as a whole, and left out where there is nothing to fill in."""

SUBMIT = {"slurm": ("sbatch",), "kuberay": ("kubectl", "apply", "--filename", "-")}
"""Commands that take a job on standard input."""

SUBMIT_S = 60.0
"""Longest a queue may take to answer."""


def render(request: Request) -> str:
    """The job that brings Ray up and launches there; of an elastic sweep, on one small node."""
    if request.system != "slurm":
        return _filled("kuberay.yaml", kuberay_values(request))
    values = {**slurm_values(request), "head_cpus": request.job["cpus_per_node"]}
    if request.is_elastic:
        job = {**request.job, "nodes": 1, "gpus_per_node": 0, "cpus_per_node": request.job["driver_cpus"]}
        job |= {"memory_gib": job["driver_memory_gib"], "partition": job["driver_partition"]}
        values = {**slurm_values(replace(request, job=job)), "head_cpus": 0}
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
        job = f"{request.job['namespace']}/emsweep-{kubernetes_name(request)}"
        return JobNote(system=request.system, job=job, submitted_at=now)
    job = _number(told)
    log = Path.cwd() / f"emsweep-{request.name}-{job}.log"
    return JobNote(system="slurm", job=job, submitted_at=now, log=str(log))


def _number(told: str) -> str:
    """The number of a job of Slurm's, in its answer."""
    number = re.search(r"job (\d+)", told)
    return number[1] if number else ""
