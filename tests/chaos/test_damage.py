"""Flipped bits, damaged files and second drivers: small helpings of ``tests.benchmarks.trust``."""

from __future__ import annotations

import pytest

from tests.benchmarks.trust import file_faults, flips, kills

pytestmark = pytest.mark.chaos


@pytest.mark.slow
def test_a_flipped_bit_changes_no_answer_in_silence():
    found = flips.measure(num_flips=60, num_processes=1)
    assert (found["silent"], found["traceback"]) == (0, 0), found["wrong"]
    assert found["named"] > 20


OFTEN = ("json",)
"""Faults that are tried in every run of the tests."""


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=() if f in OFTEN else pytest.mark.slow) for f in file_faults.FAULTS]
)
def test_every_verb_answers_in_a_line_whatever_became_of_a_file(fault):
    verbs = ("status", "verify", "table", "resume", "plan", "dashboard")
    files = ("sweep.yaml", "manifest.parquet", "status.json", "spool/driver-00001.jsonl")
    found = file_faults.measure(files, (fault,), verbs)
    assert not found["wrong"]


@pytest.mark.slow
def test_a_second_driver_let_in_by_removing_the_lock_doubles_nothing_and_the_first_ends_with_status_1():
    found = kills.measure(num_trials=len(kills.FAULTS))
    assert (found["doubled"], found["lost"], found["not_stopped"]) == (0, 0, 0), found["wrong"]
    assert found["ok"] == len(kills.FAULTS), found["wrong"]
