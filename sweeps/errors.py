"""The one kind of error that a user's configuration can cause, and the words it is told in."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable


class SpecError(ValueError):
    """A configuration that cannot be run; the message says the value, the rule and the fix."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean "x"?)`` for the closest of ``known``, or an empty string."""
    close = difflib.get_close_matches(word, list(dict.fromkeys(known)), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(json.dumps(c) for c in close)}?)" if close else ""


def require(ok: bool, key: str, value: object, rule: str) -> None:
    """Raise :class:`SpecError` with the key, its value and the rule unless ``ok``."""
    if not ok:
        raise SpecError(f"{key}={value!r}: {rule}")


def choice(key: str, value: str, known: Iterable[str]) -> None:
    """Raise :class:`SpecError` with the choices and the nearest of them unless ``value`` is among
    ``known``.
    """
    known = tuple(known)
    require(value in known, key, value, f"choose one of {', '.join(known)}{nearest(value, known)}")
