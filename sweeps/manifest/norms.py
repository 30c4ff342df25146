"""Gradient norms of a first run, read from a table of its steps."""

from __future__ import annotations

import math
from typing import Any

from sweeps.manifest.data_files import stable_path
from sweeps.manifest.row_fields import Source, field_of
from sweeps.manifest.row_files import read_rows
from sweeps.spec import ScheduleSpec, SpecError, coerce_key
from sweeps.spec.errors import cut, shown
from sweeps.spec.identity import plain

KEY = "schedule.norms_path"

STEP = "step"
"""Column of the step's number, from 1; rows without a norm, such as step 0 that is judged only, are passed
over.
"""


def resolve_schedule(config: dict[str, Any]) -> tuple[dict[str, Any], None]:
    """Read the gradient norms of a first run into a schedule that is refined from them.

    Raises:
        SpecError: for a file that is missing or holds no norm for some step.
    """
    path = config.get("norms_path")
    if not path:
        return config, None
    config = {key: plain(coerce_key(f"schedule.{key}", value)) for key, value in config.items()}
    if config.get("norms"):
        raise SpecError("schedule.norms: is read from schedule.norms_path; set one of them")
    field = config.get("norms_field", ScheduleSpec().norms_field)
    return config | {"norms_path": stable_path(path), "norms": norms_of(path, field)}, None


def norms_of(path: str, field: str) -> list[float]:
    """The norm of each step, from 1 on: the mean of a step's rows, which may be of several seeds.

    Raises:
        SpecError: for a missing file or column, a value that is no number, or a step without one.
    """
    found: dict[int, list[float]] = {}
    for number, row in enumerate(read_rows(path, KEY)):
        if STEP not in row:
            raise SpecError(
                f"{KEY}={shown(path)}: has no column {STEP}, only {cut(', '.join(map(str, row)))}; save the "
                "steps of a first run with it"
            )
        values = [
            _number(field_of(row, Source(path=path, number=number, key=key, field=name)), f"{path}: {name}")
            for key, name in ((KEY, STEP), ("schedule.norms_field", field))
        ]
        step, norm = values
        if step is not None and not step.is_integer():
            raise SpecError(f"{KEY}={path!r}: {STEP}={step:g}: is no step; number them 1, 2, 3")
        if step is not None and norm is not None:
            found.setdefault(int(step), []).append(norm)
    if missing := [step for step in range(1, max(found, default=1) + 1) if step not in found]:
        raise SpecError(f"{KEY}={path!r}: holds no {field} of step {missing[0]}; give one for every step")
    return [sum(found[step]) / len(found[step]) for step in sorted(found) if step >= 1]


def _number(value: object, what: str) -> float | None:
    """A cell of a table; ``None`` for an empty one."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SpecError(f"{KEY}: {what}={shown(value)}: is no number")
    return number
