from __future__ import annotations

import json
import random
from pathlib import Path
from time import perf_counter

import pytest

from tests.benchmarks.respellings import FIELDS, KINDS, WRONG_KINDS, golds
from trainers.evaluation.answer_equality import equal_numbers
from trainers.evaluation.answer_text import normalise
from trainers.evaluation.grading import PATIENCE, Grader

SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"


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


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        ("4.5e33", r"4.5 \cdot e \cdot 33", False),  # Euler's number is no exponent
        (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", False),
        (r"\frac{1}{2^{99}}", "2^{-99}", True),
        ("2516_8", "2516_7", False),
        ("10", "4 10/3", False),
        (r"\frac{1}{3}", "0.333333", True),
        (r"\frac{1}{3}", "0.333", False),
        ("1000001", "1000002", False),
        ("0", "0.0000001", False),
        ("1e-12", "2e-12", False),
        (r"\pm 3", "3,-3", True),
        (r"x \in [2,5]", "[2,5]", True),
        (r"\text{(C)}", "C", True),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}", False),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix} 1&2\\ 3&4 \end{bmatrix}", True),
        ("62", "6²", False),
        ("36", "6²", True),
        ("103", "10³", False),
        (r"6.02 \times 10^{23}", "6.02×10²³", True),
        ("25168", "2516₈", False),
        ("2516_8", "2516₈", True),
        (r"\frac{41}{3}", "4⅓", False),
        (r"4\frac{1}{3}", "4⅓", True),
        (r"2\sqrt{3}", "2√3", True),
        (r"\frac{1}{3}", r"0.\overline{3}", True),
        (r"\frac{5}{6}", r"0.8\overline{3}", True),
        (r"\frac{1}{3}", r"0.\overline{4}", False),
        (r"\sqrt{2}", "1.414214", True),
        (r"\sqrt{2}", "1.414213", False),
        ("36", r"= 36 \text{ cm}", True),
        ("36", r"\approx 36", True),
        ("36", r"\textcolor{red}{36}", True),
        ("36", r"36 \text{ cm squared}", True),
        ("6", r"6 \text{ squared}", False),
        ("6", "6 factorial", False),
        ("7", r"7 \text{ or more}", False),
        ("7", r"7 \text{ hours } 30 \text{ minutes}", False),
        ("3", r"3 \text{ million}", False),
        ("3000000", r"\$3 \text{ million dollars}", True),
        ("36", "3 dozen", True),
        ("ABC", "CBA", False),
        (r"\text{Evelyn}", "evelyn", True),
        (r"[0,1] \cup [2,3]", "[2,3] ∪ [0,1]", True),
        ("(1,2)", "(2,1)", False),
        # Numbers side by side are neither one number, nor a sum, nor a product.
        ("12", "1 2", False),
        ("3 1/2", "31/2", False),
        ("5", "2 3", False),
        ("5", "2(3)", False),
        ("6", "2(3)", True),
        ("9", r"3\binom{4}{2}", False),
        ("18", r"3\binom{4}{2}", True),
        ("1234567", "1 234 567", True),
        ("3", r"\log_2 8", True),
        # A decimal equals what has its value exactly, however few digits it shows.
        ("0.25", "2^{-2}", True),
        ("7.5", "7 + 1/2", True),
        ("0.33", r"\frac{2}{6}", False),
        (r"33\frac{1}{3}\%", r"\frac{100}{3}", True),
        ("12", r"12^{\text{th}}", True),
        ("2i", "(1+i)^2", True),
        # Variables are variables: the last one is no unit, capitals are no small letters beside them.
        ("x+2m", "x+2", False),
        ("v=2t", "v=2s", False),
        ("2m", "2", False),
        (r"\frac{GMm}{r^2}", r"\frac{Gm^2}{r^2}", False),
        ("I^2 R", "I R", False),
        ("I^2 R", "R I^2", True),
        (r"c^{2}(\gamma^{2}-1)", r"c^{2}(\gamma^{2}-4)", False),
        (r"\frac{d x}{d t}=k x-a", r"-\frac{dx}{dt}=kx-a", False),
        (r"\frac{d x}{d t}=k x-a", r"\frac{dx}{dt} = -a + kx", True),
        ("f'(x)", "f(x)", False),
        (r"y^{\prime}", "y'", True),
        (r"\angle ABC", r"\angle ACB", False),
        # Units that are known are the same or the answers are not.
        (r"5 \text{ m}", r"5\text{ cm}", False),
        (r"5 \text{ m}", "5 metres", True),
        (r"5 \text{ m}", "5", True),
        ("5", r"5\text{ cm}", True),
        (r"5 \text{ mph}", r"5 \text{ miles per hour}", True),
        (r"5 \text{ cm}^2", r"5 \text{ square centimeters}", True),
        (r"5 \text{ cm}^2", r"5 \text{ cm}", False),
        (r"\$12", r"12 \text{ cents}", False),
        (r"10\text{ a.m.}", r"10 \text{ AM}", True),
        (r"10\text{ a.m.}", r"10\text{ p.m.}", False),
        (r"5 \text{ January}", r"5 \text{ February}", False),
        ("2020-01-02", "2020-02-01", False),
        ("2020-01-02", "2017", False),
        # Words are no products of letters.
        (r"\text{east}", r"\text{seat}", False),
        ("No", "on", False),
        (r"\text{saw}", r"\text{was}", False),
        (r"\text{saw}", "saw", True),
        (r"\text{dog bites man}", r"\text{man bites dog}", False),
        (r"7\text{ or more}", r"7 \text{ or fewer}", False),
        # Lists part by part, and to every digit.
        ("(1,2)", r"\{1,2\}", False),
        ("(0.1234567,2)", "(0.1234568,2)", False),
        ("(0.5,2)", r"(\frac{1}{2},2)", True),
        ("12", "12, 12", False),
        ("-2,-2", "-2", False),
        ("3,1,2", "1,2,3", True),
        (r"\{3,1,2\}", "1,2,3", True),
        ("1,2,3", r"1,2,3,\ldots", False),
        ("a=1, b=2", "2, 1", False),
        ("a=1, b=2", "b=2, a=1", True),
        (r"$\sqrt{2}$", r"$\sqrt{2}$+1", False),
        (r"$a=2$, $a=3$", "2, 3", True),
        (r"x \cos (t)+$ $y \sin (t)", r"x \cos(t) - y \sin(t)", False),
        (r"x \cos (t)+$ $y \sin (t)", r"y \sin(t) + x \cos(t)", True),
        (r"$5$\text{ cm}", "5", True),
        (r"\emptyset", r"\varnothing", True),
    ],
)
def test_numbers_are_read_as_numbers(free, gold, answer, correct):
    assert free.judge(gold, rf"so $\boxed{{{answer}}}$").correct is correct


