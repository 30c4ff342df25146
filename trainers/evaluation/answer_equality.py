"""Whether two answers are equal, and how an answer is spelt so that equal answers are equal texts.

Numbers written as such are compared exactly, here. Everything else is read and compared by the math-verify
library (sympy below it); two numbers that it reads are compared relative to their size, for it rounds to six
decimals, where 2⁻⁹⁸ and 2⁻⁹⁹ are both 0.

**A rounded decimal** equals the exact number that rounds to it if it shows at least
:data:`ROUNDED_DIGITS` significant digits: ``0.333333`` is 1/3, ``0.33`` is not.
"""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

from trainers.evaluation.answer_text import (
    based_number,
    exact_number,
    is_compound,
    is_hostile,
    is_improper_mixed,
    says_more,
    significant_digits,
    without_assignment,
)

ROUNDED_DIGITS = 6
"""Significant digits from which on a decimal may stand for an exact number."""

EQUAL_RELATIVE = 1e-12
"""Relative difference below which two expressions without decimals have one value: sympy's 30 digits are
accurate to far more, different closed forms in benchmarks differ by far more.
"""

CLOSE_RELATIVE = 1e-4
"""The ``relative`` grader's tolerance, that of the benchmarks' own grader (Qwen2.5-Math ``math_equal``)."""

WORD = 4
"""Letters from which on letters are a word, whose capitals say nothing, and no product of variables."""

DIGITS = 30
"""Digits to which sympy evaluates."""


def equal_numbers(gold: str, answer: str) -> bool | None:
    """Whether two normalised answers are equal, where that can be told without reading mathematics.

    Returns:
        ``None`` where it cannot.
    """
    if gold.replace(" ", "") == answer.replace(" ", ""):
        return True
    if (base := based_number(gold)) or based_number(answer):
        return base == based_number(answer)
    if is_improper_mixed(answer) or is_hostile(answer) or is_compound(gold) != is_compound(answer):
        return False
    if says_more(gold) != says_more(answer):
        return False
    if gold.isalpha() and answer.isalpha() and len(gold) > 1:
        if gold.isupper() and answer.isupper():
            return gold == answer  # names of points, not products
        if gold.casefold() == answer.casefold() and len(gold) >= WORD:
            return True
    of_gold, of_answer = exact_number(gold), exact_number(without_assignment(answer))
    if of_gold is None or of_answer is None:
        return None
    return of_gold == of_answer or any(
        _rounds_to(exact, decimal, significant_digits(text))
        for exact, decimal, text in ((of_gold, of_answer, answer), (of_answer, of_gold, gold))
    )


def close_numbers(gold: str, answer: str) -> bool | None:
    """The ``relative`` grader's rule for two normalised answers that are numbers: within
    :data:`CLOSE_RELATIVE`, percent forms (a hundredth, a hundredfold of the gold) included.

    Source: ``math_equal`` of QwenLM/Qwen2.5-Math, evaluation/grader.py.

    Returns:
        ``None`` where one of them is no number.
    """
    of_gold, of_answer = value_of(gold), value_of(without_assignment(answer))
    if of_gold is None or of_answer is None:
        return None
    forms = (of_gold, of_gold / 100, of_gold * 100)
    return any(abs(of_answer - form) <= CLOSE_RELATIVE * abs(form) for form in forms)


def value_of(text: str) -> Fraction | None:
    """The value of a number as written, or of an expression without variables, to :data:`DIGITS` digits."""
    if (exact := exact_number(text)) is not None:
        return exact
    number = _number(_read(text))
    if number is None or not number.is_real:
        return None
    return Fraction(str(number.evalf(DIGITS)))


def equal_by_reading(gold: str, answer: str) -> bool:
    """Whether two normalised answers are equal as mathematics; may take for ever on a hostile answer."""
    from math_verify import verify

    of_gold, of_answer = _read(gold), _read(answer)
    numbers = _number(of_gold), _number(_read(without_assignment(answer)))
    if numbers[0] is not None and numbers[1] is not None:
        return _equal_values(*numbers, digits=significant_digits(answer) or significant_digits(gold))
    return bool(of_gold and of_answer and verify(of_gold, of_answer, timeout_seconds=None))


