"""How far a sweep is and what it has cost so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.dashboard.queue_job import JobTold
from analysis.data.sweep import SweepData
from analysis.data.views import literal
from orchestrator.store.layout import OUTCOMES

ORDER = ("done", "diverged", "running", "failed", "quarantined", "stopped", "cancelled", "skipped", "pending")
"""Outcomes in the order in which a bar shows them."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a sweep stands."""

    state: str
    """``running``, ``paused``, ``finished``; without a driver and with runs left ``stopped``, unless it is
    ``waiting`` in a queue or ``starting`` there.
    """
    live: bool
    total: int
    counts: Mapping[str, int]
    """Runs per outcome, those that are running apart."""
    runs_per_s: float = 0.0
    """Results a second, lately."""
    eta_s: tuple[float, float, float] | None = None
    """Seconds left: middle, low, high of a 95 % interval."""
    workers: int = 0
    job: JobTold | None = None
    """The queue's job that runs the sweep, will, or should have."""

    @property
    def num_results(self) -> int:
        return self.counts.get("done", 0) + self.counts.get("diverged", 0)

    @property
    def num_failed(self) -> int:
        return self.counts.get("failed", 0) + self.counts.get("quarantined", 0)

    def segments(self) -> list[tuple[str, int, float, float]]:
        """Outcome, runs, start and width in per cent of the bar."""
        segments, start = [], 0.0
        for outcome in ORDER:
            width = 100 * self.counts.get(outcome, 0) / max(1, self.total)
            if width:
                segments.append((outcome, self.counts[outcome], start, width))
            start += width
        return segments


def progress_of(
    counts: Mapping[str, int], status: Mapping[str, Any] | None, job: JobTold | None = None
) -> Progress:
    """Progress from the tables' counts, or in the words of a driver that is at work."""
    if status is None:
        whole = dict.fromkeys(OUTCOMES, 0) | dict(counts)
        total = sum(whole.values())
        if not whole["pending"]:
            return Progress(state="finished", live=False, total=total, counts=whole)
        state = (job.state if job else "") or "stopped"
        return Progress(state=state, live=False, total=total, counts=whole, job=job)
    eta = (status.get("eta_s"), status.get("eta_low_s"), status.get("eta_high_s"))
    return Progress(
        state=status["state"],
        live=True,
        total=status["total"],
        counts=status["counts"],
        runs_per_s=status.get("runs_per_s", 0.0),
        eta_s=eta if None not in eta else None,  # type: ignore[arg-type]
        workers=status.get("workers", 0),
        job=job,
    )


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What results have cost so far."""

    worker_hours: float | None
    """``None`` where runs do not say how long they took."""
    gpu_hours: float
    """The same times the GPUs of each."""
    usd: float | None
    """GPU hours at the sweep's price; ``None`` where it names none."""
    span_s: float
    """Seconds from the first result to the last."""


def spending(sweep: SweepData) -> Spending:
    names = set(sweep.arrow("SELECT * FROM runs LIMIT 0").column_names)
    if "finished_at" not in names:
        return Spending(worker_hours=None, gpu_hours=0.0, usd=None, span_s=0.0)
    source = sweep.sources[0]
    wall = "r.wall_s" if "wall_s" in names else "NULL::DOUBLE"
    manifest = f"read_parquet({literal(str(source.manifest))})"
    rows = sweep.arrow(
        f'SELECT m."spec.resources" AS resources, sum({wall}) AS wall_s, min(r.finished_at) AS first, '
        f"max(r.finished_at) AS last FROM runs r JOIN {manifest} m USING (index) "
        "WHERE r.finished_at IS NOT NULL GROUP BY ALL"
    ).to_pylist()
    worker_s = gpu_s = 0.0
    for row in rows:
        spec = json.loads(row["resources"])
        processes_s = (row["wall_s"] or 0.0) * spec.get("world_size", 1)
        worker_s += processes_s
        gpu_s += processes_s * spec.get("gpus_per_worker", 0.0)
    price = ((source.header.get("options") or {}).get("cluster") or {}).get("usd_per_gpu_hour")
    span_s = max((r["last"] for r in rows), default=0.0) - min((r["first"] for r in rows), default=0.0)
    usd = gpu_s / 3600 * price if price is not None else None
    is_timed = any(row["wall_s"] is not None for row in rows)
    worker_hours = worker_s / 3600 if is_timed else None
    return Spending(worker_hours=worker_hours, gpu_hours=gpu_s / 3600, usd=usd, span_s=span_s)
