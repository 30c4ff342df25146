"""When a machine joins a sweep, stays and leaves."""

from __future__ import annotations

import pytest

from orchestrator.store.meeting import Meeting
from orchestrator.submit.membership import HEADLESS_S, IDLE_S, Seen, next_step, retry_wait_s

OPEN = Meeting(state="open", address="10.0.0.1:20001")
MOVED = Meeting(state="open", address="10.0.0.2:20001")
AWAITED, OVER = Meeting(state="awaited"), Meeting(state="over")
MEMBER = OPEN.address


@pytest.mark.parametrize(
    ("step", "seen"),
    [
        ("wait", Seen(meeting=None)),
        ("wait", Seen(meeting=AWAITED)),
        ("join", Seen(meeting=OPEN)),
        ("join", Seen(meeting=OPEN, waiting=7)),
        ("wait", Seen(meeting=OPEN, waiting=7, retry_in_s=2)),
        ("wait", Seen(meeting=OPEN, joined=MEMBER, waiting=7, idle_s=10 * IDLE_S)),
        ("part", Seen(meeting=MOVED, joined=MEMBER, waiting=7)),
        (
            "wait",
            Seen(meeting=AWAITED, joined=MEMBER, headless_s=HEADLESS_S),
        ),  # it lives on until its Ray ends
        ("over", Seen(meeting=OVER)),
        ("over", Seen(meeting=OVER, joined=MEMBER)),
    ],
)
def test_a_machine_is_with_the_sweep_while_there_is_a_head_and_work(step, seen):
    assert next_step(seen) == step


def test_a_machine_is_given_back_once_no_run_waits_and_none_works_here():
    assert next_step(Seen(meeting=OPEN, joined=MEMBER, waiting=0, idle_s=IDLE_S - 1)) == "wait"
    assert next_step(Seen(meeting=OPEN, joined=MEMBER, waiting=0, idle_s=IDLE_S)) == "give back"
    assert next_step(Seen(meeting=OPEN, waiting=0)) == "give back"
    assert next_step(Seen(meeting=OPEN, joined=MEMBER, waiting=None, idle_s=IDLE_S)) == "wait"


def test_a_machine_that_the_job_has_anyway_stays_without_work_and_without_a_head():
    assert next_step(Seen(meeting=OPEN, joined=MEMBER, waiting=0, idle_s=IDLE_S, stays=True)) == "wait"
    assert next_step(Seen(meeting=OPEN, waiting=0, stays=True)) == "join"
    assert next_step(Seen(meeting=AWAITED, headless_s=HEADLESS_S, stays=True)) == "wait"


def test_a_machine_whose_driver_has_ended_for_good_waits_for_nobody():
    assert next_step(Seen(meeting=AWAITED, job_ended=True)) == "over"
    assert next_step(Seen(meeting=OPEN, job_ended=True)) == "over"
    assert next_step(Seen(meeting=OPEN, joined=MEMBER, waiting=3, job_ended=True)) == "wait"


def test_a_machine_does_not_wait_for_ever_for_a_head():
    assert next_step(Seen(meeting=AWAITED, headless_s=HEADLESS_S)) == "yield"
    assert next_step(Seen(meeting=OPEN, headless_s=HEADLESS_S, retry_in_s=5)) == "yield"


@pytest.mark.parametrize("meeting", [None, AWAITED, OPEN, MOVED, OVER])
@pytest.mark.parametrize("joined", ["", MEMBER])
def test_a_notice_comes_before_everything_else(meeting, joined):
    assert next_step(Seen(meeting=meeting, joined=joined, noticed=True)) == "drain"


def test_joining_is_tried_again_for_ever_with_growing_pauses():
    waits = [retry_wait_s(number) for number in range(1, 9)]
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
