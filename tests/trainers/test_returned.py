"""What a trainer may give back, and what becomes of it."""

from __future__ import annotations

import pytest

from tests.benchmarks.odd_results import FAILS, KINDS
from trainers.protocol import RunResult, outcome_of
from trainers.returned import result_of


def test_a_plain_result_is_passed_on_as_it_is():
    steps = [{"step": 1, "loss": 0.5}]
    result = RunResult(outcome="done", metrics={"score": 0.5, "at": None}, steps=steps)
    assert result_of(result) is result


@pytest.mark.parametrize("kind", [k for k, (_, expected) in KINDS.items() if expected is not FAILS])
def test_scalars_of_any_library_and_nested_mappings_become_plain_metrics(kind):
    result = result_of(KINDS[kind][0]())
    assert result.outcome == "done"
    assert all(type(v) in (float, int, str, bool, type(None)) for v in result.metrics.values())
    assert all(type(v) in (float, int, str) for row in result.steps for v in row.values())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "the trainer returned a NoneType; return a dict of metrics"),
        ({"score": [1]}, "metric 'score': a list cannot be a column"),
        ({"a": {"b": 1}, "a.b": 2}, "metric 'a.b': is there twice"),
        ({"": 1}, "metric '': a name is empty"),
        ({True: 1}, "metric True: names must be text, not bool"),
        ({"score": "\ud800"}, "half a character"),
        (RunResult(outcome="done", steps=[{"step": 1.5}]), r"steps\[0\]: its 'step' is 1.5"),
        (RunResult(outcome="done", steps={"step": 1}), "steps: a dict; give a list"),
        (RunResult(outcome="done", evaluations=[0.5]), r"evaluations\[0\]: a float"),
        (RunResult(outcome="ok"), "outcome 'ok': must be 'done' or 'diverged'"),
    ],
)
def test_what_no_table_can_hold_is_refused_with_its_name(value, words):
    with pytest.raises((TypeError, ValueError), match=words):
        result_of(value)


def test_an_outcome_is_never_an_exception_raised():
    assert isinstance(outcome_of(KINDS["mapping that raises"][0]()), OSError)
    error = ValueError("mine")
    assert outcome_of(error) is error