def equal_in_prose(gold: str, completion: str) -> bool:
    """Whether the answer that math-verify finds in a text without a box is the gold one."""
    from math_verify import parse, verify

    _quiet()
    answer = parse(completion, parsing_timeout=None)
    numbers = _number(_read(gold)), _number(answer)
    if numbers[0] is not None and numbers[1] is not None:
        return _equal_values(*numbers, digits=None)
    return bool(answer and verify(_read(gold), answer, timeout_seconds=None))


def spelling(answer: str) -> str | None:
    """A normalised answer spelt so that equal answers are equal texts; ``None`` if it is no mathematics."""
    if based := based_number(answer):
        return "_".join(based)
    if is_improper_mixed(answer) or is_hostile(answer) or is_compound(answer) or says_more(answer):
        return None
    if answer.isalpha() and len(answer) > 1 and (answer.isupper() or len(answer) >= WORD):
        return answer if answer.isupper() else answer.casefold()
    answer = without_assignment(answer)
    if (exact := exact_number(answer)) is not None:
        return str(exact)
    parsed = _read(answer)
    return str(_simplified(parsed[0])) if parsed else None


def prose_spelling(completion: str) -> str | None:
    """The spelling of the answer that math-verify finds in a text without a box."""
    from math_verify import parse

    _quiet()
    parsed = parse(completion, parsing_timeout=None)
    return str(_simplified(parsed[0])) if parsed else None


def _rounds_to(exact: Fraction, decimal: Fraction, digits: int | None) -> bool:
    """Whether a decimal that shows so many significant digits is a number without an end, rounded."""
    if digits is None or digits < ROUNDED_DIGITS or not decimal or not _never_ends(exact):
        return False
    magnitude = math.floor(math.log10(abs(decimal.numerator)) - math.log10(decimal.denominator))
    return abs(exact - decimal) <= Fraction(10) ** (magnitude - digits + 1) / 2


def _never_ends(number: Fraction) -> bool:
    """Whether a fraction's decimals never end: its denominator has a prime other than 2 and 5."""
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest > 1


def _equal_values(gold: Any, answer: Any, *, digits: int | None) -> bool:
    """Whether two sympy numbers are equal.

    Args:
        digits: significant digits of the one that is a decimal as written, if either is.
    """
    from sympy import Float, Rational

    if isinstance(gold, Rational) and isinstance(answer, Rational):
        return bool(gold == answer)
    of_gold, of_answer = gold.evalf(DIGITS), answer.evalf(DIGITS)
    relative = EQUAL_RELATIVE
    if gold.has(Float) != answer.has(Float):  # one is exact, the other may be it, rounded
        if digits is not None and digits < ROUNDED_DIGITS:
            return False
        if digits is not None:
            size = math.floor(math.log10(abs(of_answer))) if of_answer else 0
            return bool(abs(of_gold - of_answer) <= 0.5 * 10.0 ** (size - digits + 1))
        relative = 0.5 * 10 ** (1 - ROUNDED_DIGITS)
    return bool(abs(of_gold - of_answer) <= relative * max(abs(of_gold), abs(of_answer)))


def _number(parsed: list) -> Any:
    """The number that was read, evaluated as far as it goes exactly; ``None`` if it is none."""
    from sympy import Basic

    if not parsed or not isinstance(parsed[0], Basic):
        return None
    value = parsed[0]
    if getattr(value, "is_number", False) and not value.free_symbols:
        value = value.doit()
        return value if value.is_finite else None
    return None


def _simplified(value: Any) -> Any:
    """One form for equal expressions: evaluated, simplified, roots out of denominators."""
    from sympy import Basic, Equality, Float, Rational, Symbol, nsimplify, radsimp, simplify

    if not isinstance(value, Basic):
        return value
    if isinstance(value, Equality) and isinstance(value.lhs, Symbol):
        value = value.rhs
    value = value.doit()
    if value.has(Float):
        value = value.xreplace({f: Rational(str(f)) for f in value.atoms(Float)})
    simple = simplify(value)
    return radsimp(simple) if getattr(simple, "is_number", False) else nsimplify(simple, rational=True)


@lru_cache(maxsize=100_000)
def _read(text: str) -> list:
    """What math-verify reads in a normalised answer; empty if nothing."""
    from math_verify import LatexExtractionConfig, parse

    _quiet()
    parsed = parse(f"${text}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)
    return parsed or parse(text, parsing_timeout=None)


@lru_cache(maxsize=1)
def _quiet() -> None:
    """math-verify warns on every call that its timer is off; the helper process is the timer."""
    for name in ("math_verify", "math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
