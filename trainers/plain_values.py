"""Foreign values as those that a table can hold: names, numbers, texts and nothing.

Scalars of other libraries (NumPy, torch, JAX, …) become Python's by their ``item()``, nested mappings are
flattened with dots: ``{"eval": {"loss": x}}`` is the metric ``eval.loss``. Whatever no table can hold is
refused, with its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

_NUMBERS = frozenset((float, int, bool, type(None)))
_PLAIN = _NUMBERS | {str}

_MAX_DEPTH = 16
"""Levels of nested mappings that are flattened; more is a structure that holds itself."""


def plain_row(values: Any, where: str) -> Mapping[str, Any]:
    """Names and plain values of a mapping; itself where it holds nothing else."""
    if type(values) is dict and is_plain(values):
        return values
    if not isinstance(values, Mapping):
        raise TypeError(f"{where}: a {type(values).__name__} is no mapping of names to numbers")
    row: dict[str, Any] = {}
    for name, value in _flat(values, where):
        if not _is_unicode(name) or (isinstance(value, str) and not _is_unicode(value)):
            raise ValueError(
                f"{where} {name!a}: holds half a character (a lone surrogate), which no file can; mend it"
            )
        if name in row:
            raise ValueError(
                f"{where} {name!r}: is there twice once nested names are joined by dots; rename one"
            )
        row[name] = value
    return row


def is_plain(values: dict[Any, Any]) -> bool:
    """Whether nothing needs to be looked at more closely."""
    for name, value in values.items():  # a loop: most results pass here, and a generator takes twice as long
        if type(value) not in _NUMBERS or type(name) is not str or not name.isascii() or not name:
            return False
    return True


def _flat(
    values: Mapping[Any, Any], where: str, prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Any]]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"{where} {prefix[:40]!r}…: is nested deeper than {_MAX_DEPTH} levels")
    for key, value in values.items():
        if key == "":
            raise ValueError(f"{where} {prefix!r}: a name is empty; give it one")
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise TypeError(f"{where} {key!r}: names must be text, not {type(key).__name__}")
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, where, f"{name}.", depth + 1)
            continue
        plain = plain_scalar(value)
        if type(plain) not in _PLAIN:
            raise TypeError(
                f"{where} {name!r}: a {type(value).__name__} cannot be a column of the run table; give a "
                "number, a text or None"
            )
        yield name, plain


def plain_scalar(value: Any) -> Any:
    """A scalar of any library as Python's; anything else as it is."""
    if type(value) in _PLAIN:
        return value
    for plain in (bool, int, float, str):  # their subclasses, such as numpy.float64 and members of an IntEnum
        if isinstance(value, plain):
            return plain(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "size", 1) != 0:
        try:
            found = item()
        except (TypeError, ValueError, RuntimeError):
            return value  # more than one number
        return found if type(found) in _PLAIN else value
    return float(value) if isinstance(value, Real) else value


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
