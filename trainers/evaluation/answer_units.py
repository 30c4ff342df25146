r"""Units that two answers name. Pure.

Nothing is converted. An answer without a unit may have any; two units that are both known must be the same:
``5 \text{ cm}`` is not 5 m, ``10 \text{ a.m.}`` is not 10 p.m. A unit that is not in :data:`NAMES` says
nothing.
"""

from __future__ import annotations

import re
import unicodedata

_MOMENTS = (
    *("am", "pm", "january", "february", "march", "april", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
NAMES = {
    "metre": "m meter meters metre metres",
    "centimetre": "cm centimeter centimeters centimetre centimetres",
    "millimetre": "mm millimeter millimeters millimetre millimetres",
    "kilometre": "km kilometer kilometers kilometre kilometres",
    "inch": "in inch inches",
    "foot": "ft foot feet",
    "yard": "yd yard yards",
    "mile": "mi mile miles",
    "gram": "g gram grams",
    "kilogram": "kg kilogram kilograms",
    "milligram": "mg milligram milligrams",
    "ounce": "oz ounce ounces",
    "litre": "l liter liters litre litres",
    "millilitre": "ml milliliter milliliters millilitre millilitres",
    "second": "s sec secs second seconds",
    "minute": "min mins minute minutes",
    "hour": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "yr yrs year years",
    "dollar": "dollar dollars usd",
    "cent": "cent cents",
    "euro": "euro euros eur",
    "percent": "percent",
    "degree": "degree degrees deg",
    "radian": "rad radian radians",
    "celsius": "celsius",
    "fahrenheit": "fahrenheit",
    "kelvin": "kelvin",
    **{moment: moment for moment in _MOMENTS},
}
"""Each unit and how it is written. Names with a second meaning in answers (pound, May) are left out."""

_UNIT_OF_WORD = {word: unit for unit, words in NAMES.items() for word in words.split()}
_TEMPERATURES = frozenset(("celsius", "fahrenheit"))
_COMMANDS = re.compile(
    r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf|operatorname)(?![A-Za-z])|[{}~$]|\\[,;:! ]"
)
_SIGNS = (
    (re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![A-Za-z])|°"), " degree "),
    (re.compile(r"\\?%"), " percent "),
    (re.compile(r"(?i)\b([ap])\.\s?m\b\.?"), r" \1m "),
    (re.compile(r"(?i)\bmph\b"), " mile / hour "),
    (re.compile(r"(?i)\bkmph\b|\bkph\b"), " km / hour "),
    (re.compile(r"\bdegrees?\s+C\b"), " celsius "),
    (re.compile(r"\bdegrees?\s+F\b"), " fahrenheit "),
)
_TAIL = re.compile(r".*?[\d)](?P<unit>(?:[A-Za-z\s/*·.]|\^\s*-?\d)*)")
"""A number and, behind it, nothing but what units are written with."""
_FACTOR = re.compile(r"(?P<over>/)|(?P<word>[A-Za-z]+)|\^\s*(?P<power>-?\d)|(?P<other>\S)")
_DIMENSIONS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cubed": 3}


def contradict(first: str, second: str) -> bool:
    """Whether two answers name known units that are not the same."""
    units = unit_of(first), unit_of(second)
    if units[0] is None or units[1] is None or units[0] == units[1]:
        return False
    names = {name for unit in units for name, _ in unit or ()}
    return not ("degree" in names and names & _TEMPERATURES)  # `30°` may be of either scale


def moment_of(text: str) -> str | None:
    """``am``, ``pm`` or the month behind a number, which say which one is meant."""
    unit = unit_of(text)
    return unit[0][0] if unit and unit[0][0] in _MOMENTS else None


def unit_of(text: str) -> tuple[tuple[str, int], ...] | None:
    r"""The unit behind (or, of money, before) a number, as its factors and their powers; ``None`` where none
    is named, or one that is not known.
    """
    text = unicodedata.normalize("NFKC", text.replace("°", r"^\circ ")).strip().rstrip(".")
    money = re.match(r"\\?\$\s*[\d.,]+$|[€]\s*[\d.,]+$", text)
    if money and (text.startswith("\\$") or text.count("$") == 1 or "€" in text):
        return ((_UNIT_OF_WORD["eur" if "€" in text else "usd"], 1),)
    text = _COMMANDS.sub(" ", _SIGNS[0][0].sub(_SIGNS[0][1], text))
    for pattern, word in _SIGNS[1:]:
        text = pattern.sub(word, text)
    tail = _TAIL.fullmatch(text.strip())
    return _factors(tail["unit"]) if tail else None


def _factors(text: str) -> tuple[tuple[str, int], ...] | None:
    """The factors of a unit such as ``square feet`` or ``m / s^2``; ``None`` if one is not known."""
    factors: dict[str, int] = {}
    side, dimension, last = 1, 1, None
    for match in _FACTOR.finditer(text):
        word = (match["word"] or "").lower()
        if match["over"] or word == "per":
            side = -1
        elif word in _DIMENSIONS and last is not None and word in ("squared", "cubed"):
            factors[last] *= _DIMENSIONS[word]
        elif word in _DIMENSIONS:
            dimension = _DIMENSIONS[word]
        elif word in _UNIT_OF_WORD:
            last = _UNIT_OF_WORD[word]
            factors[last] = factors.get(last, 0) + side * dimension
            dimension = 1
        elif match["power"]:
            if last is not None:  # else it belongs to the number
                factors[last] *= int(match["power"])
        elif match["other"] in ("·", "*", "."):
            continue
        else:
            return None
    if set(factors) & _TEMPERATURES:
        factors.pop("degree", None)
    return tuple(sorted(factors.items())) or None
