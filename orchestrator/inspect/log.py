"""What happened in a sweep, as structured records, with run_id and attempt where one is about a run. Read
from the spools, which hold it anyway.

Fields: ``at`` (Unix seconds or ``None``), ``event``, then ``run_id, attempt, worker, host, outcome, class,
message`` as far as they apply. Events: ``driver`` began, ``worker`` began, ``result``, ``failure``,
``settle`` (a run ended without a result), ``reopen``, ``void``, ``close``, and ``decision``: a line of a
driver's own log. For chosen runs also ``output``: a line that the run printed, at the time its attempt began,
``traceback``: that of an attempt that failed, and ``step``: what its trainer reported, with ``step`` and
``metrics``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.inspect.reported import step_records
from orchestrator.store.fencing import spool_paths
from orchestrator.store.layout import Layout
from orchestrator.store.spool import SpoolHealth, read_spool
from orchestrator.worker.run_markers import output_of

FIELDS = (
    "run_id",
    "attempt",
    "worker",
    "host",
    "pid",
    "outcome",
    "class",
    "fingerprint",
    "message",
    "reason",
)
"""Fields that are taken over as they are."""

EVENTS = {"epoch": "driver"}
"""Kinds of record that people call otherwise."""

FILE_TIME_S = 0.01
"""How far a file's time, which format 1 leaves to tell a close by, may lag behind the clock: a kernel's tick.
"""

QUIET = ("lease", "accept", "end", "manifest")
"""Kinds of record that say nothing new: a result or a failure follows."""


def records(layout: Layout, run_ids: Collection[str] | None = None) -> list[dict[str, Any]]:
    """What happened, in order of time; records without a time stay behind the one before them.

    Args:
        layout: the sweep directory.
        run_ids: only what is about these runs, with what they printed.
    """
    found: list[tuple[float, int, dict[str, Any]]] = []
    for path in sorted((*layout.journal_paths(), *spool_paths(layout))):
        last_s = 0.0
        for line in read_spool(path, SpoolHealth(), live=True):
            for record in _records(line.header):
                if record["event"] == "close" and record["at"] is None:
                    last_s = path.stat().st_mtime + FILE_TIME_S
                last_s = record["at"] or last_s
                if run_ids is None or record.get("run_id") in run_ids:
                    found.append((last_s, len(found), record))
    if run_ids is None:
        for at, message in _decisions(layout):
            found.append((at, len(found), {"at": at, "event": "decision", "message": message}))
    else:
        for record in (*_printed(layout, run_ids), *step_records(layout, run_ids)):
            found.append((record["at"], len(found), record))
    return [record for *_, record in sorted(found, key=lambda entry: entry[:2])]


def _decisions(layout: Layout) -> Iterator[tuple[float, str]]:
    """The lines of the drivers' logs; one that a full disk cut off is passed over."""
    for path in sorted((layout.root / "logs").glob("driver-*.log")):
        for line in path.read_text(errors="replace").splitlines():
            time, _, message = line.partition(" ")
            with contextlib.suppress(ValueError):
                yield datetime.fromisoformat(time).timestamp(), message


def _printed(layout: Layout, run_ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """What these runs printed, a record a line, and the tracebacks of their attempts that failed."""
    for run_id in run_ids:
        for path in sorted(layout.attempt_log(run_id, 0).parent.glob("attempt_*.log")):
            with contextlib.suppress(OSError, ValueError):  # gone meanwhile, or no file of ours
                yield from _of_attempt(path, run_id)
    for path in sorted(layout.worker_logs.glob("*.log")):
        for line in output_of(path, run_ids):
            yield {
                "at": line.began_at,
                "event": "output",
                "run_id": line.run_id,
                "attempt": line.attempt,
                "worker": path.stem,
                "message": line.text,
            }


def _of_attempt(path: Path, run_id: str) -> Iterator[dict[str, Any]]:
    """An attempt's own log: the lines of a command, which it begins with, or a traceback."""
    attempt = int(path.stem.removeprefix("attempt_"))
    record = {"at": path.stat().st_mtime, "run_id": run_id, "attempt": attempt}
    text = path.read_text(errors="replace")
    if text.startswith("$ "):
        yield from ({**record, "event": "output", "message": line} for line in text.splitlines())
    else:
        yield {**record, "event": "traceback", "message": text}


def _records(header: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    kind = header["kind"]
    if kind in QUIET:
        return
    at = next((header[key] for key in ("at", "finished_at", "started_at") if key in header), None)
    record = {"at": at, "event": EVENTS.get(kind, kind), **{k: header[k] for k in FIELDS if k in header}}
    if kind in ("settle", "reopen", "void"):
        for run_id in header["runs"]:
            yield {**record, "run_id": run_id}
    else:
        yield record
