r"""Normalised answers spelt so that math-verify reads what is written. Pure.

Without these rules it reads, all measured:

* ``2(3)`` and ``3\binom{4}{2}`` as mixed numbers, 2 + 3 and 3 + 6;
* ``x + 2m`` and ``v = 2t`` as ``x + 2`` and ``v = 2``: a last letter after a number as a unit;
* ``\gamma`` as a constant, ``\gamma^{2} - 1`` as infinite, ``I^2`` as the imaginary unit;
* ``\frac{dx}{dt}`` as the derivative of a constant, 0, and ``f'`` as ``f``;
* ``\angle ABC`` as a product of four letters, and
* ``G M m`` as ``g m²``: capitals as small letters.
"""

from __future__ import annotations

import re

_LETTER = re.compile(
    r"(?P<skipped>\\(?:text|mathrm|mbox|operatorname|tilde)\s*\{[^{}]*\}|\\[A-Za-z]+|\\.|_\s*(?:\{[^{}]*\}|\w))"
    r"|(?P<letter>[A-Za-z])"
)
_GAMMA = re.compile(r"\\gamma(?![A-Za-z])|\\Gamma(?![A-Za-z])(?!\s*\()")
_PRIMED = re.compile(r"(?P<name>(?<![\\A-Za-z])[A-Za-z])(?P<primes>'+|\^\s*\{?\s*(?:\\prime\s*)+\}?)")
_VARIABLE = r"(?:\\?[A-Za-z]+)"
_DERIVATIVE = re.compile(
    rf"\\frac\s*\{{\s*(?:d|\\partial)\s*(?P<order>\^\s*\{{?\d\}}?)?\s*(?P<of>{_VARIABLE})\s*\}}\s*"
    rf"\{{\s*(?:d|\\partial)\s*(?P<by>{_VARIABLE})\s*(?:\^\s*\{{?\d\}}?)?\s*\}}"
    r"|(?<![\\A-Za-z])d(?P<of1>[A-Za-z])\s*/\s*d(?P<by1>[A-Za-z])(?![A-Za-z])"
)
_SIDE_BY_SIDE = re.compile(
    r"(?:(?<![\w^_.\\{])(?P<number>\d+)|(?<=[)}])|(?<=[)}]\s))\s*"
    r"(?=\(\s*[-+]?\d+\s*\)|\\(?:binom|gcd|lcm)(?![A-Za-z]))"
)
"""A number or a closed bracket right before a number in brackets or a command that is one: a product."""
_POINTS = re.compile(r"\\(?P<what>angle|triangle)\s*(?P<points>[A-Z]{2,})(?![A-Za-z])")
_UNITS = re.compile(
    r"(?P<answer>.*[^\s,]\s*?)(?:\s*\\(?:text|mathrm|mbox)\s*\{[^{}]*\}(?:\^\s*\{?\d\}?)?)+\s*"
)


def clashing_letters(*texts: str) -> frozenset[str]:
    """Letters that one of some texts has both as a capital and as a small letter: two variables there."""
    found = set()
    for text in texts:
        letters = {match["letter"] for match in _LETTER.finditer(text) if match["letter"]}
        found |= {letter for letter in letters if letter.isupper() and letter.lower() in letters}
    return frozenset(found)


def for_parser(text: str, apart: frozenset[str] = frozenset()) -> str:
    """A normalised answer as math-verify is to be given it.

    Args:
        apart: capitals that are other variables than their small letters, see :func:`clashing_letters`.
    """
    text = _DERIVATIVE.sub(_derivative, text)
    text = _PRIMED.sub(lambda match: rf"\tilde{{{match['name']}{'p' * _primes(match['primes'])}}}", text)
    text = _POINTS.sub(lambda match: rf"\tilde{{{match['what']}{match['points']}}}", text)
    text = _GAMMA.sub(lambda match: rf"\tilde{{{match[0]}}}", text)
    text = _SIDE_BY_SIDE.sub(lambda match: rf"{match['number'] or ''}\cdot ", text)
    if units := _UNITS.fullmatch(text):
        text = units["answer"].rstrip()
    capitals = apart | {"I"}

    def letter(match: re.Match[str]) -> str:
        return rf"\tilde{{{match[0].lower()}}}" if match["letter"] in capitals else match[0]

    return _LETTER.sub(letter, text)


def _derivative(match: re.Match[str]) -> str:
    order = re.sub(r"\D", "", match["order"] or "")
    of, by = match["of"] or match["of1"], match["by"] or match["by1"]
    return rf"\tilde{{d}}_{{{order}{of} {by}}}"


def _primes(marks: str) -> int:
    return marks.count("'") + marks.count("prime")
