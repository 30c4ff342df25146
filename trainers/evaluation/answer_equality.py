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
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from trainers.evaluation.answer_latex import clashing_letters, for_parser
from trainers.evaluation.answer_numbers import (
    based_number,
    exact_number,
    is_improper_mixed,
    significant_digits,
)
from trainers.evaluation.answer_parts import Parts, parts_of
from trainers.evaluation.answer_text import (
    is_compound,
    is_date,
    is_hostile,
    is_phrase,
    runs_numbers_together,
    says_more,
    without_assignment,
    word_of,
    words_of,
)

ROUNDED_DIGITS = 6
"""Significant digits from which on a decimal may stand for an exact number."""

EQUAL_RELATIVE = 1e-12
"""Relative difference below which two expressions without decimals have one value: sympy's 30 digits are
accurate to far more, different closed forms in benchmarks differ by far more.
"""

CLOSE_RELATIVE = 1e-4
"""The ``relative`` grader's tolerance, that of the benchmarks' own grader (Qwen2.5-Math ``math_equal``)."""

DIGITS = 30
"""Digits to which sympy evaluates."""


def equal_numbers(gold: str, answer: str) -> bool | None:
    """Whether two normalised answers are equal, where that can be told without reading mathematics.

    Returns:
        ``None`` where it cannot.
    """
    if _closed_up(gold) == _closed_up(answer):
        return True
    if any(test(text) for test in (runs_numbers_together, is_date) for text in (gold, answer)):
        return False
    if (base := based_number(gold)) or based_number(answer):
        return base == based_number(answer)
    if is_improper_mixed(answer) or is_hostile(answer) or is_compound(gold) != is_compound(answer):
        return False
    if says_more(gold) or says_more(answer):
        return words_of(gold) == words_of(answer)
    if (same := _equal_letters(gold, answer)) is not None:
        return same
    of_gold, of_answer = exact_number(gold), exact_number(without_assignment(answer))
    if of_gold is None or of_answer is None:
        return None
    return of_gold == of_answer or any(
        _rounds_to(exact, decimal, significant_digits(text))
        for exact, decimal, text in ((of_gold, of_answer, answer), (of_answer, of_gold, gold))
    )


def _equal_letters(gold: str, answer: str) -> bool | None:
    """Whether two answers of nothing but letters are equal; ``None`` where one may be a product."""
    if is_phrase(gold) and is_phrase(answer):
        return words_of(gold) == words_of(answer)
    words = word_of(gold), word_of(answer)
    letters = words[0] or gold, words[1] or answer
    if not all(text.isalpha() and text.isascii() for text in letters):
        return None
    if letters[0].casefold() == letters[1].casefold() and any(words):
        return letters[0] == letters[1] or not (letters[0].isupper() and letters[1].isupper())
    are_points = len(letters[0]) > 1 and letters[0].isupper() and letters[1].isupper()
    return letters[0] == letters[1] if are_points or any(words) else None


def _closed_up(text: str) -> str:
    """A text without the spaces that say nothing: all but those between two digits."""
    return re.sub(r"(?<!\d) +| +(?!\d)", "", text)


def close_numbers(gold: str, answer: str) -> bool | None:
    """The ``relative`` grader's rule for two normalised answers that are numbers: within
    :data:`CLOSE_RELATIVE`, percent forms (a hundredth, a hundredfold of the gold) included.

    Source: ``math_equal`` of QwenLM/Qwen2.5-Math, evaluation/grader.py.

    Returns:
        ``None`` where one of them is no number.
    """
    no_numbers = (is_improper_mixed, is_compound, says_more, runs_numbers_together, is_date, based_number)
    if any(test(text) for test in no_numbers for text in (gold, answer)):
        return None
    of_gold, of_answer = value_of(gold), value_of(without_assignment(answer))
    if of_gold is None or of_answer is None:
        return None
    forms = (of_gold, of_gold / 100, of_gold * 100)
    return any(abs(of_answer - form) <= CLOSE_RELATIVE * abs(form) for form in forms)


def value_of(text: str) -> Fraction | None:
    """The value of a number as written, or of an expression without variables, to :data:`DIGITS` digits."""
    if (exact := exact_number(text)) is not None:
        return exact
    number = _number(read(text))
    if number is None or not number.is_real:
        return None
    return Fraction(str(number.evalf(DIGITS)))


