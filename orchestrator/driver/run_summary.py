"""How a driver's life ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a driver's life ended."""

    expected: int
    """Runs of the manifest."""
    committed: int
    """Runs with a result, diverged ones included."""
    diverged: int
    """Runs whose loss or gradient stopped being finite."""
    failed: int
    """Runs that ended without a result, quarantined ones included."""
    cancelled: int
    """Runs that nobody wants any more."""
    skipped: int = 0
    """Runs that a race did without."""
    stopped: int = 0
    """Runs that early stopping has ended."""
    decided: int = 0
    """Cells that a race decided, or pairs of cells."""
    undecided: int | None = None
    """Those that it did not; ``None`` where there is no race."""
    search: Mapping[str, Any] | None = None
    """Where a search stands (:meth:`orchestrator.driver.searching.Searching.facts`); ``None`` without one."""
    new: int = 0
    """Results committed in this life."""
    busy_s: float = 0.0
    """Seconds from the first dispatch to the last durable commit."""
    interrupted: bool = False
    """Whether it was asked to stop before the end."""
    reason: str = ""
    """Why it stopped early, for people; empty otherwise."""
    worker_peak_mib: float = 0.0
    """The most memory that one process of a worker has held; that of a worker in the driver's own process is
    the driver's.
    """

    @classmethod
    def of(cls, counts: dict[str, int], **more: Any) -> Summary:
        """Summarise the outcomes of a manifest's runs."""
        return cls(
            expected=sum(counts.values()),
            committed=counts["done"] + counts["diverged"],
            diverged=counts["diverged"],
            failed=counts["failed"] + counts["quarantined"],
            cancelled=counts["cancelled"],
            skipped=counts["skipped"],
            stopped=counts["stopped"],
            **more,
        )

    @property
    def runs_per_s(self) -> float:
        """Durable results per second between the first dispatch and the last commit."""
        return self.new / self.busy_s if self.busy_s > 0 else 0.0
