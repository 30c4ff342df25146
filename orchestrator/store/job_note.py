"""``job.json``: which job of a queue a sweep was handed to, so that whoever looks knows where to ask."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from orchestrator.store.layout import Layout
from sweeps.manifest.atomic import write_atomically

VERSION = 1
"""Of the file."""


@dataclass(frozen=True, kw_only=True)
class JobNote:
    """A job that was submitted for a sweep; the newest replaces those before it."""

    system: str
    """The queue: ``slurm``, ``kuberay`` or ``skypilot``."""
    job: str
    """By what the queue knows it: a number of Slurm's, or ``namespace/name`` of Kubernetes'."""
    submitted_at: float
    """Unix seconds."""
    log: str = ""
    """File that the job's own output goes to; empty where the queue keeps it."""
    nodes: str = ""
    """Of an elastic sweep, the job by which the queue knows its nodes; ``job`` is then the driver's."""
    launch: str = ""
    """The command that submitted it, and would again; empty in a note of an earlier version."""


def write_job(layout: Layout, note: JobNote) -> None:
    document = {"version": VERSION, **dataclasses.asdict(note)}
    write_atomically(layout.job, (json.dumps(document, indent=1) + "\n").encode())


def read_job(layout: Layout) -> JobNote | None:
    """The job that a sweep was handed to last; ``None`` where there is none, or none that can be read."""
    try:
        document = json.loads(layout.job.read_bytes())
        texts = {name: document[name] for name in ("system", "job", "log")}
        if document["version"] > VERSION or not all(isinstance(text, str) for text in texts.values()):
            return None
        later = {name: str(document.get(name, "")) for name in ("nodes", "launch")}
        return JobNote(**texts, submitted_at=float(document["submitted_at"]), **later)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def submitted_by(layout: Layout) -> str | None:
    """The command that gave a sweep to a queue; ``None`` for a sweep that was in none."""
    note = read_job(layout)
    return None if note is None else note.launch
