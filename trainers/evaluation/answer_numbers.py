r"""Normalised answers that are one number as written. Pure.

* Decimals, powers of ten, fractions, mixed numbers and periods have an exact value; ``4 10/3`` has none.
* ``2516_8`` is text: it equals the same digits with the same base and nothing else.
"""

from __future__ import annotations

import re
from fractions import Fraction

_BASE = re.compile(r"([0-9A-Za-z]+)\s*_\s*\{?\s*(?:\\text\s*\{)?\s*(\w+?)\s*\}{0,2}")
_BASE_WORDS = {
    word: str(number)
    for number, word in enumerate(
        [
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
        ],
        2,
    )
}
_DECIMAL = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"(?P<mantissa>{_DECIMAL})(?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{{?\s*(?P<exponent>[-+]?\d{{1,4}})\s*\}}?)?"
)
_POWER_OF_TEN = re.compile(r"(?P<sign>[-+]?)10\s*\^\s*\{?\s*(?P<exponent>[-+]?\d{1,4})\s*\}?")
_FRACTION = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:\\frac\s*(?:\{{\s*(?P<n1>{_DECIMAL})\s*\}}|(?P<n2>\d))\s*"
    rf"(?:\{{\s*(?P<d1>{_DECIMAL})\s*\}}|(?P<d2>\d))|(?P<n3>\d+)\s*/\s*(?P<d3>\d+))"
)
_REPEATING = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>\d*)\.(?P<fixed>\d*)\\(?:overline|bar|dot)\s*(?:\{(?P<period>\d+)\}|(?P<digit>\d))"
)
_MIXED = re.compile(
    r"(?P<sign>-?)(?P<whole>\d+)(?:\s+(?P<n1>\d+)\s*/\s*(?P<d1>\d+)|\s*\\frac\{(?P<n2>\d+)\}\{(?P<d2>\d+)\})"
)


def based_number(text: str) -> tuple[str, str] | None:
    """Digits and base of a number that names its base, such as ``2516_8``; ``None`` for any other text."""
    match = _BASE.fullmatch(text.strip())
    if match is None or not match[1][:1].isdigit():
        return None
    base = _BASE_WORDS.get(match[2].lower(), match[2])
    return (match[1].lstrip("0") or "0", base) if base.isdigit() else None


def exact_number(text: str) -> Fraction | None:
    """The value of a text that is one number as written: a decimal, a power of ten, a fraction, a mixed
    number.
    """
    text = text.strip()
    if match := _NUMBER.fullmatch(text):
        return Fraction(match["mantissa"]) * Fraction(10) ** int(match["exponent"] or 0)
    if match := _POWER_OF_TEN.fullmatch(text):
        return Fraction(f"{match['sign']}1") * Fraction(10) ** int(match["exponent"])
    if match := _FRACTION.fullmatch(text):
        top, bottom = (match[f"{side}1"] or match[f"{side}2"] or match[f"{side}3"] for side in "nd")
        return Fraction(f"{match['sign']}1") * Fraction(top) / Fraction(bottom) if Fraction(bottom) else None
    if match := _REPEATING.fullmatch(text):
        period, scale = match["period"] or match["digit"], 10 ** len(match["fixed"])
        whole = Fraction(int((match["whole"] or "0") + match["fixed"]), scale)
        return Fraction(f"{match['sign']}1") * (
            whole + Fraction(int(period), (10 ** len(period) - 1) * scale)
        )
    if match := _MIXED.fullmatch(text):
        top, bottom = int(match["n1"] or match["n2"]), int(match["d1"] or match["d2"])
        return (
            Fraction(f"{match['sign']}1") * (int(match["whole"]) + Fraction(top, bottom))
            if top < bottom
            else None
        )
    return None


def is_improper_mixed(text: str) -> bool:
    """Whether a text looks like a mixed number and is none, such as ``4 10/3``: it has no value."""
    return bool(_MIXED.fullmatch(text.strip())) and exact_number(text) is None


def significant_digits(text: str) -> int | None:
    """Digits that a decimal shows, leading zeros apart; ``None`` for a text that is no decimal."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or "." not in match["mantissa"]:
        return None
    return len(match["mantissa"].lstrip("+-").replace(".", "").lstrip("0"))
