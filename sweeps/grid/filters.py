"""The filter grammar: which runs a rule, an exclusion or a command means. Pure, standard library only.

A *term* is ``key=value``. Terms separated by spaces must all hold; several values separated by commas mean
any of them::

    model=tiny-64                    one value
    example=carry-1,carry-2          any of these
    model=tiny-*                     * stands for any text
    optim.lr>=1e-4                   < <= > >= for numbers
    '!seed=3'  or  seed!=3           not
    model=tiny-96 optim.lr>2e-4      both

A text with spaces is quoted (``name='a b'``), ``null`` means that the axis does not exist for a run. The same
grammar serves ``exclude``, ``when`` and ``set`` in sweep files and FILTER on the command line. It is data,
never code: nothing is evaluated.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.spec import SpecError, nearest

GRAMMAR = (
    "write key=value terms such as 'model=tiny-64 optim.lr>=1e-4'; terms are joined by spaces and mean and"
)
"""The rule in one line, for messages."""

_TERM = re.compile(r"(?P<bang>!?)(?P<key>[A-Za-z_][\w./-]*)(?P<op><=|>=|!=|<|>|=)(?P<values>.*)", re.DOTALL)

_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One comparison of one key."""

    key: str
    """Axis, or any other column that the caller offers."""
    op: str
    """``=``, ``<``, ``<=``, ``>`` or ``>=``."""
    values: tuple[Any, ...]
    """Numbers, text, booleans or ``None``; any of them may match."""
    negated: bool = False
    """True for ``!key=value`` and ``key!=value``."""

    def matches(self, value: Any) -> bool:
        """Say whether a run whose ``key`` has ``value`` satisfies the term; ``None`` is an absent axis."""
        return self.negated != any(self._compare(value, wanted) for wanted in self.values)

    def _compare(self, value: Any, wanted: Any) -> bool:
        if self.op != "=":
            return _is_number(value) and _ORDER[self.op](value, wanted)
        if value is None or wanted is None:
            return value is wanted
        if _is_number(value) and _is_number(wanted):
            return value == wanted
        text, pattern = as_text(value), as_text(wanted)
        return fnmatch.fnmatchcase(text, _only_stars(pattern)) if "*" in pattern else text == pattern

    def __str__(self) -> str:
        op = "!=" if self.negated and self.op == "=" else self.op
        bang = "!" if self.negated and self.op != "=" else ""
        return f"{bang}{self.key}{op}{','.join(_quote(as_text(v)) for v in self.values)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Terms that must all hold. An empty filter holds for every run."""

    terms: tuple[Term, ...] = ()
    """In the order written."""

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Say whether ``row`` (key to value, absent axes ``None`` or missing) satisfies every term."""
        return all(term.matches(row.get(term.key)) for term in self.terms)

    def key_names(self) -> frozenset[str]:
        """Return the keys that the filter looks at."""
        return frozenset(term.key for term in self.terms)

    def check(self, kinds: Mapping[str, str], what: str = "filter") -> None:
        """Refuse a filter that cannot work on these axes.

        Args:
            kinds: known keys and their kinds (``int``, ``float``, ``bool`` or ``str``).
            what: what the filter is for, as messages name it.

        Raises:
            SpecError: for an unknown key (with the nearest), an ordering of text, or text compared with
                numbers.
        """
        for term in self.terms:
            if term.key not in kinds:
                known = ", ".join(kinds) or "none"
                hint = nearest(term.key, kinds)
                raise SpecError(
                    f"{what} {str(self)!r}: unknown axis {term.key!r}{hint}; the axes are {known}"
                )
            kind = kinds[term.key]
            if term.op != "=" and kind not in ("int", "float"):
                raise SpecError(
                    f"{what} {str(self)!r}: {term.key} holds {kind} values; {term.op} needs numbers"
                )
            wrong = [v for v in term.values if kind in ("int", "float") and isinstance(v, (str, bool))]
            if wrong and "*" not in str(wrong[0]):
                raise SpecError(f"{what} {str(self)!r}: {term.key} holds numbers, not {wrong[0]!r}")

    def __str__(self) -> str:
        return " ".join(str(term) for term in self.terms)


def parse_filter(text: str | Sequence[str], what: str = "filter") -> Filter:
    """Parse one filter.

    Args:
        text: terms in one string, or a sequence of such strings that must all hold.
        what: what the filter is for, as messages name it.

    Raises:
        SpecError: for anything outside the grammar, a Python expression included.
    """
    parts = [text] if isinstance(text, str) else text
    if not all(isinstance(part, str) for part in parts):
        raise SpecError(f"{what} {text!r}: must be text; {GRAMMAR}")
    return Filter(terms=tuple(_parse_term(word, what, part) for part in parts for word in _words(part, what)))


def _parse_term(word: str, what: str, whole: str) -> Term:
    match = _TERM.fullmatch(word)
    if match is None or match["values"].startswith("=") or "(" in match["values"].split("'")[0]:
        where = f" (in {whole!r})" if word != whole.strip() else ""
        raise SpecError(f"{what} {word!r}{where}: is not a filter; {GRAMMAR}")
    values = tuple(_literal(v) for v in _split(match["values"], ","))
    if match["values"] == "":
        raise SpecError(f"{what} {word!r}: has no value; {GRAMMAR}")
    op = "=" if match["op"] == "!=" else match["op"]
    if op != "=" and not (len(values) == 1 and _is_number(values[0])):
        raise SpecError(f"{what} {word!r}: {op} takes one number")
    negated = bool(match["bang"]) != (match["op"] == "!=")
    return Term(key=match["key"], op=op, values=values, negated=negated)


def _words(text: str, what: str) -> list[str]:
    if text.count("'") % 2 or text.count('"') % 2:
        raise SpecError(f"{what} {text!r}: a quote is not closed")
    return [word for word in _split(text, " ") if word]


def _split(text: str, separator: str) -> list[str]:
    """Split at ``separator`` outside quotes and square brackets."""
    parts, depth, quote, start = [], 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[]":
            depth += 1 if char == "[" else -1
        elif char == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def _literal(text: str) -> Any:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[text]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if "_" not in text and number - number == 0:
            return number
    return text


def as_text(value: Any) -> str:
    """One spelling per value, as tables and filters show it: ``true``, ``[0,1]``, ``1e-05``, plain text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, dict)) or value is None or isinstance(value, bool):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return repr(value)


def _quote(text: str) -> str:
    return f"'{text}'" if any(c in text for c in " ,'\"") and not text.startswith("[") else text


def _only_stars(pattern: str) -> str:
    return re.sub(r"[\[?]", lambda m: f"[{m[0]}]", pattern)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def any_matches(filters: Iterable[Filter], row: Mapping[str, Any]) -> bool:
    """Say whether at least one of ``filters`` holds for ``row``."""
    return any(f.matches(row) for f in filters)
