"""What a queue says of a job that it was given: whether it waits, and why, whether it runs, how it ended."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from orchestrator.store.job_note import JobNote
from sweeps.spec.errors import UserError
from sweeps.spec.printable import printable

ASK_S = 10.0
"""Longest a queue may take to answer a question."""

LAST_LINES = 5
"""Lines shown of the log of a job that failed."""

LAST_BYTES = 1 << 16
"""Bytes of the log that they are looked for in."""

NAMES = {"slurm": "Slurm", "kuberay": "Kubernetes", "skypilot": "SkyPilot"}
"""The queues as people call them."""

JOB = {
    "slurm": re.compile(r"[0-9]+"),
    "kuberay": re.compile(r"[a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9.-]*"),
    "skypilot": re.compile(r"[0-9]+"),
}
"""What names a job: what a file says goes into no command unless it does."""

_WAITING = (
    *("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "SUSPENDED"),
    *("STOPPED", "SUSPENDING", "SUBMITTED", "STARTING"),
)
_ENDED = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"),
    *("OUT_OF_MEMORY", "LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED"),
    *("COMPLETE", "VALIDATIONFAILED", "SUCCEEDED"),
)
"""States that a job does not leave any more, of Slurm, KubeRay and SkyPilot, whose failures are ``FAILED_…``;
a state in neither list, such as one that is new, is of a job that is there.
"""

Phase = Literal["waiting", "running", "ended", "unknown"]
"""What a state comes to, whatever the queue calls it; ``unknown`` where it does not answer."""


class Told(NamedTuple):
    """What a queue says of a job, in its own words; empty where it says nothing."""

    state: str = ""
    reason: str = ""
    since: float | None = None


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job as its queue tells of it now."""

    note: JobNote
    phase: Phase
    state: str = ""
    """The queue's own word, such as ``PENDING``; empty where it did not answer."""
    reason: str = ""
    """Why it is in that state, in the queue's word; empty where it says none."""
    since: float | None = None
    """Unix seconds since when, as far as the queue says."""
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Of an elastic sweep: jobs of its nodes by the queue's word for their state."""

    @property
    def is_there(self) -> bool:
        """Whether it may still run something."""
        return self.phase in ("waiting", "running")

    @property
    def words(self) -> str:
        """For people: ``Slurm (job 17, Priority)``."""
        told = self.reason or ("" if self.phase in ("waiting", "running") else self.state)
        facts = ", ".join(text for text in (f"job {self.note.job}", told) if text)
        return f"{NAMES.get(self.note.system, self.note.system)} ({facts})"

    def to_json(self) -> dict[str, Any]:
        return {
            "system": self.note.system,
            "id": self.note.job,
            "phase": self.phase,
            "state": self.state or None,
            "reason": self.reason or None,
            "since": self.since,
            "submitted_at": self.note.submitted_at,
            "log": self.note.log or None,
            "log_tail": last_lines(self.note),
            **({"nodes_id": self.note.nodes, "nodes": dict(self.nodes)} if self.note.nodes else {}),
        }


def queued_job(note: JobNote) -> QueuedJob:
    """Ask the queue; a queue that does not answer, or has forgotten the job, makes it ``unknown``."""
    if not _is_named(note):
        return QueuedJob(note=note, phase="unknown")
    ask = {"slurm": _of_slurm, "kuberay": _of_kuberay, "skypilot": _of_skypilot}[note.system]
    told = ask(note.job)
    phase = _phase(told.state)
    return QueuedJob(
        note=note,
        phase=phase,
        state=told.state,
        reason=told.reason,
        since=told.since,
        nodes=_nodes_of_slurm(note.nodes) if note.system == "slurm" and phase != "ended" else {},
    )


def _phase(state: str) -> Phase:
    if not state:
        return "unknown"
    if state in _ENDED or state.startswith("FAILED_"):
        return "ended"
    return "waiting" if state in _WAITING else "running"


def withdraw(note: JobNote) -> None:
    """Take a job out of its queue, also one that runs.

    Raises:
        UserError: when the queue refuses, or is not here.
    """
    if not _is_named(note):
        raise UserError(
            f"job.json: {note.job[:40]!r} names no job of {note.system[:40]}; the file is damaged"
        )
    jobs = [note.job, note.nodes] if JOB["slurm"].fullmatch(note.nodes) else [note.job]
    commands = {"slurm": ["scancel", *jobs], "skypilot": ["sky", "jobs", "cancel", "--yes", note.job]}
    command = commands.get(note.system) or _rayjob("delete", note.job)
    done = _asked(command)
    if done is None or done.returncode:
        why = done.stderr.strip().splitlines()[-1:] if done is not None else ["it is not here or silent"]
        raise UserError(f"{command[0]}: {' '.join(why) or 'refused'}; the job is still in its queue")


