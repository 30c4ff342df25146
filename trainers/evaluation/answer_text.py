r"""Answers as text: cut out of a completion, and spelt so that a mathematics parser reads what was meant.
Pure.

A gold answer and a model's are put into one form by the same rules before anything compares them:

* **Boxes.** The last closed ``\boxed{}`` (or ``\fbox{}``) is the answer, cut out by its braces.
* **Characters.** Full-width digits, typographic minus signs and multiplication signs become ASCII or LaTeX.
* **Signs.** A leading ``=`` or ``\approx`` is dropped, as are colours and underlines. Powers, bases,
  fractions and roots that are single characters are spelt out: ``6²`` is 6 to the power of 2.
* **Numbers.** ``4.5e33`` is 4.5·10³³, ``3 million`` is 3·10⁶, ``0.\overline{3}`` is 1/3. Digits in groups of
  three (``13\,535``, ``13{,}535``, ``13,535``) are one number. ``4 1/2`` is a mixed number.
* **Currency, degrees, percent.** Their signs are dropped: ``\$36`` is 36, ``28\%`` is 28, ``30^\circ`` is 30.
* **Units.** Text behind a number (``5 \text{ cm}^2``, ``36 dollars``) is dropped unless it says more than a
  unit does (``7 or more``, ``7 squared``); nothing is converted, and ``7 hours 30 minutes`` is no number.
* **Bases.** ``2516_8`` is text: it equals the same digits with the same base and nothing else.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MAX_ANSWER_CHARS = 2_000
"""Longest answer that is read; the longest gold of six benchmarks has 264 characters, and what is longer is a
text and not an answer.
"""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=[{\d])")
_CHARACTERS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "‐": "-",
        "×": r"\times ",
        "⋅": r"\cdot ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "°": r"^\circ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "±": r"\pm ",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
    }
)
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])"
    r"|\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![A-Za-z])"
    r"|\\[$£€]|(?<=\d)\s*\\?%|[£€]"
)
_SPACES = re.compile(r"(?<!\\)\\[,;:!> ]|\\q?quad(?![A-Za-z])|~|\s+")
_RAISED = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[A-Za-z]))")
_DECORATED = re.compile(
    r"\\(?:textcolor\s*\{[^{}]*\}|underline|framebox|mathbf|bm)\s*\{([^{}]*)\}|\\color\s*\{[^{}]*\}"
)
"""Colour, lines and weight, which say nothing."""
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:(?:\\[,;:! ]|\{,\}|,\\!|~)\d{3})+(?!\d)")
_GROUPED_BY_COMMA = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_E_NOTATION = re.compile(r"(?<![\w.\\])(\d+(?:\.\d*)?|\.\d+)[eE]([-+]?\d+)(?![\w.])")
_FRACTION_COMMAND = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_WORDS = r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf|operatorname)\s*\{[^{}]*\}"
_COMMANDS = frozenset(("text", "mathrm", "mbox", "textrm", "textbf", "mathbf", "operatorname"))
_TOWER = re.compile(r"(?:\^\s*\{?\s*[\w(]+\s*){3}")
"""Three powers on top of each other."""
_ONLY_WORDS = re.compile(_WORDS.replace("[^{}]*", "([^{}]*)"))
_RELATION = re.compile(r"^\s*(?:=|\\approx(?![A-Za-z])|\\therefore(?![A-Za-z]))+")
"""What leads from a working to its answer: ``= 36``."""
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
"""Powers of ten that are written as words."""
_SCALED = re.compile(
    rf"(?<![\w.])(?P<number>\d+(?:\.\d+)?)\s*(?P<command>\\(?:text|mathrm|textrm|mbox)\s*\{{)?\s*"
    rf"(?P<word>{'|'.join(_SCALES)}|dozen)s?(?![A-Za-z])"
)
_POWERS = frozenset(("squared", "cubed", "factorial"))
"""Words that act on a number right before them; ``36 cm squared`` is a unit."""
_MORE = frozenset(
    ("and", "or", "fewer", "less", "more", "than", "if", "minus", "plus", "mod", "modulo", "half", "third")
)
"""Words behind a number that change what is said, wherever they stand."""
_COMPOUND = re.compile(
    rf"\d\s*(?:{_WORDS.replace('[^{}]*', '(?P<word>[^{}]*)')}|\s(?P<bare>[A-Za-z]{{2,}})\s)\s*\d"
)
_UNIT = re.compile(
    rf"(?:\s|[/*.]|\\cdot)*(?:{_WORDS}|(?<=[\s/])[A-Za-z]{{2,}}|(?<=/)[A-Za-z])\s*(?:\^\s*\{{?-?\d+\}}?)?\.?$"
)
"""One unit, or one factor of a unit, at the end of an answer."""
_NOT_A_NUMBER = re.compile(
    r"(?<![\\A-Za-z])(?!(?<=\d)[eE][-+]?\d)[A-Za-z]|\\(?!(?:frac|times|cdot|sqrt|pi)(?![A-Za-z]))|[=,:]"
)
"""What no number holds: a variable, a command other than arithmetic, a list."""
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


def last_box(text: str) -> str | None:
    r"""The content of the last closed ``\boxed{}`` of a text, or ``None`` without one."""
    for match in reversed(list(_BOX.finditer(text))):
        content = _braced(text, match.end()) if text[match.end()] == "{" else text[match.end()]
        if content is not None:
            return content
    return None


def _braced(text: str, start: int) -> str | None:
    """What stands between the brace at ``start`` and the one that closes it; ``None`` if none does."""
    depth, position = 0, start
    while position < len(text):
        match text[position]:
            case "\\":
                position += 1  # an escaped brace opens and closes nothing
            case "{":
                depth += 1
            case "}":
                depth -= 1
                if not depth:
                    return text[start + 1 : position]
        position += 1
    return None


def normalise(text: str) -> str:
    """An answer in the one form in which answers are compared; see this module's rules."""
    text = unicodedata.normalize("NFKC", _spelt_out(text).translate(_CHARACTERS)).strip()
    text = _unwrapped(_DECORATED.sub(lambda match: match[1] or "", text))
    text = _unwrapped(_RELATION.sub("", text).strip())
    text = _GROUPED.sub(lambda match: re.sub(r"\D", "", match.group()), text)
    text = _FRACTION_COMMAND.sub(r"\\frac", _DROPPED.sub("", text))
    text = _SPACES.sub(" ", text).strip().rstrip(".,;:").strip()
    if text.startswith("$") and text.count("$") == 1:
        text = text[1:].lstrip()
    if _GROUPED_BY_COMMA.fullmatch(text):
        text = text.replace(",", "")
    text = _without_unit(_SCALED.sub(_scaled, text))
    if _GROUPED_BY_COMMA.fullmatch(text):
        text = text.replace(",", "")
    return _E_NOTATION.sub(r"\1 \\times 10^{\2}", text)


