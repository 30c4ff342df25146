from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.evaluation.answer_numbers import based_number, exact_number, significant_digits
from trainers.evaluation.answer_text import is_hostile, last_box, normalise, without_assignment


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"first \boxed{5}, then \boxed{7}", "7"),
        (r"\boxed {7}", "7"),
        (r"\boxed 7", "7"),
        (r"\fbox{3}", "3"),
        (r"\boxed{\frac{1}{2}} and a torn \boxed{3", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        ("no box", None),
        (r"\boxed{never closed", None),
    ],
)
def test_the_last_closed_box_is_cut_out_by_its_braces(text, box):
    assert last_box(text) == box


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("4.5e33", r"4.5 \times 10^{33}"),
        (r"\$36", "36"),
        ("$36$", "36"),
        (r"13\,535", "13535"),
        ("13{,}535", "13535"),
        ("13,535", "13535"),
        (r"28\%", "28"),
        ("30°", "30"),
        (r"30^{\circ}", "30"),
        ("７２", "72"),
        ("7.", "7"),
        (r"5\text{ cm}^{2}", "5"),
        (r"6.5 \mathrm{~m}", "6.5"),
        ("36 dollars", "36"),
        (r"4.5 \times 10^{33} \mathrm{~erg/s}", r"4.5 \times 10^{33}"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"4 \text{ or } 5", r"4 \text{ or } 5"),
        ("5 x", "5 x"),
        ("100, 200", "100, 200"),
        ("(1,200)", "(1,200)"),
    ],
)
def test_an_answer_has_one_form(text, form):
    assert normalise(text) == form


@given(st.text(max_size=60))
def test_space_around_an_answer_means_nothing(text):
    assert normalise(f"  {text} ") == normalise(text)


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_decimals_are_read_exactly(digits, places):
    value = Fraction(digits, 10**places)
    text = f"{digits / 10**places:.{places}f}" if places else str(digits)
    if Fraction(text) == value:
        assert exact_number(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4 1/2", Fraction(9, 2)),
        (r"4\frac{1}{2}", Fraction(9, 2)),
        ("4 10/3", None),
        (r"-\frac{3}{4}", Fraction(-3, 4)),
        (r"\frac12", Fraction(1, 2)),
        ("10^3", Fraction(1000)),
        (r"1 \times 10^{-5}", Fraction(1, 100_000)),
        ("1/0", None),
        ("2x", None),
    ],
)
def test_numbers_as_written(text, value):
    assert exact_number(text) == value


def test_a_base_is_part_of_a_number():
    assert based_number("2516_8") == based_number(r"2516_{\text{eight}}") == ("2516", "8")
    assert based_number("2516_7") != based_number("2516_8")
    assert based_number("2516") is None


def test_significant_digits_leave_leading_zeros_apart():
    assert significant_digits("0.00123") == 3
    assert significant_digits("1/3") is None


def test_an_assignment_is_the_value_it_assigns():
    assert without_assignment("x = 7") == "7"
    assert without_assignment("x + y = 7") == "x + y = 7"


def test_towers_of_powers_are_hostile():
    assert is_hostile("9^{9^{9^{9}}}")
    assert not is_hostile("x^2 + y^{10}")