def last_lines(note: JobNote) -> list[str]:
    """The end of a job's own output, as far as it lies in a file here.

    No other file is shown, whatever a stranger's ``job.json`` names: it is called as our jobs call theirs,
    and is no link.
    """
    path = Path(note.log)
    try:
        named = re.fullmatch(rf"emsweep-.+-{re.escape(note.job)}\.log", path.name) and _is_named(note)
        if not named or path.is_symlink() or not path.is_file():
            return []
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LAST_BYTES))
            text = file.read(LAST_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return []
    return [printable(line) for line in text.splitlines() if line.strip()][-LAST_LINES:]


def how_it_ended(job: QueuedJob) -> list[str]:
    """Lines about a job that runs nothing any more though runs are left; of one unknown, that it is."""
    if job.phase == "unknown":
        return [f"job {job.note.job}: its queue does not answer here, or has forgotten it"]
    if job.note.system == "skypilot":
        return [f"{job.words}: it has ended; its sweep directory is in its bucket, to be copied here"]
    lines = [f"{job.words}: it has ended, and runs are left"]
    if told := last_lines(job.note):
        lines += [f"  its last lines, of {job.note.log}:", *(f"    {line}" for line in told)]
    return lines


def _of_slurm(job: str) -> Told:
    done = _asked(["scontrol", "--oneliner", "show", "job", job])
    if done is not None and done.returncode == 0:
        told = dict(re.findall(r"(?:^| )(JobState|Reason|SubmitTime|StartTime|EndTime)=(\S+)", done.stdout))
        state, reason = told.get("JobState", ""), told.get("Reason", "")
        times = {"waiting": "SubmitTime", "running": "StartTime", "ended": "EndTime"}
        since = times.get(_phase(state), "")
        return Told(state, "" if reason in ("None", "(null)") else reason, _seconds(told.get(since, "")))
    done = _asked(["sacct", "--noheader", "--parsable2", "--allocations", "--format=State", "--jobs", job])
    words = done.stdout.split() if done is not None and done.returncode == 0 else []
    return Told(words[0]) if words else Told()


def _nodes_of_slurm(job: str) -> dict[str, int]:
    """Jobs of an array that have not ended, by state."""
    if not JOB["slurm"].fullmatch(job):
        return {}
    done = _asked(["squeue", "--noheader", "--array", "--jobs", job, "--format=%T"])
    return dict(Counter(done.stdout.split())) if done is not None and done.returncode == 0 else {}


def _seconds(text: str) -> float | None:
    """A time as queues write it, in Unix seconds; one without a zone is this machine's."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _of_kuberay(job: str) -> Told:
    done = _asked([*_rayjob("get", job), "--output=json"])
    if done is None or done.returncode:
        return Told()
    try:
        status = json.loads(done.stdout).get("status") or {}  # none before the operator has seen it
        state = str(status.get("jobDeploymentStatus") or "PENDING").upper()
    except (ValueError, AttributeError):
        return Told()
    waits = state in ("NEW", "INITIALIZING", "WAITING", "RETRYING")
    since = _seconds(str(status.get("endTime") or status.get("startTime") or ""))
    return Told("PENDING" if waits else state, str(status.get("reason") or ""), since)


def _of_skypilot(job: str) -> Told:
    done = _asked(["sky", "jobs", "queue", "--output=json"])
    if done is None or done.returncode:
        return Told()
    try:
        told = [told for told in json.loads(done.stdout) if str(told["job_id"]) == job]
        return Told(str(told[0]["status"]).rpartition(".")[2].upper()) if told else Told()
    except (ValueError, TypeError, KeyError):
        return Told()


def _is_named(note: JobNote) -> bool:
    return note.system in JOB and JOB[note.system].fullmatch(note.job) is not None


def _rayjob(verb: str, job: str) -> list[str]:
    namespace, _, name = job.partition("/")
    return ["kubectl", "--namespace", namespace, verb, "rayjob", name]


def _asked(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
