"""What the ranks of a gang tell becomes one story."""

from __future__ import annotations

from pathlib import Path

from orchestrator.pools.gang import MISMATCH_S, GangReports, rank_setup
from orchestrator.store.outcomes import ERROR, AttemptReport, Failure
from orchestrator.worker.protocol import ReportBatch, WorkerSetup


def batch(*tokens: int, failed: bool = False) -> ReportBatch:
    failure = Failure(ERROR, "f", "it broke") if failed else None
    outcome = "failed" if failed else "done"
    reports = [AttemptReport(t, 0, t, outcome, 1.0, 0.0, failure=failure) for t in tokens]
    return ReportBatch(tuple(reports), b"")


def test_rank_zero_speaks_for_the_gang():
    gang = GangReports(2)
    assert gang.take(1, batch(1), 0.0) is None
    assert gang.take(0, batch(1), 0.1) == batch(1)
    assert not gang.broken
    assert gang.overdue(100.0) is None


def test_a_failure_on_every_rank_is_told_once_and_breaks_the_gang():
    gang = GangReports(2)
    assert gang.take(1, batch(1, failed=True), 0.0) is None
    assert gang.take(0, batch(1, failed=True), 0.1) == batch(1, failed=True)
    assert gang.broken
    assert gang.overdue(100.0) is None


def test_a_failure_on_one_rank_is_told_when_rank_zero_waits_in_a_collective_for_good():
    gang = GangReports(3)
    gang.take(2, batch(7, failed=True), 5.0)
    assert gang.overdue(5.0 + MISMATCH_S - 1) is None
    late = gang.overdue(5.0 + MISMATCH_S + 1)
    assert late is not None
    (report,) = late.reports
    assert (report.token, report.outcome) == (7, "failed")
    assert report.failure.message == "on one rank only: it broke"
    assert gang.overdue(1000.0) is None, "told once"


def test_another_ranks_failure_after_rank_zero_has_finished_is_not_a_second_story():
    gang = GangReports(2)
    gang.take(0, batch(1), 0.0)
    gang.take(1, batch(1, failed=True), 0.1)
    assert gang.overdue(100.0) is None


def test_a_lone_worker_is_not_broken_by_a_failed_run():
    alone = GangReports(1)
    assert alone.take(0, batch(1, failed=True), 0.0) == batch(1, failed=True)
    assert not alone.broken


def test_only_rank_zero_spools_and_each_rank_has_a_log_of_its_own():
    whole = WorkerSetup(name="w", spool=Path("spool/w.jsonl"), checkpoints=Path("c"), log=Path("logs/w.log"))
    ranks = [rank_setup(whole, rank, 3) for rank in range(3)]
    assert [r.spool for r in ranks] == [whole.spool, None, None]
    assert len({r.log for r in ranks}) == 3
    assert [(r.context.rank, r.context.world_size) for r in ranks] == [(0, 3), (1, 3), (2, 3)]
    assert rank_setup(whole, 0, 1) == whole
