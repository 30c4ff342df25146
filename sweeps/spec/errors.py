"""Errors that a user can cause and fix, and the words they are told in.

The command line prints them as one line and exits with :data:`EXIT_BAD_INPUT`, or :data:`EXIT_INTERRUPTED`
where a sweep was cut short.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable

EXIT_NOT_OK = 1
"""Status when a sweep ended with failed runs, or a check is not ok."""

EXIT_BAD_INPUT = 2
"""Status for a mistake in what was asked; nothing was started."""

EXIT_INTERRUPTED = 130
"""Status after Ctrl-C, SIGTERM or a time limit; the same directory can be resumed."""


SHOWN = 200
"""Characters of one value that a message shows."""

LONGEST = 1600
"""Characters of a message: three problems of a model folder, each with its rule and fix, take 1,200."""

LONG = SHOWN + 50
"""Characters from which a value in a finished message is cut: more than :func:`shown` leaves."""

_LONG_VALUE = re.compile(
    rf"""(?<!\w)'(?:[^'\\]|\\.){{{LONG},}}'|(?<!\w)"(?:[^"\\]|\\.){{{LONG},}}"|\S{{{LONG},}}""", re.DOTALL
)
"""A quoted value, or a stretch without a space, that nobody would read to its end."""


def shown(value: object) -> str:
    """A value as messages show it: its Python form, the middle of a long one left out."""
    try:
        return cut(repr(value))
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def cut(text: str, length: int = SHOWN) -> str:
    """A text with its middle left out where it is longer than ``length``, saying how much."""
    if len(text) <= length:
        return text
    head, tail = length * 2 // 3, length // 4
    return f"{text[:head]}…[{len(text) - head - tail:,} characters]…{text[-tail:]}"


def bounded(message: str) -> str:
    """A message whose values are short enough to be read, whoever wrote them into it."""
    if len(message) > SHOWN:
        message = _LONG_VALUE.sub(lambda m: cut(m[0]), message)
    return cut(message, LONGEST)


class UserError(ValueError):
    """Bad input. The message says the value, the rule and the fix; nothing was started."""

    def __init__(self, message: str = "") -> None:
        super().__init__(bounded(message))


class SpecError(UserError):
    """A configuration that cannot be run."""


class DirectoryBusyError(UserError):
    """Another driver holds the sweep directory."""


class DamagedError(UserError):
    """A file of a sweep directory does not hold what was written to it."""


class LostLockError(UserError):
    """Another driver has taken the sweep directory from this one, which stops; ends with
    :data:`EXIT_NOT_OK`.
    """


class StoreError(UserError):
    """The sweep directory can no longer be written; what was committed is safe and can be resumed from."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean "x"?)`` for the closest of ``known``, or an empty string."""
    close = difflib.get_close_matches(word, list(dict.fromkeys(known)), n=3, cutoff=0.5)
    return (
        f" (did you mean {' or '.join(json.dumps(c, ensure_ascii=False) for c in close)}?)" if close else ""
    )


def require(ok: bool, key: str, value: object, rule: str) -> None:
    """Raise :class:`SpecError` with the key, its value and the rule unless ``ok``."""
    if not ok:
        raise SpecError(f"{key}={shown(value)}: {rule}")


def choice(key: str, value: str, known: Iterable[str]) -> None:
    """Raise :class:`SpecError` with the choices and the nearest of them unless ``value`` is among
    ``known``.
    """
    known = tuple(known)
    if value not in known:  # what is nearest takes longer to find than a whole specification to build
        require(False, key, value, f"choose one of {', '.join(known)}{nearest(value, known)}")
