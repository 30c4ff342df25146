"""What a pool keeps per worker: its ranks, and what each still owes. Pure; shared by the local and the Ray
pool.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.store.outcomes import AttemptReport, Failure
from orchestrator.worker.protocol import ReportBatch, WorkerSetup

MISMATCH_S = 10.0
"""Time rank 0 gets to end an attempt after another rank failed in it: past that it waits in a collective for
good.
"""


def rank_setup(setup: WorkerSetup, rank: int, world_size: int, rendezvous: str = "") -> WorkerSetup:
    """The setup of one rank: only rank 0 spools, each has its own log."""
    if world_size == 1:
        return setup
    log = setup.log if rank == 0 else setup.log.with_name(f"{setup.log.stem}-r{rank}{setup.log.suffix}")
    spool, reports = (setup.spool, setup.reports) if rank == 0 else (None, None)
    context = replace(setup.context, rank=rank, world_size=world_size, rendezvous=rendezvous)
    return replace(setup, spool=spool, reports=reports, log=Path(log), context=context)


@dataclass(slots=True)
class GangReports:
    """Merges what the ranks of a worker report into one story: rank 0's, unless another rank failed alone."""

    world_size: int
    broken: bool = False
    """True once a rank failed: the gang's collectives may be out of step, so it is to be built anew."""
    _peak_mib: float = 0.0
    _alone: dict[int, tuple[float, AttemptReport]] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)

    def take(self, rank: int, batch: ReportBatch, now_s: float) -> ReportBatch | None:
        """Return the batch to pass on, or ``None``."""
        failed = [r for r in batch.reports if r.failure is not None]
        if self.world_size > 1 and failed:
            self.broken = True
        self._peak_mib = max(self._peak_mib, batch.peak_mib)
        if rank == 0:
            if self.world_size > 1:
                for report in batch.reports:
                    self._ended.add(report.token)
                    self._alone.pop(report.token, None)
            return batch._replace(peak_mib=self._peak_mib)
        for report in failed:
            if report.token not in self._ended:
                self._alone[report.token] = (now_s, report)
        return None

    def overdue(self, now_s: float) -> ReportBatch | None:
        """The failures of other ranks that rank 0 has not matched in time, as a batch."""
        late = [r for since_s, r in self._alone.values() if now_s - since_s > MISMATCH_S]
        for report in late:
            del self._alone[report.token]
        return ReportBatch(tuple(_on_one_rank(r) for r in late), b"") if late else None


def _on_one_rank(report: AttemptReport) -> AttemptReport:
    failure: Failure = report.failure  # type: ignore[assignment]
    return report._replace(failure=failure._replace(message=f"on one rank only: {failure.message}"))
