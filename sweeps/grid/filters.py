"""The filter grammar: which runs a rule, an exclusion or a command means. Pure, standard library only.

A *term* is ``key=value``. Terms separated by spaces must all hold; several values separated by commas mean
any of them::

    model=tiny-64                    one value
    lr=1e-4                          the last part of a key, where no other key ends alike
    example=carry-1,carry-2          any of these
    model=tiny-*                     * stands for any text
    optim.lr>=1e-4                   < <= > >= for numbers
    '!seed=3'  or  seed!=3           not
    model=tiny-96 optim.lr>2e-4      both
    name='a, b*'                     quoted: that very text, whatever is in it; '' is a quote inside quotes

``null`` means that the axis does not exist for a run. :func:`write_term` writes a value so that it reads
back. The same grammar serves ``exclude``, ``when`` and ``set`` in sweep files, FILTER on the command line,
the dashboard and Python. It is data, never code: nothing is evaluated.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sweeps.grid.axes import Axis, listed, resolve
from sweeps.spec.errors import SpecError
from sweeps.spec.text import label

GRAMMAR = (
    "write key=value terms such as 'model=tiny-64 optim.lr>=1e-4'; terms are joined by spaces and mean and"
)
"""The rule in one line, for messages."""

_TERM = re.compile(r"(?P<bang>!?)(?P<key>[A-Za-z_][\w./@-]*)(?P<op><=|>=|!=|<|>|=)(?P<values>.*)", re.DOTALL)

_TERM_IN_VALUE = re.compile(r"!?([A-Za-z_][\w./@-]*)(?:!=|<=|>=|<|>|=)")
"""How a value begins that somebody meant as the next term."""

OF_TERMS = "init_from"
"""Axis whose values are terms."""

_SEGMENT = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?P<bare>[^'"]+)""")
"""Quoted and bare parts of a value."""

_BARE = re.compile(r"[^\s'\"(){}\[\]*,=][^\s'\"(){}\[\]*,]*|\[[\w.,+-]*\]")
"""Text that needs no quotes, unless it reads as something else than text."""

Op = Literal["=", "<", "<=", ">", ">="]

_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text with unquoted stars."""

    parts: tuple[str, ...]
    """What stands before, between and after the stars."""

    def matches(self, text: str) -> bool:
        """Say whether any texts in the place of the stars make it ``text``."""
        return re.fullmatch(".*".join(map(re.escape, self.parts)), text, re.DOTALL) is not None

    def __str__(self) -> str:
        return "*".join(_write(part) if part else "" for part in self.parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One comparison of one key."""

    key: str
    """Axis, or any other column that the caller offers."""
    op: Op
    values: tuple[Any, ...]
    """Numbers, text, booleans, ``None`` or a :class:`Pattern`; any of them may match."""
    negated: bool = False
    """True for ``!key=value`` and ``key!=value``."""

    def matches(self, value: Any) -> bool:
        """Say whether a run whose ``key`` has ``value`` satisfies the term; ``None`` is an absent axis."""
        return self.negated != any(self._compare(value, wanted) for wanted in self.values)

    def _compare(self, value: Any, wanted: Any) -> bool:
        if self.op != "=":
            return is_number(value) and _ORDER[self.op](value, wanted)
        if value is None or wanted is None:
            return value is wanted
        if is_number(value) and is_number(wanted):
            return bool(value == wanted)
        text = as_text(value)
        return wanted.matches(text) if isinstance(wanted, Pattern) else text == as_text(wanted)

    def __str__(self) -> str:
        op = "!=" if self.negated and self.op == "=" else self.op
        bang = "!" if self.negated and self.op != "=" else ""
        return f"{bang}{self.key}{op}{','.join(map(_write, self.values))}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Terms that must all hold. An empty filter holds for every run."""

    terms: tuple[Term, ...] = ()

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Say whether ``row`` (key to value, absent axes ``None`` or missing) satisfies every term."""
        return all(term.matches(row.get(term.key)) for term in self.terms)

    def key_names(self) -> frozenset[str]:
        return frozenset(term.key for term in self.terms)

    def resolved(self, kinds: Mapping[str, str], what: str = "filter") -> Filter:
        """Return the filter with whole keys in place of short ones.

        Args:
            kinds: known keys and their kinds (``int``, ``float``, ``bool`` or ``str``).
            what: what the filter is for, as messages name it.

        Raises:
            SpecError: for an unknown or ambiguous key, an ordering of text, or text compared with numbers.
        """
        return Filter(terms=tuple(self._resolved(term, kinds, what) for term in self.terms))

    def _resolved(self, term: Term, kinds: Mapping[str, str], what: str) -> Term:
        shown = f"{what} {str(self)!r}"
        try:
            key = resolve(term.key, kinds)
        except SpecError as error:
            raise SpecError(f"{shown}: {error}") from None
        has_numbers = kinds[key] in ("int", "float")
        if term.op != "=" and not has_numbers:
            raise SpecError(f"{shown}: {key} holds {kinds[key]} values; {term.op} needs numbers")
        wrong = [v for v in term.values if has_numbers and isinstance(v, (str, bool))]
        if wrong:
            raise SpecError(f"{shown}: {key} holds numbers, not {wrong[0]!r}")
        for value in term.values[1:] if key != OF_TERMS else ():
            inner = _TERM_IN_VALUE.match(value) if isinstance(value, str) else None
            if inner and inner[1] in kinds:
                raise SpecError(
                    f"{shown}: a comma lists values of {key}, and {value!r} reads as a term of its own; put "
                    "a space between terms, not a comma"
                )
        return dataclasses.replace(term, key=key)

    def __str__(self) -> str:
        return " ".join(str(term) for term in self.terms)


def parse_filter(text: str | Sequence[str], what: str = "filter") -> Filter:
    """Parse one filter; its keys are as written (see :meth:`Filter.resolved`).

    Args:
        text: terms in one string, or a sequence of such strings that must all hold.
        what: what the filter is for, as messages name it.

    Raises:
        SpecError: for anything outside the grammar, a Python expression included.
    """
    parts = [text] if isinstance(text, str) else text
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise SpecError(f"{what} {text!r}: must be text; {GRAMMAR}")
    return Filter(
        terms=tuple(
            _parse_term(word, what, part)
            for part in parts
            for word in _split(part, str.isspace, f"{what} {part!r}")
            if word
        )
    )


def choose(filters: Sequence[str], axes: Mapping[str, Axis]) -> Filter:
    """Parse the filters by which a user chooses among the runs of a sweep.

    Args:
        filters: each one or more terms; all must hold.
        axes: what they may name, by whole key.

    Raises:
        SpecError: as :func:`parse_filter` and :meth:`Filter.resolved`, and for a value that no run has.
    """
    chosen = parse_filter(list(filters)).resolved({key: axis.kind for key, axis in axes.items()})
    for term in chosen.terms:
        values = axes[term.key].values
        if not any(term.matches(value) for value in (*values, None)):
            shown = listed(label(v) if isinstance(v, float) else _write(v) for v in values)
            raise SpecError(f"filter {str(term)!r}: no run has such a value; {term.key} takes {shown}")
    return chosen


def write_term(key: str, value: Any) -> str:
    """The term that holds for exactly this value; NaN, as frames write what is missing, is ``null``."""
    if hasattr(value, "item"):
        value = value.item()  # of numpy
    return str(Term(key=key, op="=", values=(None if value != value else value,)))


def write_filter(values: Mapping[str, Any]) -> str:
    """The filter that holds for exactly the runs with these values."""
    return " ".join(write_term(key, value) for key, value in values.items())


def as_text(value: Any) -> str:
    """One spelling per value, as tables and filters show it: ``true``, ``[0,1]``, ``1e-05``, plain text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, dict)) or value is None or isinstance(value, bool):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return repr(value)


