"""What the journals and spools say, read back: the truth that everything else derives from."""

from __future__ import annotations

import pytest

from orchestrator.store.index_reader import next_epoch, read_index
from orchestrator.store.journal import Journal, first_token
from orchestrator.store.layout import Layout
from orchestrator.store.outcomes import AttemptReport, Failure, Grant
from orchestrator.store.records import EpochRecord
from orchestrator.store.spool import SpoolWriter, encode_line

RUNS = ["a" * 32, "b" * 32, "c" * 32]


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path)
    made.create()
    return made


def spool(layout, name, *run_ids, outcome="done"):
    """Write one result per run; return reports that point at them."""
    writer = SpoolWriter(layout.spool(name))
    reports = []
    for run_id in run_ids:
        header = {"kind": "result", "run_id": run_id, "outcome": outcome}
        line = encode_line(header, {"metrics": {}})
        location = (f"{name}.jsonl", writer.append(line), len(line))
        reports.append(
            AttemptReport(RUNS.index(run_id) if run_id in RUNS else 0, 0, 1, outcome, 1.0, 2.0, *location)
        )
    writer.close()
    return reports


def journal(layout):
    epoch = next_epoch(layout)
    made = Journal(layout, epoch, RUNS)
    record = EpochRecord(at=0.5, epoch=epoch, host="host", pid=1, manifest="digest", runs=3, format=2)
    made.write_now(record)
    return made


def test_an_accepted_result_is_committed(layout):
    reports = spool(layout, "w1", *RUNS[:2])
    j = journal(layout)
    j.accept(reports, 1.0)
    j.close("", 2.0)
    reading = read_index(layout, RUNS)
    assert [reading.book.committed(i) for i in range(3)] == [True, True, False]
    assert reading.adopted == []
    assert reading.closed


def test_a_result_that_nobody_accepted_is_adopted_once(layout):
    spool(layout, "w1", RUNS[0])
    spool(layout, "w2", RUNS[0])
    journal(layout).close("", 2.0)
    reading = read_index(layout, RUNS)
    assert [(r[0], r[1]) for r in reading.adopted] == [(0, "w1.jsonl")]
    assert reading.num_superseded == 1


def test_a_cancelled_run_stays_cancelled_though_a_result_turns_up(layout):
    j = journal(layout)
    j.settle([0], "cancelled", 1.0)
    j.close("", 2.0)
    spool(layout, "w1", RUNS[0])
    reading = read_index(layout, RUNS)
    assert reading.book.counts()["cancelled"] == 1
    assert reading.adopted == []


def test_reopened_runs_are_pending_again_with_a_clean_history(layout):
    j = journal(layout)
    failure = Failure("error", "f" * 12, "it broke")
    j.failure(Grant(1, 0, first_token(1)), "w", failure, 1.0)
    j.settle([1], "quarantined", 1.0)
    j.close("", 2.0)
    assert read_index(layout, RUNS).book.histories == {1: [failure]}
    j = journal(layout)
    j.reopen([1], 1.5)
    j.close("", 2.0)
    book = read_index(layout, RUNS).book
    assert book.counts()["pending"] == 3
    assert book.histories == {}


def test_a_lost_result_makes_its_run_pending_and_is_told(layout):
    reports = spool(layout, "w1", RUNS[0])
    j = journal(layout)
    j.accept(reports, 1.0)
    j.close("", 2.0)
    layout.spool("w1").unlink()
    reading = read_index(layout, RUNS)
    assert reading.missing == [0]
    assert reading.book.counts()["pending"] == 3


def test_a_lost_result_is_replaced_by_another_of_the_same_run_and_not_called_double(layout):
    reports = spool(layout, "w1", RUNS[0])
    j = journal(layout)
    j.accept(reports, 1.0)
    j.close("", 2.0)
    layout.spool("w1").unlink()
    spool(layout, "w2", RUNS[0])
    reading = read_index(layout, RUNS)
    assert reading.missing == []
    j = journal(layout)
    j.void(reading.unreadable, 1.0)
    j.adopt(reading.adopted, 1.0)
    j.close("", 2.0)
    reading = read_index(layout, RUNS)
    assert reading.book.committed(0)
    assert reading.doubly_accepted == []


def test_two_accepts_of_one_run_at_two_places_are_reported(layout):
    reports = [*spool(layout, "w1", RUNS[0]), *spool(layout, "w2", RUNS[0])]
    j = journal(layout)
    for report in reports:
        j.accept([report], 1.0)
    j.close("", 2.0)
    reading = read_index(layout, RUNS)
    assert reading.doubly_accepted == [0]
    assert reading.book.spools[reading.book.spool[0]] == "w1.jsonl", "the first one wins"


def test_results_of_runs_that_left_the_grid_are_counted_apart(layout):
    spool(layout, "w1", "d" * 32)
    journal(layout).close("", 2.0)
    assert read_index(layout, RUNS).num_foreign == 1


def test_attempts_are_counted_from_leases_and_tokens_never_repeat(layout):
    j = journal(layout)
    j.lease("w1", [Grant(0, 0, first_token(1)), Grant(2, 0, first_token(1) + 1)], 1.0)
    j.close("", 2.0)
    assert list(read_index(layout, RUNS).book.attempts) == [1, 0, 1]
    assert first_token(2) > first_token(1) + 10**9


def test_an_epoch_is_never_given_twice(layout):
    journal(layout).close("", 2.0)
    journal(layout).sync()
    assert next_epoch(layout) == 3
