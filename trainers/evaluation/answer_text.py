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
  unit does (``7 or more``, ``7 squared``); nothing is converted, and ``7 hours 30 minutes`` is no number. Two
  answers that name different units (:mod:`.answer_units`) are not equal, but for the ``relative`` grader.
* **Words.** Letters set as text, and four letters or more, are a word: ``\text{saw}`` is not ``\text{was}``.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from trainers.evaluation.answer_numbers import based_number, exact_number, is_improper_mixed

MAX_ANSWER_CHARS = 2_000
"""Longest answer that is read; the longest gold of six benchmarks has 264 characters, and what is longer is a
text and not an answer.
"""

WORD = 4
"""Letters from which on letters are a word, whose capitals say nothing, and no product of variables."""

SHORT_WORDS = frozenset(("no", "yes", "on", "odd", "all", "one", "two", "six", "ten", "not", "day", "may"))
"""Words of fewer letters that are answers."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=[{\d])")
_STATED = re.compile(r"(?i:\banswer\s*(?:is|:))\s*:?\s*(.+?)\s*(?:\.\s|\.?$)", re.MULTILINE)
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
        "∠": r"\angle ",
        "±": r"\pm ",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
    }
)
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])"
    r"|\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![A-Za-z])"
    r"|\\[$£€¥]|(?<=[\d}])\s*\\?%|[£€¥]"
    r"|(?<=\d)\^\s*\{?\s*\\(?:text|mathrm|textrm)\s*\{(?:st|nd|rd|th)\}\s*\}?|(?<=\d)\^\s*\{(?:st|nd|rd|th)\}"
)
_SPACES = re.compile(r"(?<!\\)\\[,;:!> ]|\\q?quad(?![A-Za-z])|~|\s+")
_SYNONYMS = (
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\([lr])brace(?![A-Za-z])"), lambda match: r"\{" if match[1] == "l" else r"\}"),
)
_MATHEMATICS = re.compile(r"\$[^$]*\$|\\(?:text|mathrm|mbox)\s*\{[^{}]*\}")
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2}")
"""A word among what is no mathematics."""
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?")
_ANGLE_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_RAISED = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[A-Za-z]))")
_DECORATED = re.compile(
    r"\\(?:textcolor\s*\{[^{}]*\}|underline|framebox|mathbf|bm)\s*\{([^{}]*)\}|\\color\s*\{[^{}]*\}"
)
"""Colour, lines and weight, which say nothing."""
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:(?:\\[,;:! ]|\{,\}|,\\!|~)\d{3})+(?!\d)")
_GROUPED_BY_COMMA = re.compile(r"[-+]?\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?")
_E_NOTATION = re.compile(r"(?<![\w.\\])(\d+(?:\.\d*)?|\.\d+)[eE]([-+]?\d+)(?![\w.])")
_FRACTION_COMMAND = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d)|\{([^{}]*)\})\s*(?:(\d)|\{([^{}]*)\})")
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
    rf"(?:\s|[/*.]|\\cdot)*(?:{_WORDS}|(?<=[\s/])[A-Za-z]{{2,}}|(?<=/)[A-Za-z]"
    r"|(?<=\d)(?:[cmk]m|k?g|mg|ml|ft|mph|st|nd|rd|th))\s*(?:\^\s*\{?-?\d+\}?)?\.?$"
)
"""One unit, or one factor of a unit, at the end of an answer."""
_NOT_A_NUMBER = re.compile(
    r"(?<![\\A-Za-z])(?!(?<=\d)[eE][-+]?\d)[A-Za-z]|\\(?!(?:frac|times|cdot|sqrt|pi)(?![A-Za-z]))|[=,:]"
)
"""What no number holds: a variable, a command other than arithmetic, a list."""


def last_box(text: str) -> str | None:
    r"""The content of the last closed ``\boxed{}`` of a text, or ``None`` without one."""
    for match in reversed(list(_BOX.finditer(text))):
        content = _braced(text, match.end()) if text[match.end()] == "{" else text[match.end()]
        if content is not None:
            return content
    return None


def stated_answer(text: str) -> str | None:
    """What a text without a box says that its answer is, where that is one number or letter."""
    said = _STATED.findall(text)
    stated = normalise(said[-1]) if said else ""
    tests = (exact_number, based_number, is_improper_mixed, re.compile(r"\(?[A-Z]\)?").fullmatch)
    return said[-1] if any(test(stated) for test in tests) else None


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
    for pattern, replacement in _SYNONYMS:
        text = pattern.sub(replacement, text)
    if _ANGLE_FUNCTION.search(text):
        text = _DEGREES.sub(r"(\1 \\pi / 180)", text)
    text = _FRACTION_COMMAND.sub(r"\\frac", _DROPPED.sub("", text))
    text = _SHORT_FRACTION.sub(lambda m: rf"\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text)
    text = _unwrapped(_SPACES.sub(" ", text).strip().rstrip(".,;:").strip())
    if text.startswith("$") and text.count("$") == 1:
        text = text[1:].lstrip()
    elif text.count("$") % 2 == 0 and not _PROSE.search(_MATHEMATICS.sub("", text)):
        text = _SPACES.sub(" ", text.replace("$", " ")).strip()
    text = _ungrouped(_without_unit(_SCALED.sub(_scaled, _ungrouped(text))))
    return _E_NOTATION.sub(r"\1 \\times 10^{\2}", text)


def _ungrouped(text: str) -> str:
    """A number in groups of three without what separates them."""
    return re.sub("[, ]", "", text) if _GROUPED_BY_COMMA.fullmatch(text) else text


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
        words = prose[1].strip()
        # Letters that are set as text are a word; without the mark a few would be a product.
        return rf"\text{{{words}}}" if re.fullmatch("[A-Za-z]{2,3}", words) else words
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


def words_of(text: str) -> str:
    """A text without its commands and spaces, in small letters: what it says, word for word."""
    return re.sub(rf"\\\\(?:{'|'.join(_COMMANDS)})(?![A-Za-z])|[{{}}\\s.]", "", text).casefold()


def word_of(text: str) -> str | None:
    """The word that an answer is; ``None`` for letters that may be a product, and all else."""
    if match := re.fullmatch(r"\\text\{([A-Za-z]{2,3})\}", text):
        return match[1]
    is_word = text.isalpha() and text.isascii() and (len(text) >= WORD or text.lower() in SHORT_WORDS)
    return text if is_word else None


def is_phrase(text: str) -> bool:
    """Whether a text is several words; ``A and B`` is a list of letters."""
    words = text.split()
    return (
        len(words) > 1
        and all(word.isalpha() and word.isascii() for word in words)
        and any(len(word) > 2 and word.lower() not in _MORE for word in words)
    )


def runs_numbers_together(text: str) -> bool:
    """Whether two whole numbers stand side by side, ``12 34``, which is neither a product nor a number."""
    bare = re.sub(r"\\[A-Za-z]+\s*\d\s*\d?|[_^]\s*\w|\d+\s+\d+\s*/\s*\d+", " x ", text)
    return bool(re.search(r"\d\s+\d", bare))


def is_date(text: str) -> bool:
    """Whether a text is a date in figures, and no difference."""
    return bool(re.fullmatch(r"\d{4}-\d{2}-\d{2}|\d{1,2}-\d{1,2}-\d{4}", text.strip()))


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


def is_hostile(text: str) -> bool:
    """Whether a text is too long to be an answer, or a tower of powers that nobody can evaluate."""
    return len(text) > MAX_ANSWER_CHARS or bool(_TOWER.search(text))


def without_assignment(text: str) -> str:
    """The right side of ``x = 7``: a name, or several in brackets, set equal to a value is that value."""
    match = re.fullmatch(
        r"(?:\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([A-Za-z]\))?|\([A-Za-z](?:\s*,\s*[A-Za-z])+\))\s*=\s*([^=]+)",
        text,
    )
    return match[1].strip() if match else text
