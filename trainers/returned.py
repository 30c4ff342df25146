"""What a trainer gave back, as a result: the one place where foreign values are looked at.

A :class:`~trainers.run_result.RunResult` is a result, and so is a mapping of metrics or a bare number.
Its values become plain by :mod:`trainers.plain_values`.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from trainers.plain_values import is_plain, plain_row, plain_scalar
from trainers.run_result import Evaluation, RolloutText, RunResult

RETURNED = "returned"
"""Name of the metric when a bare number is given back."""


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
        number = plain_scalar(value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(
                f"the trainer returned a {type(value).__name__}; return a dict of metrics, such as "
                '{"accuracy": 0.9}, a number, or a trainers.protocol.RunResult'
            )
        result = RunResult(outcome="done", metrics={RETURNED: number})
    result.require_outcome()
    _require_all(result.evaluations, Evaluation, "evaluations")
    _require_all(result.rollouts, RolloutText, "rollouts")
    metrics, steps = plain_row(result.metrics, "metric"), _steps(result.steps)
    if metrics is result.metrics and steps is result.steps:
        return result
    return dataclasses.replace(result, metrics=metrics, steps=steps)


def _steps(rows: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise TypeError(f"steps: a {type(rows).__name__}; give a list with one mapping per step")
    if not rows:
        return rows
    found = [
        row if type(row) is dict and is_plain(row) else plain_row(row, f"steps[{number}]")
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
