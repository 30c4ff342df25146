"""What a trainer gave back, as a result: the one place where foreign values are looked at.

A :class:`~trainers.run_result.RunResult` is a result, and so is a mapping of metrics or a bare number.
Scalars of other libraries (NumPy, torch, JAX, …) become Python's by their ``item()``, nested mappings are
flattened with dots: ``{"eval": {"loss": x}}`` is the metric ``eval.loss``. Whatever no table can hold is
refused, with its name.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from trainers.run_result import Evaluation, RolloutText, RunResult

RETURNED = "returned"
"""Name of the metric when a bare number is given back."""

_NUMBERS = frozenset((float, int, bool, type(None)))
_PLAIN = _NUMBERS | {str}

_MAX_DEPTH = 16
"""Levels of nested mappings that are flattened; more is a structure that holds itself."""


def result_of(value: Any) -> RunResult:
    """The result that a trainer's value stands for.

    Raises:
        TypeError: for a value, a metric or a step's number of a kind that no table can hold.
        ValueError: for an outcome that is none, a name that is none, or a step without its number.
    """
    if isinstance(value, RunResult):
        result = value
    elif isinstance(value, Mapping):
        result = RunResult(outcome="done", metrics=value)
    else:
        number = _scalar(value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(
                f"the trainer returned a {type(value).__name__}; return a dict of metrics, such as "
                '{"accuracy": 0.9}, a number, or a trainers.protocol.RunResult'
            )
        result = RunResult(outcome="done", metrics={RETURNED: number})
    result.require_outcome()
    _require_all(result.evaluations, Evaluation, "evaluations")
    _require_all(result.rollouts, RolloutText, "rollouts")
    metrics, steps = _row(result.metrics, "metric"), _steps(result.steps)
    if metrics is result.metrics and steps is result.steps:
        return result
    return dataclasses.replace(result, metrics=metrics, steps=steps)


def _steps(rows: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise TypeError(f"steps: a {type(rows).__name__}; give a list with one mapping per step")
    found = [
        row if type(row) is dict and _is_plain(row) else _row(row, f"steps[{number}]")
        for number, row in enumerate(rows)
    ]
    for number, row in enumerate(found):
        step = row.get("step")
        if isinstance(step, bool) or not isinstance(step, int):
            raise ValueError(f"steps[{number}]: its 'step' is {step!r}; give the step's number, such as 3")
    return rows if all(map(operator.is_, found, rows)) else found


def _require_all(values: Any, kind: type, where: str) -> None:
    for number, value in enumerate(values):
        if not isinstance(value, kind):
            raise TypeError(
                f"{where}[{number}]: a {type(value).__name__}; give a trainers.protocol.{kind.__name__}"
            )


def _row(values: Any, where: str) -> Mapping[str, Any]:
    """Names and plain values of a mapping; itself where it holds nothing else."""
    if type(values) is dict and _is_plain(values):
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


def _is_plain(values: dict[Any, Any]) -> bool:
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
        if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
            raise TypeError(f"{where} {key!r}: names must be text, not {type(key).__name__}")
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, where, f"{name}.", depth + 1)
            continue
        plain = _scalar(value)
        if type(plain) not in _PLAIN:
            raise TypeError(
                f"{where} {name!r}: a {type(value).__name__} cannot be a column of the run table; give a "
                "number, a text or None"
            )
        yield name, plain


def _scalar(value: Any) -> Any:
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
