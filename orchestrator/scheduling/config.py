"""What an operator may tune about scheduling; the defaults suit runs from microseconds to hours."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.scheduling.retry import RetryPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulerConfig:
    """Times, limits and budgets of the scheduler."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    unit_s: float = 0.5
    """Work in one batch. Batches of runs shorter than this share messages and fsyncs."""
    prefetch_below_s: float = 2.0
    """Work left at a worker below which it gets a second batch, so that it never waits for the driver."""
    lease_s: float = 60.0
    """Silence after which a worker counts as lost; workers beat every second."""
    watchdog_s: float = 600.0
    """Time without progress after which a working worker counts as hung; 0 turns the watchdog off."""
    start_s: float = 300.0
    """Longest a worker may take to come up on free resources."""
    check_s: float = 1.0
    """Period of looking after workers: their silence, progress, time limits and number."""
    canary_hold_s: float = 30.0
    """Longest the first run of a group holds the others back."""
    breaker_runs: int = 4
    """Distinct first runs of a group that fail alike before the group is held back."""
    start_failures: int = 5
    """Times in a row that workers die before they are up until the sweep gives up."""
    memory_watermark_gib: float = 0.0
    """Resident memory above which a worker is replaced once it is idle; 0 sets no limit."""
    max_slots: int = 0
    """Cap on worker processes in use; 0 leaves it to the capacity."""
    max_gpus: float = 0.0
    """Cap on GPUs in use; 0 leaves it to the capacity."""
    give_back_s: float = 10.0
    """Time after which a worker for which nothing is left is ended, where nodes go when they are idle.
    A run that comes back within it finds its worker warm; a new one needs about as long to be up."""
