"""``report`` in whatever process it is called."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from trainers.protocol import RunContext
from trainers.reporting import GO_ON, Decision, report, reporting_to
from trainers.reporting.rows import checked_row

ROOT = Path(__file__).parents[3]


def test_outside_a_sweep_it_does_nothing():
    assert report(3, loss=object()) is GO_ON
    code = "from trainers.reporting import report; report(1, loss=0.5)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_context_without_a_listener_goes_on():
    context = RunContext()
    assert context.report(3, loss=0.5) == context.decision() == Decision(stop=False, reason="")


def test_it_is_about_the_run_that_this_process_works_on_in_every_thread_and_no_fork():
    taken = []

    def take(step: int, **metrics: object) -> Decision:
        taken.append((step, metrics))
        return Decision(stop=True, reason="enough")

    with reporting_to(take):
        assert report(1, a=2).stop
        thread = threading.Thread(target=report, args=(2,))
        thread.start()
        thread.join()
        if not (child := os.fork()):
            os._exit(int(report(3).stop))
        assert os.waitpid(child, 0)[1] == 0
    assert report(4) is GO_ON
    assert taken == [(1, {"a": 2}), (2, {})]


def test_a_decision_has_no_truth_of_its_own():
    with pytest.raises(TypeError, match=r"\.stop"):
        bool(GO_ON)


def test_a_row_is_plain_values_of_any_library():
    row = {"loss": np.float32(0.5), "eval": {"n": np.int64(3)}, "who": "me", "none": None}
    assert checked_row(np.int64(7), row) == (7, {"loss": 0.5, "eval.n": 3, "who": "me", "none": None})


@pytest.mark.parametrize(
    ("step", "metrics", "words"),
    [
        (1.5, {}, "its step is 1.5, a float"),
        ("1", {}, "its step is '1', a str"),
        (True, {}, "its step is True, a bool"),
        (-1, {}, "its step is -1; steps are counted from 0"),
        (1, {"loss": [1]}, "reported metric 'loss': a list cannot be a column"),
        (1, {"step": 2}, "reported metric 'step': is the step's own name"),
        (1, {"x" * 201: 2}, "at most 200 characters"),
        (1, {"text": "x" * 501}, "a text of 501 characters"),
    ],
)
def test_what_cannot_be_reported_is_refused_with_its_name(step, metrics, words):
    with pytest.raises((TypeError, ValueError), match=words):
        checked_row(step, metrics)