@pytest.mark.parametrize(
    ("gold", "completion", "correct"),
    [
        ("4.5e33", "The answer is 4.5e33.", True),
        ("2516_8", "The answer is $2516_7$", False),
        ("2516_8", "The answer is $2516_8$.", True),
        ("10", "The answer is 4 10/3", False),
        ("3", "The final answer is: 3 million", False),
        ("3000000", "The final answer is: 3 million", True),
        (r"3\frac12", "The answer is 3 1/2", True),
        ("A", "The answer is (A).", True),
        ("A", "The answer is B, not A", False),
        ("36", r"In all it costs \$36.", True),
    ],
)
def test_a_number_that_is_stated_without_a_box_is_read_like_one_in_a_box(free, gold, completion, correct):
    verdict = free.judge(gold, completion)
    assert (verdict.correct, verdict.found) == (correct, False)


def test_an_answer_that_was_not_reached_for_lack_of_patience_is_judged_at_the_next_step(free, monkeypatch):
    monkeypatch.setattr(free, "_num_overrun", PATIENCE)
    assert not free.judge("y+1", r"\boxed{1+y}").correct
    free.begin()
    assert free.judge("y+1", r"\boxed{1+y}").correct


def test_exact_text_is_that_of_the_box(free):
    assert free.judge("p-q", r"It is $\boxed{p-q}$.").strict
    assert not free.judge("p-q", r"It is $\boxed{-q+p}$.").strict


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x=7", "7"),
        (r"2\pi", r"\pi 2"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("10^3", "1000"),
        ("{7}", "7"),
        (r"\frac{1}{\sqrt3}", r"\frac{\sqrt3}{3}"),
        ("x+x", "2x"),
        ("0.5", r"\frac{1}{2}"),
        ("6²", "36"),
        ("⅓", r"0.\overline{3}"),
        ("3 million", "3000000"),
        ("Evelyn", "evelyn"),
        (r"\{2,1\}", r"\{1,2\}"),
        ("[0,1] ∪ [2,3]", r"[2,3] \cup [0,1]"),
        ("1 234", "1234"),
        ("(x+1)^2", "x^2+2x+1"),
        (r"x^2+y^2=4", "x^2+y^2-4=0"),
        ("(1+i)^2", "2i"),
        ("(a,b)=(1,2)", "(1,2)"),
        (r"\text{yes}", "Yes"),
    ],
)
def test_equal_answers_are_spelt_alike(free, first, second):
    assert free.answer(rf"\boxed{{{first}}}") == free.answer(rf"\boxed{{{second}}}")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
        (r"7 \text{ hours } 30 \text{ minutes}", "7"),
        ("7 or more", "7"),
        ("ABC", "CBA"),
        ("6²", "62"),
        ("1 000", "0"),
        ("(a,b)=(1,2)", "(a,b)=(3,4)"),
        (r"3\text{ PM}", r"3\text{ AM}"),
        (r"\text{saw}", r"\text{was}"),
        (r"\gamma^2-1", r"\gamma^2-4"),
    ],
)
def test_other_answers_are_spelt_otherwise(free, first, second):
    assert free.answer(rf"\boxed{{{first}}}") != free.answer(rf"\boxed{{{second}}}")


