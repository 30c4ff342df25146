"""What ``status`` says: in the live driver's own words, else from the index it left, else from the spools."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from orchestrator.inspect.replay import find_run
from orchestrator.inspect.reported import newest_reports, reports_of_run, step_text
from orchestrator.store.advice import is_held_back, next_steps
from orchestrator.store.failure_groups import failure_groups
from orchestrator.store.history import Attempt, RunHistory, history_of
from orchestrator.store.index_reader import read_index
from orchestrator.store.job_note import read_job, submitted_by
from orchestrator.store.layout import OUTCOMES, Layout
from orchestrator.store.liveness import live_driver
from orchestrator.store.opening import open_to_look
from orchestrator.store.race_words import race_text
from orchestrator.store.search_words import search_text
from orchestrator.store.state_reader import indexed_runs
from orchestrator.store.status import nodes_text, read_status, status_is_damaged
from orchestrator.submit.queued import QueuedJob, how_it_ended, queued_job
from orchestrator.worker.run_markers import newest_words
from sweeps.spec.text import duration, span

MAX_WORDS_SHOWN = 10
"""Runs at work whose newest words are shown."""


def sweep_status(directory: Path) -> dict[str, Any]:
    """State of a sweep as plain values.

    Raises:
        UserError: when the directory is not a sweep.
    """
    opened = open_to_look(directory)
    layout, manifest = opened.layout, opened.manifest
    findings = [f"{path.name} {why}; mend it with: emsweep repair {directory}" for path, why in opened.damage]
    if status_is_damaged(layout):
        findings.append("status.json is damaged and was ignored")
    driver = live_driver(layout)
    if driver is not None and driver.status is not None:
        silent = {"runs_per_s": 0.0, "eta_s": None, "silent_s": driver.silent_s} if driver.is_silent else {}
        newest = newest_reports(layout, manifest, driver.status)
        more = {"live": True, "dir": str(directory), "findings": findings, "newest": newest}
        return {**driver.status, **silent, **more, **_told_of(job_of(layout))}
    book = indexed_runs(layout, manifest) if driver is None else None
    if book is None:
        reading = read_index(layout, manifest.run_ids, live=driver is not None)
        book, findings = reading.book, [*findings, *reading.findings()]
        if reading.journal_damage:
            findings.append(f"mend the journals with: emsweep repair {directory}")
    counts: dict[str, int] = {**book.counts(), "running": 0}
    job = job_of(layout) if driver is None and counts["pending"] else None
    if job is not None and not job.is_there:
        findings += how_it_ended(job)
    groups = failure_groups(manifest, book)
    example = groups[0]["example"] if groups else None
    held_back = is_held_back(read_status(layout), counts)
    works = driver is not None or (job is not None and job.is_there)
    submitted = submitted_by(layout)
    steps = next_steps(directory, counts, held_back=held_back, example=example, submitted=submitted)
    return {
        "dir": str(directory),
        "live": driver is not None,
        "state": _state(driver is not None, job, counts),
        "total": len(manifest),
        "counts": counts,
        "runs_per_s": 0.0,
        "eta_s": None,
        "failures": groups,
        "findings": findings,
        "next": [] if works else [step._asdict() for step in steps],
        **_told_of(job),
        **{key: told[key] for key in ("race", "search") if (told := read_status(layout)) and told.get(key)},
    }


def job_of(layout: Layout) -> QueuedJob | None:
    """The job of a queue that a sweep was handed to last, as that queue tells of it now."""
    note = read_job(layout)
    return None if note is None else queued_job(note)


def _told_of(job: QueuedJob | None) -> dict[str, Any]:
    return {} if job is None else {"job": job.to_json(), "waits_for": job.words}


def _state(has_driver: bool, job: QueuedJob | None, counts: dict[str, int]) -> str:
    """One word for a sweep whose driver has not spoken."""
    if has_driver:
        return "starting"
    found = "" if job is None else waiting_state(job)
    return found or ("interrupted" if counts["pending"] else "finished")


def waiting_state(job: QueuedJob) -> str:
    """One word for a sweep that has no driver yet, but a job that will bring one; empty otherwise."""
    return {"waiting": "waiting", "running": "starting"}.get(job.phase, "")


def job_lines(job: QueuedJob) -> list[str]:
    """What there is to say of a job: its nodes while it is there, and how it ended."""
    return how_it_ended(job) if job.phase == "ended" else _node_lines(job.to_json())


def run_story(directory: Path, text: str) -> dict[str, Any]:
    """What became of one run, attempt by attempt, as plain values.

    Args:
        directory: of the sweep.
        text: the run's id, its first digits, or its name.

    Raises:
        UserError: when the directory is not a sweep, or none or several runs match.
    """
    opened = open_to_look(directory)
    layout, manifest = opened.layout, opened.manifest
    index = find_run(manifest, text)
    run_id = manifest.run_ids[index]
    story = history_of(layout, run_id)
    reports = reports_of_run(layout, run_id)
    logs = sorted((layout.root / "logs" / run_id).glob("attempt_*.log"))
    return {
        "run_id": run_id,
        "name": manifest.name(index),
        "outcome": story.outcome,
        "error": story.error,
        "attempts": [
            *(
                _plain(attempt) | reports.pop(attempt.token, {"reported": 0, "newest": None})
                for attempt in story.attempts
            ),
            *(_unheard_of(report) for report in reports.values()),
        ],
        "logs": [str(path) for path in logs],
        "words": _newest_words(layout, run_id, story),
    }


def _newest_words(layout: Layout, run_id: str, story: RunHistory) -> str:
    """What the run's trainer said last: from the driver while it works, else from the last worker's log."""
    driver = live_driver(layout)
    told = driver.status.get("words", ()) if driver is not None and driver.status is not None else ()
    for entry in told:
        if entry["run_id"] == run_id:
            return str(entry["words"])
    for attempt in reversed(story.attempts):
        if words := newest_words(layout.worker_logs / f"{attempt.worker}.log", run_id):
            return words
    return ""


def _unheard_of(report: dict[str, Any]) -> dict[str, Any]:
    """An attempt that reported, and whose lease its driver did not live to write down."""
    return {"granted_at": None, "ended": None, "ended_at": None, "error": None, **report}


def _plain(attempt: Attempt) -> dict[str, Any]:
    names = ("attempt", "worker", "granted_at", "ended", "ended_at")
    error = attempt.failure.message if attempt.failure else None
    return {name: getattr(attempt, name) for name in names} | {"error": error}


def story_text(story: dict[str, Any]) -> str:
    """The story for people."""
    lines = [f"{story['name']} ({story['run_id']}): {story['outcome']}"]
    if story["error"]:
        lines.append(f"  {story['error']}")
    for attempt in story["attempts"]:
        began, ended = _clock(attempt["granted_at"]), attempt["ended"] or "no end was heard of"
        if attempt["error"]:
            ended += f": {attempt['error']}"
        lines.append(f"  attempt {attempt['attempt']}  {began}  on {attempt['worker']}: {ended}")
        if attempt["newest"]:
            lines.append(f"    reported {attempt['reported']} steps, last {step_text(attempt['newest'])}")
    if story["words"]:
        lines.append(f"  said last: {story['words']}")
    return "\n".join([*lines, *(f"  log: {path}" for path in story["logs"])])


def _clock(at: float | None) -> str:
    """A time for people; format 1 did not keep every one."""
    return "time unknown" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def status_text(status: dict[str, Any]) -> str:
    """The state for people."""
    counts = status["counts"]
    words = [f"{counts['done']}/{status['total']} done"]
    words += [f"{counts[k]} {k}" for k in ("running", *OUTCOMES) if k != "done" and counts.get(k)]
    if status.get("silent_s"):
        words.append(f"its driver has been silent for {duration(status['silent_s'])}")
    elif status["live"] and "runs_per_s" in status:
        words.append(f"{status['runs_per_s']:.3g} runs/s")
        if status.get("eta_s") is not None:
            left = span(status["eta_s"], status["eta_low_s"], status["eta_high_s"])
            words.append(f"about {left} left")
    place = ""
    if status["state"] in ("waiting", "starting") and "job" in status:
        since = status["job"]["since"]
        place = f" in {status['waits_for']}" + (
            f" for {duration(max(0.0, time.time() - since))}" if since else ""
        )
    lines = [f"{status['dir']}: {status['state']}{place} · " + " · ".join(words)]
    if race := status.get("race"):
        lines.append(f"  {race_text(race['decided'], race['undecided'], counts.get('skipped', 0))}")
    if search := status.get("search"):
        lines.append(f"  {search_text(search)}")
    lines += _node_lines(status.get("job") or {})
    if status["live"] and "nodes" in status:
        lines.append(f"  {nodes_text(status['nodes'])}")
    lines += [f"  {finding}" for finding in status.get("findings", ())]
    if status["live"] and not status.get("silent_s"):
        told = status.get("words", ())
        lines += [f"  {entry['run_id'][:8]}: {entry['words']}" for entry in told[:MAX_WORDS_SHOWN]]
        newest = status.get("newest", ())
        lines += [f"  {entry['name']}: {step_text(entry)}" for entry in newest[:MAX_WORDS_SHOWN]]
    for group in status["failures"]:
        lines += _failure_lines(status["dir"], group)
    lines += [f"  next: {step['command']}    # {step['why']}" for step in status.get("next", ())]
    return "\n".join(lines)


def _node_lines(job: dict[str, Any]) -> list[str]:
    """How many nodes of an elastic sweep are at work, and how many wait."""
    counts = ", ".join(f"{number} {state.lower()}" for state, number in sorted(job.get("nodes", {}).items()))
    return [f"  nodes, job {job['nodes_id']}: {counts}"] if counts else []


def _failure_lines(directory: str, group: dict[str, Any]) -> list[str]:
    lines = [f"  {group['count']} × {group['fingerprint']} ({group['class']}) {group['message']}"]
    lines += [
        f"      {v['share']:.0%} have {v['axis']}={v['value']}, of the sweep {v['share_of_sweep']:.0%}"
        for v in group["over_represented"]
    ]
    words = ["emsweep rerun", shlex.quote(directory), "--failed", group["filter"]]
    lines.append(f"      again: {' '.join(w for w in words if w)}")
    lines.append(f"      log:   {directory}/logs/{group['example']}/attempt_{group['example_attempt']}.log")
    return lines
