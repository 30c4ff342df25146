"""Journal records as values: read again as they were written, in either format."""

from __future__ import annotations

import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store.outcomes import AcceptedResult, EndedAttempt, Failure
from orchestrator.store.records import (
    AcceptRecord,
    CloseRecord,
    DecisionRecord,
    EndRecord,
    EpochRecord,
    FailureRecord,
    JournalRecord,
    LeaseRecord,
    ManifestRecord,
    ProposalRecord,
    ReopenRecord,
    SettleRecord,
    StopRecord,
    VoidRecord,
    record_of,
)

RECORDS = [
    EpochRecord(
        at=1.5, epoch=2, host="h", pid=3, manifest="d", runs=4, format=2, read={"driver-00001.jsonl": 7}
    ),
    ManifestRecord(at=1.5, name="sweep.yaml", sha256="f" * 64, part=0, parts=2),
    LeaseRecord(at=1.5, worker="w", token=9, runs=("a", "b"), attempts=(0, 1)),
    AcceptRecord(at=1.5, spool="w.jsonl", runs=(AcceptedResult("a", 1, 2, "done", 9),)),
    EndRecord(at=1.5, attempts=(EndedAttempt("a", 9, "cancelled"),)),
    FailureRecord(
        at=1.5, run_id="a", attempt=1, token=9, worker="w", failure=Failure("oom", "f" * 12, "no room")
    ),
    SettleRecord(at=1.5, runs=("a",), outcome="quarantined"),
    ReopenRecord(at=1.5, runs=("a",)),
    VoidRecord(at=1.5, runs=("a",)),
    DecisionRecord(
        at=1.5,
        rule={"kind": "race", "alpha": 0.05},
        side="above",
        cells=("a",),
        num_seeds=5,
        log_evidence=7.5,
        low=0.25,
        high=None,
        runs=("b", "c"),
    ),
    ProposalRecord(
        at=1.5,
        number=3,
        point={"optim.lr": 0.0001337, "example.rows": [0, 1]},
        asked={"optim.lr": 0.00013374901},
        seeds=(0, 1),
        runs=("a", "b"),
        after=(1, 2),
    ),
    StopRecord(at=1.5, run_id="a", step=3, value=0.5, rule={"kind": "asha", "metric": "score"}),
    CloseRecord(at=1.5, reason="asked to stop"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_a_record_survives_the_round_trip_through_its_line(record):
    assert record_of(json.loads(json.dumps(record.to_json()))) == record


def test_every_kind_of_record_is_tried_here():
    assert {type(record) for record in RECORDS} == set(typing.get_args(JournalRecord))


@given(st.lists(st.tuples(st.text(), st.integers(0), st.integers(0)), max_size=5), st.floats(0, 1e10))
def test_whatever_was_accepted_is_read_again(places, at):
    runs = tuple(AcceptedResult(run_id, offset, length, "diverged") for run_id, offset, length in places)
    record = AcceptRecord(at=at, spool="w.jsonl", runs=runs)
    assert record_of(json.loads(json.dumps(record.to_json()))) == record


def test_format_1_is_read_with_its_times_unknown_and_its_own_words():
    lease = record_of({"kind": "lease", "worker": "w", "token": 5, "runs": ["a"]})
    assert lease == LeaseRecord(at=None, worker="w", token=5, runs=("a",))
    accept = record_of({"kind": "accept", "spool": "w.jsonl", "runs": [["a", 1, 2, "done"]]})
    assert accept.runs == (AcceptedResult("a", 1, 2, "done", None),)
    failure = {"kind": "failure", "run_id": "a", "attempt": 0, "worker": "w", "class": "memory"}
    failure |= {"fingerprint": "f", "message": "m", "at": 3.0}
    assert record_of(failure).failure.failure_class == "oom"


def test_a_kind_of_a_later_version_is_passed_over():
    assert record_of({"kind": "digest", "at": 1.0, "files": {}}) is None