def test_the_relative_grader_takes_near_values_and_percent_forms():
    grader = Grader(pattern=None, timeout_s=5, rule="relative")
    judged = [
        grader.judge(gold, rf"\boxed{{{answer}}}").correct
        for gold, answer in (("0.28", "28"), ("28", "0.28"), ("1.0", "1.00009"), ("1.0", "1.0002"))
    ]
    grader.close()
    assert judged == [True, True, True, False]


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        ("2516_8", "2516_7", False),
        (r"7 \text{ or more}", "7", False),
        ("12", "1 2", False),
        ("10", "4 10/3", False),
        (r"3\text{ PM}", r"3\text{ AM}", False),
        (r"5\text{ m}", r"5\text{ cm}", True),  # the benchmarks' own grader drops units
        ("4.5e33", "4.5001e33", True),
        ("0", "0.0000001", False),
        (r"\pi", "3.1416", True),
        (r"\pi", "3.14", False),
    ],
)
def test_the_relative_grader_is_lenient_with_values_alone(gold, answer, correct):
    grader = Grader(pattern=None, timeout_s=5, rule="relative")
    judged = grader.judge(gold, rf"\boxed{{{answer}}}").correct
    grader.close()
    assert judged is correct


def test_hostile_answers_are_bounded_in_sum():
    grader = Grader(pattern=None, timeout_s=2)
    grader.begin()
    hostile = [rf"\boxed{{(x+y+z+w+v+{k})^{{99999}} = (a+b)^{{99999}}}}" for k in range(24)]
    start = perf_counter()
    assert not any(grader.judge("(a+b)^{99998}", text).correct for text in hostile)
    in_sum = perf_counter() - start
    grader.begin()
    assert grader.judge("x+1", r"\boxed{1+x}").correct, "patience is counted anew in the next step"
    grader.close()
    assert in_sum < 60 + 2 * PATIENCE


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the benchmarks' files are not at hand")
def test_respellings_of_real_golds_are_told_from_other_values(free):
    wrong = []
    for number, (benchmark, item, gold) in enumerate(golds(SHARED_DATA)):
        if number % 29:
            continue
        for kinds, right in ((KINDS, True), (WRONG_KINDS, False)):
            for kind, spell in kinds.items():
                answer = spell(gold)
                if answer is not None and free.judge(gold, rf"\boxed{{{answer}}}").correct is not right:
                    wrong.append((benchmark, item, kind, gold, answer))
    assert not wrong


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the benchmarks' files are not at hand")
def test_the_one_damaged_gold_is_found(free):
    rows = (SHARED_DATA / "olympiadbench.jsonl").read_text().splitlines()
    damaged, sound = (json.loads(rows[i])[FIELDS["olympiadbench"]][0] for i in (194, 0))
    assert free.reads(sound)
    assert not free.reads(damaged)


def test_whole_numbers_are_compared_by_value_as_reading_them_would_find():
    plain, draw = Grader(pattern=None, timeout_s=5), random.Random(0)
    numbers = [str(draw.randrange(10 ** draw.randrange(1, 10))) for _ in range(150)]
    pairs = [(a, draw.choice([a, f"0{a}", a[:-1] or "0", f"{a}0", draw.choice(numbers)])) for a in numbers]
    for gold, answer in pairs:
        by_reading = equal_numbers(normalise(gold), normalise(answer))
        judged = plain.judge(gold, rf"\boxed{{{answer}}}").correct
        assert judged == by_reading == (int(gold) == int(answer))


def test_the_relative_grader_still_takes_percent_forms_of_whole_numbers():
    assert Grader(pattern=None, timeout_s=5, rule="relative").judge("50", r"\boxed{5000}").correct
