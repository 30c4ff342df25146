r"""Answers that are lists, taken apart at their commas. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BRACKETS = {"(": ")", "[": "]", r"\{": r"\}"}
_TOKEN = re.compile(r"\\[{}]|\\[A-Za-z]+|\\.|.", re.DOTALL)
_DOTS = re.compile(r"\\[lc]?dots(?![A-Za-z])|\.\.\.|…")
_AND = re.compile(r"\s*,?\s*\\text\s*\{\s*(?:and|or)\s*\}\s*|\s+(?:and|or)\s+")
_ASSIGNMENT = re.compile(r"\s*\\?[A-Za-z]+(?:_\{?\w+\}?)?\s*=[^=]+")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A list of answers."""

    brackets: str
    """The bracket that opens it and the one that closes it; empty where none does."""
    parts: tuple[str, ...]
    goes_on: bool
    """Whether dots stand for parts that are not written."""

    @property
    def is_set(self) -> bool:
        return self.brackets.startswith("\\")

    def is_ordered_with(self, other: Parts) -> bool:
        """Whether the order of the parts counts where two lists are compared: in brackets other than braces,
        or where one says which variable is which and the other does not.
        """
        named = [all(map(_ASSIGNMENT.fullmatch, each.parts)) for each in (self, other)]
        is_tuple = [bool(each.brackets) and not each.is_set for each in (self, other)]
        names = {part.split("=")[0].strip() for part in self.parts + other.parts if "=" in part}
        return all(is_tuple) or (named[0] != named[1] and len(names) > 1)


def parts_of(text: str) -> Parts | None:
    """The parts of a list; ``None`` for a text that is none."""
    text = text.strip()
    brackets = ""
    for opening, closing in _BRACKETS.items():
        for end in (closing, *(")]" if opening in "([" else ())):
            inner = text[len(opening) : len(text) - len(end)]
            if text.startswith(opening) and text.endswith(end) and _split(inner) is not None:
                text, brackets = inner, opening + end
                break
        if brackets:
            break
    parts = _split(_AND.sub(", ", text))
    if parts is None or len(parts) < 2 or any(not part for part in parts):
        return None
    return Parts(brackets=brackets, parts=tuple(parts), goes_on=any(map(_DOTS.search, parts)))


def _split(text: str) -> list[str] | None:
    """A text cut at the commas outside brackets; ``None`` if its brackets do not match."""
    parts, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token in ("(", "[", "{", r"\{")) - (token in (")", "]", "}", r"\}"))
        if depth < 0:
            return None
        if token in (",", ";") and not depth:
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts] if not depth else None
