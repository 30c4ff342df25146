"""What may be reported: a step's number and its metrics, by the rules of :mod:`trainers.plain_values`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainers.plain_values import plain_row, plain_scalar

MAX_TEXT = 500
"""Characters of a text that is reported, so that a row of one metric is one write to a pipe."""

MAX_NAME = 200
"""Characters of a metric's name, for the same reason."""


def checked_row(step: Any, metrics: Mapping[Any, Any]) -> tuple[int, Mapping[str, Any]]:
    """The step as a plain number and the metrics as plain values.

    Raises:
        TypeError: for a step that is no whole number, or a value that no table can hold; names it.
        ValueError: for a negative step, and a name or a text that is too long; names it.
    """
    number = step if type(step) is int else plain_scalar(step)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(
            f"report: its step is {step!r}, a {type(step).__name__}; give the step's number, such as 3"
        )
    if number < 0:
        raise ValueError(f"report: its step is {number}; steps are counted from 0")
    row = plain_row(metrics, "reported metric")
    for name, value in row.items():
        if name == "step":
            raise ValueError("reported metric 'step': is the step's own name; rename it")
        if len(name) > MAX_NAME:
            raise ValueError(
                f"reported metric {name[:40]!r}…: a name has at most {MAX_NAME} characters; shorten it"
            )
        if type(value) is str and len(value) > MAX_TEXT:
            raise ValueError(
                f"reported metric {name!r}: a text of {len(value)} characters; at most {MAX_TEXT} can be "
                "reported; write it to a file"
            )
    return number, row
