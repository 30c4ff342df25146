"""How an answer is spelt so that equal answers are equal texts: what majorities count."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from trainers.evaluation.answer_equality import as_written, quiet, read
from trainers.evaluation.answer_latex import clashing_letters
from trainers.evaluation.answer_numbers import based_number, exact_number, is_improper_mixed
from trainers.evaluation.answer_text import (
    is_compound,
    is_date,
    is_hostile,
    is_phrase,
    runs_numbers_together,
    says_more,
    without_assignment,
    word_of,
)

_TEXTS = (is_improper_mixed, is_hostile, is_compound, says_more, runs_numbers_together, is_date, is_phrase)
"""What is no mathematics, though it may be read as such."""


def spelling(answer: str) -> str | None:
    """A normalised answer spelt so that equal answers are equal texts; ``None`` if it is no mathematics."""
    if based := based_number(answer):
        return "_".join(based)
    if any(test(answer) for test in _TEXTS):
        return None
    word = word_of(answer) or (answer if answer.isalpha() and answer.isupper() and len(answer) > 1 else None)
    if word:
        return word if word.isupper() else word.casefold()
    answer = without_assignment(answer)
    if (exact := exact_number(answer)) is not None:
        return str(exact)
    parsed = read(answer, clashing_letters(answer))
    spelt = str(_simplified(parsed[0])) if parsed else None
    return None if spelt and re.search(r"\b(?:zoo|nan|True|False)\b", spelt) else spelt


def prose_spelling(completion: str) -> str | None:
    """The spelling of the answer that math-verify finds in a text without a box."""
    from math_verify import parse

    quiet()
    parsed = parse(completion.replace(r"\$", ""), parsing_timeout=None)
    return str(_simplified(parsed[0])) if parsed else None


def _simplified(value: Any) -> Any:
    """One form for equal expressions: evaluated, simplified, roots out of denominators."""
    from sympy import (
        Basic,
        Equality,
        Expr,
        I,
        PolynomialError,
        Symbol,
        cancel,
        expand,
        nsimplify,
        radsimp,
        simplify,
    )

    if not isinstance(value, Basic):
        return value
    if isinstance(value, Equality):
        if not isinstance(value.lhs, Symbol) or isinstance(value.rhs, Symbol):
            return _one_sided(value)
        value = value.rhs
    if {str(symbol) for symbol in value.free_symbols} == {"i"}:
        value = value.xreplace(dict.fromkeys(value.free_symbols, I))
    simple = simplify(as_written(value.doit()))
    if getattr(simple, "is_number", False):
        return radsimp(expand(simple))
    if isinstance(simple, Expr):
        with suppress(PolynomialError):
            simple = cancel(simple)  # factored and expanded become one
    return nsimplify(simple, rational=True)


def _one_sided(equation: Any) -> str:
    """An equation with everything on its left side, without common factors, the first sign a plus."""
    from sympy import expand, fraction, together

    left = expand(fraction(together(as_written(equation.lhs.doit() - equation.rhs.doit())))[0])
    _, left = left.primitive()
    return f"Eq({min(str(left), str(expand(-left)), key=lambda text: (text.startswith('-'), text))}, 0)"
