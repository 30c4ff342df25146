"""What ``status`` says: from the live driver's own words, or from the spools when there is no driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.progress import duration
from orchestrator.session import open_manifest
from orchestrator.store.book import Book, read_book
from orchestrator.store.layout import OUTCOMES
from orchestrator.store.lock import holder_of
from orchestrator.store.status import read_status


def sweep_status(directory: Path) -> dict[str, Any]:
    """State of a sweep as plain values.

    Raises:
        UserError: when the directory is not a sweep.
    """
    layout, manifest = open_manifest(directory)
    told = read_status(layout)
    holder = holder_of(layout.lock)
    if holder is not None and told is not None and told["state"] == "running":
        return {**told, "live": True, "dir": str(directory)}
    book = read_book(layout, manifest.run_ids, live=holder is not None).book
    return {
        "dir": str(directory),
        "live": holder is not None,
        "state": "starting" if holder is not None else _state(book),
        "total": len(manifest),
        "counts": {**book.counts(), "running": 0},
        "runs_per_s": 0.0,
        "eta_s": None,
        "failures": failures(book),
    }


def failures(book: Book) -> list[dict[str, Any]]:
    """Runs that ended in failure, grouped by fingerprint, the largest group first."""
    groups: dict[str, dict[str, Any]] = {}
    for index, note in book.notes.items():
        if OUTCOMES[book.outcome[index]] not in ("failed", "quarantined"):
            continue
        failure = note.failure
        group = groups.setdefault(
            failure.fingerprint,
            {
                "fingerprint": failure.fingerprint,
                "class": failure.kind,
                "message": failure.message,
                "count": 0,
                "example": book.run_ids[index],
                "example_attempt": note.attempt,
            },
        )
        group["count"] += 1
    return sorted(groups.values(), key=lambda g: -g["count"])


def status_text(status: dict[str, Any]) -> str:
    """The state for people."""
    counts = status["counts"]
    shown = [f"{counts[k]} {k}" for k in ("done", "running", *OUTCOMES) if k != "done" and counts.get(k)]
    words = [f"{counts['done']}/{status['total']} done", *dict.fromkeys(shown)]
    if status["live"]:
        words.append(f"{status['runs_per_s']:.3g} runs/s")
        if status["eta_s"] is not None:
            words.append(f"about {duration(status['eta_s'])} left")
    lines = [f"{status['dir']}: {status['state']} · " + " · ".join(words)]
    for group in status.get("failures", []):
        lines.append(f"  {group['count']} x {group['fingerprint']} {group['class']}: {group['message']}")
        lines.append(
            f"    see {status['dir']}/logs/{group['example']}/attempt_{group['example_attempt']}.log"
        )
    return "\n".join(lines)


def _state(book: Book) -> str:
    return "finished" if not book.counts()["pending"] else "interrupted"