def _spelt_out(text: str) -> str:
    """Powers, bases, fractions and roots that are single characters, in LaTeX: ``6²`` is no 62."""
    text = _RAISED.sub(lambda match: f"^{{{_plain(match[0])}}}", text)
    text = _LOWERED.sub(lambda match: f"_{{{_plain(match[0])}}}", text)
    text = _VULGAR.sub(lambda match: r"\frac{{{}}}{{{}}}".format(*_plain(match[0]).split("⁄")), text)
    return _ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2] or match[3]}}}", text)


def _plain(characters: str) -> str:
    return unicodedata.normalize("NFKC", characters).replace("−", "-")


def _unwrapped(text: str) -> str:
    """Without the signs that open and close mathematics, and without braces around the whole."""
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("{", "}")):
        inner = text[len(opening) : len(text) - len(closing)]
        whole = (
            len(text) >= len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing)
        )
        if whole and opening == "{":
            whole = _braced(text, 0) == inner
        if whole and (opening not in ("$", "$$") or "$" not in inner.replace(r"\$", "")):
            return _unwrapped(inner.strip())
    if (prose := _ONLY_WORDS.fullmatch(text)) and not set(prose[1]) & set("$\\"):
        return prose[1].strip()
    return text


def _without_unit(text: str) -> str:
    """A number without the units behind it; other answers as they are."""
    number = text
    while (shorter := _UNIT.sub("", number)) != number:
        number = shorter.rstrip()
    is_number = re.search(r"\d|\\pi", number) and not _NOT_A_NUMBER.search(number)
    return number if is_number and not _say_more(text[len(number) :]) else text


def _say_more(words: str) -> bool:
    """Whether what stands behind a number is more than a unit."""
    said = [word for word in re.findall("[a-z]+", words.lower()) if word not in _COMMANDS]
    return bool(set(said) & _MORE or set(said[:1]) & _POWERS)


def _scaled(match: re.Match[str]) -> str:
    """``3 million`` as a power of ten, ``3 dozen`` as 36, what opened before the word kept open."""
    number, word = match["number"], match["word"]
    if word == "dozen":
        value = Fraction(number) * 12
        number = f"{value}" if value.denominator == 1 else f"{float(value)}"
        return f"{number} {match['command'] or ''}"
    return rf"{number} \times 10^{{{_SCALES[word]}}} {match['command'] or ''}"


def says_more(text: str) -> bool:
    """Whether a number is followed by words that change what is said: ``7 or more``, ``6 squared``."""
    match = re.match(r"[-+]?[\d.]+((?:\s|" + _WORDS + r"|[A-Za-z])*)$", text)
    return bool(match and _say_more(match[1]))


def is_compound(text: str) -> bool:
    """Whether a text holds numbers of several units, such as ``7 hours 30 minutes``: none of them is its
    value.
    """
    return any(
        not set(re.findall("[a-z]+", (match["word"] or match["bare"]).lower())) & {"and", "or", "to"}
        for match in _COMPOUND.finditer(text)
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


def is_hostile(text: str) -> bool:
    """Whether a text is too long to be an answer, or a tower of powers that nobody can evaluate."""
    return len(text) > MAX_ANSWER_CHARS or bool(_TOWER.search(text))


def is_improper_mixed(text: str) -> bool:
    """Whether a text looks like a mixed number and is none, such as ``4 10/3``: it has no value."""
    return bool(_MIXED.fullmatch(text.strip())) and exact_number(text) is None


def significant_digits(text: str) -> int | None:
    """Digits that a decimal shows, leading zeros apart; ``None`` for a text that is no decimal."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or "." not in match["mantissa"]:
        return None
    return len(match["mantissa"].lstrip("+-").replace(".", "").lstrip("0"))


def without_assignment(text: str) -> str:
    """The right side of ``x = 7``: one name, set equal to a value, is an answer of that value."""
    match = re.fullmatch(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([A-Za-z]\))?\s*=\s*([^=]+)", text)
    return match[1].strip() if match else text
