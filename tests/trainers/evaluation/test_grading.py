from __future__ import annotations

from time import perf_counter

import pytest

from trainers.evaluation.grading import Grader


@pytest.fixture(scope="module")
def cut():
    grader = Grader(pattern="[;?]([^;?]*)$", timeout_s=5)
    yield grader
    grader.close()


@pytest.fixture(scope="module")
def free():
    grader = Grader(pattern=None, timeout_s=2)
    yield grader
    grader.close()


@pytest.mark.parametrize(
    ("completion", "correct", "strict", "found"),
    [
        (";11;131", True, True, True),
        ("?131", True, True, True),
        (";11;0131", True, False, True),  # equal as a number, not as text
        ("?121", False, False, True),
        ("131", False, False, False),  # nothing matches the pattern
        (";11;", False, False, False),
        (";11;1+3=1", False, False, True),
    ],
)
def test_the_answer_is_what_follows_the_last_mark(cut, completion, correct, strict, found):
    verdict = cut.judge("131", completion)
    assert (verdict.correct, verdict.strict, verdict.found) == (correct, strict, found)


@pytest.mark.parametrize(
    ("gold", "completion", "correct"),
    [
        ("\\frac{1}{2}", "so the answer is $\\boxed{0.5}$.", True),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "$\\boxed{(3, \\pi/2)}$", True),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "$\\boxed{(\\pi/2, 3)}$", False),
        ("27", "\\boxed{27}", True),
        ("27", "\\boxed{28}", False),
        ("p - q", "$\\boxed{p-q}$", True),
        ("27", "I do not know", False),
    ],
)
def test_without_a_pattern_math_verify_finds_the_answer(free, gold, completion, correct):
    verdict = free.judge(gold, completion)
    assert verdict.correct is correct
    assert verdict.found is ("boxed" in completion)


def test_a_hostile_answer_counts_as_wrong_within_the_limit_and_grading_goes_on(free):
    start = perf_counter()
    assert not free.judge("7", "$\\boxed{9^{9^{9^{9^{9}}}}}$ and $" + "(" * 3000 + "$").correct
    assert perf_counter() - start < 60
    assert free.judge("7", "\\boxed{7}").correct


def test_a_killed_helper_is_replaced(free):
    assert free.judge("x+1", "$\\boxed{1+x}$").correct
    free._helper._process.kill()
    assert not free.judge("x+2", "$\\boxed{3+x}$").correct
    assert free.judge("x+3", "$\\boxed{3+x}$").correct
