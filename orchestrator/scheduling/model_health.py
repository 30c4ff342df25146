"""What the scheduler learns about each group of runs: does it work at all, and how long does a run take.
Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.store.outcomes import INFRASTRUCTURE, Failure

MAX_UNIT = 512
"""Most runs in one batch: beyond it the cost of a message is already below 1 % of a no-op run's."""

SMOOTHING = 0.2
"""Weight of the newest run in the mean: five runs forget a slow first one, which loads the model."""


@dataclass(slots=True)
class ModelHealth:
    """One group's story so far."""

    proven: bool = False
    tripped: bool = False
    """Whether the circuit breaker holds the group back."""
    num_workers: int = 0
    """Workers that served the group last."""
    mean_s: float | None = None
    """Smoothed seconds per run, ``None`` before the first result."""
    canary_s: float = -math.inf
    """When the first run was handed out; minus infinity once it made progress."""
    failures: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Runs that failed before any worked, by fingerprint."""

    def learn(self, wall_s: float) -> None:
        self.proven = True
        self.failures.clear()
        if self.mean_s is None:
            self.mean_s = wall_s
        else:
            self.mean_s += SMOOTHING * (wall_s - self.mean_s)

    def note_failure(self, index: int, history: Sequence[Failure], settings: SchedulerConfig) -> bool:
        """Take note of a failed attempt; true when it trips the breaker.

        One lost worker may be chance; two on the same run count like an exception.
        """
        newest = history[-1]
        if self.proven or self.tripped:
            return False
        if (
            newest.failure_class == INFRASTRUCTURE
            and sum(f.failure_class == INFRASTRUCTURE for f in history) < 2
        ):
            return False
        alike = self.failures[newest.fingerprint]
        alike.add(index)
        self.tripped = len(alike) >= settings.breaker_runs
        return self.tripped

    def is_open(self, now_s: float, settings: SchedulerConfig, left_s: float, num_leased: int) -> bool:
        """Whether a run may be handed out now, with ``left_s`` until the deadline and ``num_leased`` held."""
        if self.tripped or (self.mean_s or 0.0) > left_s:
            return False
        held = now_s - self.canary_s < settings.canary_hold_s
        return self.proven or num_leased == 0 or not held

    def wants_more(self, settings: SchedulerConfig, num_held: int) -> bool:
        """Whether a worker that holds so many runs should have the next batch queued."""
        return self.mean_s is not None and self.mean_s * num_held < settings.prefetch_below_s

    def unit_size(self, settings: SchedulerConfig, num_waiting: int, num_workers: int, left_s: float) -> int:
        """Runs for the next batch: smaller near the end, to keep every worker busy to the last."""
        if self.mean_s is None:
            return 1
        run_s = max(self.mean_s, 1e-9)
        size = int(min(settings.unit_s, left_s) / run_s)
        return max(1, min(size, MAX_UNIT, num_waiting // (2 * max(1, num_workers))))


def held_back(name: str, settings: SchedulerConfig, failure: Failure) -> str:
    """What people are told of a group that is held back; ``name`` is its model's, empty for none."""
    return (
        f"the first {settings.breaker_runs} runs of {name or 'the sweep'} all failed alike "
        f"({failure.message}); its other runs are held back"
    )