def equal_by_reading(gold: str, answer: str) -> bool:
    """Whether two normalised answers are equal as mathematics; may take for ever on a hostile answer."""
    from math_verify import verify

    apart = clashing_letters(gold, answer)
    of_gold, of_answer = read(gold, apart), read(answer, apart)
    numbers = _number(of_gold), _number(read(without_assignment(answer), apart))
    if numbers[0] is not None and numbers[1] is not None:
        return _equal_values(*numbers, digits=significant_digits(answer) or significant_digits(gold))
    if not (of_gold and of_answer and verify(of_gold, of_answer, timeout_seconds=None)):
        return False
    parts = parts_of(gold), parts_of(answer)
    if parts[0] is not None and parts[1] is not None:
        return _equal_parts(parts[0], parts[1])
    return parts[0] is parts[1] or exact_number(answer if parts[1] is None else gold) is None


def _equal_parts(gold: Parts, answer: Parts) -> bool:
    """Whether the parts of two lists are equal one by one, as math-verify, which takes ``{1, 2}`` for
    ``(1, 2)`` and rounds what stands in lists to six decimals, need not have asked.
    """
    if gold.is_set != answer.is_set and gold.brackets and answer.brackets:
        return False
    if gold.goes_on != answer.goes_on:
        return False
    pairs = list(zip(gold.parts, answer.parts, strict=False))
    if not gold.is_set and len(gold.parts) != len(answer.parts):
        return False
    if gold.is_ordered_with(answer):
        return all(_equal_part(*pair) for pair in pairs)
    return all(any(_equal_part(g, a) for a in answer.parts) for g in gold.parts) and all(
        any(_equal_part(g, a) for g in gold.parts) for a in answer.parts
    )


def _equal_part(gold: str, answer: str) -> bool:
    gold, answer = without_assignment(gold), without_assignment(answer)
    equal = equal_numbers(gold, answer)
    return equal_by_reading(gold, answer) if equal is None else equal


def equal_in_prose(gold: str, completion: str) -> bool:
    """Whether the answer that math-verify finds in a text without a box is the gold one."""
    from math_verify import parse, verify

    quiet()
    answer = parse(completion.replace(r"\$", ""), parsing_timeout=None)
    numbers = _number(read(gold)), _number(answer)
    if numbers[0] is not None and numbers[1] is not None:
        return _equal_values(*numbers, digits=None)
    return bool(answer and verify(read(gold), answer, timeout_seconds=None))


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
    of_gold, of_answer = as_written(gold).evalf(DIGITS), as_written(answer).evalf(DIGITS)
    relative = EQUAL_RELATIVE
    if abs(of_gold - of_answer) <= relative * max(abs(of_gold), abs(of_answer)):
        return True
    if gold.has(Float) != answer.has(Float):  # one is exact, the other may be it, rounded
        if digits is not None and digits < ROUNDED_DIGITS:
            return False
        if digits is not None:
            size = math.floor(math.log10(abs(of_answer))) if of_answer else 0
            return bool(abs(of_gold - of_answer) <= 0.5 * 10.0 ** (size - digits + 1))
        relative = 0.5 * 10 ** (1 - ROUNDED_DIGITS)
    return bool(abs(of_gold - of_answer) <= relative * max(abs(of_gold), abs(of_answer)))


def _number(parsed: list) -> Any:
    """The number that was read, evaluated as far as it goes exactly; ``None`` if it is none.

    An ``i`` that is the only letter is the imaginary unit.
    """
    from sympy import Basic, I

    if not parsed or not isinstance(parsed[0], Basic):
        return None
    value = parsed[0]
    if {str(symbol) for symbol in getattr(value, "free_symbols", ())} == {"i"}:
        value = value.xreplace(dict.fromkeys(value.free_symbols, I))
    if getattr(value, "is_number", False) and not value.free_symbols:
        value = value.doit()
        return value if value.is_finite else None
    return None


def as_written(value: Any) -> Any:
    """A sympy expression with its decimals exactly as they were written."""
    from sympy import Float, Rational

    return value.xreplace({f: Rational(str(f)) for f in value.atoms(Float)}) if value.has(Float) else value


@lru_cache(maxsize=100_000)
def read(text: str, apart: frozenset[str] = frozenset()) -> list:
    """What math-verify reads in a normalised answer; empty if nothing."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    quiet()
    # Without its removal of units: it takes the last variable of `x + 2m` for one.
    latex = LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all"
        )
    )
    text = for_parser(text, apart)
    parsed = parse(f"${text}$", extraction_config=[latex], parsing_timeout=None)
    return parsed or parse(text, extraction_config=[latex, ExprExtractionConfig()], parsing_timeout=None)


@lru_cache(maxsize=1)
def quiet() -> None:
    """math-verify warns on every call that its timer is off; the helper process is the timer."""
    for name in ("math_verify", "math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