def is_number(value: Any) -> bool:
    """Whether it can be ordered; truth values cannot."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parse_term(word: str, what: str, whole: str) -> Term:
    match = _TERM.fullmatch(word)
    if match is None or match["values"].startswith("=") or "(" in _SEGMENT.sub(r"\g<bare>", match["values"]):
        where = f" (in {whole!r})" if word != whole.strip() else ""
        raise SpecError(f"{what} {word!r}{where}: is not a filter; {GRAMMAR}")
    if match["values"] == "":
        raise SpecError(f"{what} {word!r}: has no value; {GRAMMAR}")
    values = tuple(map(_read, _split(match["values"], ",".__eq__, f"{what} {word!r}")))
    op: Any = "=" if match["op"] == "!=" else match["op"]
    if op != "=" and not (len(values) == 1 and is_number(values[0])):
        raise SpecError(f"{what} {word!r}: {op} takes one number")
    negated = bool(match["bang"]) != (match["op"] == "!=")
    return Term(key=match["key"], op=op, values=values, negated=negated)


def _split(text: str, separates: Callable[[str], bool], shown: str) -> list[str]:
    """Split at separators outside quotes and brackets."""
    parts, depth, quote, start = [], 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth = max(0, depth - 1)
        elif depth == 0 and separates(char):
            parts.append(text[start:i])
            start = i + 1
    if quote or depth:
        raise SpecError(f"{shown}: a {'quote' if quote else 'bracket'} is not closed")
    return [*parts, text[start:]]


def _read(text: str) -> Any:
    """The value that a text stands for."""
    if text[:1] in ("[", "{"):
        try:
            return as_text(json.loads(text))
        except ValueError:
            return text
    if "'" not in text and '"' not in text and "*" not in text:
        return _literal(text)
    parts = [""]
    for segment in _SEGMENT.finditer(text):
        if segment["bare"] is None:
            quote = segment[0][0]
            parts[-1] += segment[0][1:-1].replace(quote * 2, quote)
        else:
            first, *rest = segment["bare"].split("*")
            parts[-1] += first
            parts += rest
    return parts[0] if len(parts) == 1 else Pattern(tuple(parts))


def _literal(text: str) -> Any:
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


def _write(value: Any) -> str:
    """A value as a filter writes it: :func:`_read` gives back one that compares alike."""
    text = str(value) if isinstance(value, Pattern) else as_text(value)
    if not isinstance(value, (str, list, tuple, dict)) or (_BARE.fullmatch(text) and _read(text) == text):
        return text
    return "'" + text.replace("'", "''") + "'"
