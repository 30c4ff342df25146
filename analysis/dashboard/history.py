"""What the journals say of one run: each attempt, where it ran and how it ended.

Journals are append-only files that only drivers write; reading them needs no lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.store.layout import Layout
from orchestrator.store.spool import decode_line

MAX_LOG_BYTES = 64 * 2**10
"""Bytes of a log shown, its end: a traceback is there."""


@dataclass(kw_only=True)
class Event:
    """One thing that happened to a run."""

    what: str
    """In words."""
    worker: str = ""
    """Where."""
    at: str = ""
    """When, in UTC; journals record it for failures only."""
    detail: str = ""
    """The message of a failure, or the place of a result."""


def events_of(layout: Layout, run_id: str) -> list[Event]:
    """Everything the journals say of a run, in order."""
    found = []
    for path in sorted(layout.spools.glob("driver-*.jsonl")):
        found += [event for record in _records(path, run_id) for event in _events(record, run_id)]
    return found


def _records(path: Path, run_id: str) -> list[dict[str, Any]]:
    """Valid records of one journal that mention the run; an unfinished last line is left alone."""
    mark = run_id.encode()
    with path.open("rb") as file:
        lines = (decode_line(line) for line in file if mark in line)
        return [line.header for line in lines if line is not None]


def _events(record: dict[str, Any], run_id: str) -> list[Event]:
    match record["kind"]:
        case "lease":
            return [Event(what="handed out", worker=record["worker"])]
        case "accept":
            places = [run for run in record["runs"] if run[0] == run_id]
            spool = record["spool"]
            return [
                Event(
                    what=f"result committed: {outcome}",
                    worker=spool.removesuffix(".jsonl"),
                    detail=f"spool/{spool}, {length:,} bytes from {offset:,}",
                )
                for _, offset, length, outcome in places
            ]
        case "failure":
            when = datetime.fromtimestamp(record["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
            what = f"attempt {record['attempt']} failed ({record['class']})"
            return [Event(what=what, worker=record["worker"], at=when, detail=record["message"])]
        case "settle":
            return [Event(what=f"ended without a result: {record['outcome']}")]
        case "reopen":
            return [Event(what="given another chance")]
        case "void":
            return [Event(what="its result can no longer be read")]
    return []


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
