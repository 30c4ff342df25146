"""The story of one run in words for its page, and the ends of its logs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.store.history import history_of
from orchestrator.store.layout import Layout
from orchestrator.store.outcomes import AttemptEnd
from orchestrator.store.records import (
    AcceptRecord,
    EndRecord,
    FailureRecord,
    JournalRecord,
    LeaseRecord,
    ReopenRecord,
    SettleRecord,
    VoidRecord,
)
from orchestrator.store.reports import by_attempt, reported_rows

MAX_LOG_BYTES = 64 * 2**10
"""Bytes of a log shown, its end: a traceback is there."""


@dataclass(kw_only=True)
class Event:
    """One thing that happened to a run."""

    what: str
    worker: str = ""
    at: str = ""
    """When, in UTC; empty where the journal does not say."""
    detail: str = ""
    """The message of a failure, or the place of a result."""


def events_of(layout: Layout, run_id: str) -> list[Event]:
    """Everything the journals say of a run, in order."""
    return [event for record in history_of(layout, run_id).records for event in _events(record)]


@dataclass(frozen=True, kw_only=True)
class ReportedAttempt:
    """What one attempt at a run has reported so far."""

    attempt: int
    ended: AttemptEnd | None
    """``None`` while it is at work, or when nobody heard of its end."""
    is_over: bool
    """Whether it ended, or a later one has begun."""
    steps: list[dict[str, Any]]
    """One mapping a step, ``step`` first."""

    @property
    def gave_result(self) -> bool:
        return self.ended in ("done", "diverged")


def reported_by(layout: Layout, run_id: str) -> list[ReportedAttempt]:
    """What the attempts at a run have reported, oldest first; nothing where nobody reports."""
    if not layout.reports.is_dir():
        return []
    ends = {attempt.token: attempt.ended for attempt in history_of(layout, run_id).attempts}
    found = by_attempt(reported_rows(layout, run_id))
    newest = max((*ends, *found), default=0)
    return [
        ReportedAttempt(
            attempt=rows[0].attempt,
            ended=ends.get(token),
            is_over=ends.get(token) is not None or token != newest,
            steps=[{"step": row.step, **row.metrics} for row in rows],
        )
        for token, rows in found.items()
    ]


def _events(record: JournalRecord) -> list[Event]:
    at = _clock(record.at)
    match record:
        case LeaseRecord():
            return [Event(what="handed out", worker=record.worker, at=at)]
        case AcceptRecord(spool=spool):
            return [
                Event(
                    what=f"result committed: {result.outcome}",
                    worker=spool.removesuffix(".jsonl"),
                    at=at,
                    detail=f"spool/{spool}, {result.length:,} bytes from {result.offset:,}",
                )
                for result in record.runs
            ]
        case EndRecord():
            return [
                Event(what=f"an attempt changed nothing: {end.outcome}", at=at) for end in record.attempts
            ]
        case FailureRecord(failure=failure):
            what = f"attempt {record.attempt} failed ({failure.failure_class})"
            return [Event(what=what, worker=record.worker, at=at, detail=failure.message)]
        case SettleRecord():
            return [Event(what=f"ended without a result: {record.outcome}", at=at)]
        case ReopenRecord():
            return [Event(what="given another chance", at=at)]
        case VoidRecord():
            return [Event(what="its result can no longer be read", at=at)]
    return []


def _clock(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def logs_of(layout: Layout, run_id: str, worker: str | None) -> list[tuple[str, str]]:
    """Name and end of each log there is: of failed attempts, then of the worker that ran it last.

    Paths are made of what the sweep's own files say, never of what a request says.
    """
    folder = layout.attempt_log(run_id, 0).parent
    paths = [
        (f"log of attempt {p.stem.removeprefix('attempt_')}", p) for p in sorted(folder.glob("attempt_*.log"))
    ]
    if worker and "/" not in worker:
        paths.append((f"output of worker {worker}, shared by its runs", layout.worker_logs / f"{worker}.log"))
    return [(name, text) for name, path in paths if (text := _end_of(path))]


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_LOG_BYTES))
            text = file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f"… (the last {MAX_LOG_BYTES // 1024} KiB)\n{text}" if size > MAX_LOG_BYTES else text
