"""The axes of several sweeps together, and how their values are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from sweeps.grid.axes import Axis, Kind
from sweeps.grid.filters import as_text
from sweeps.spec.text import label

SEED = "seed"
"""The axis that tells repeats of a cell apart."""


def words_of(names: str | Iterable[str]) -> list[str]:
    """Names given as a list, or as one text with commas: ``"model,lr"``."""
    if isinstance(names, str):
        return [word.strip() for word in names.split(",") if word.strip()]
    return list(names)


def merge_axes(sweeps: Iterable[Iterable[Axis]]) -> tuple[Axis, ...]:
    """Union of several sweeps' axes, in order of first mention; the seed comes last."""
    merged: dict[str, Axis] = {}
    for axes in sweeps:
        for axis in axes:
            old = merged.get(axis.key, axis)
            kinds = {old.kind, axis.kind}
            kind: Kind = axis.kind if len(kinds) == 1 else "float" if kinds == {"int", "float"} else "str"
            values = (*old.values, *axis.values)
            if kind == "str":
                values = tuple(value if value is None else as_text(value) for value in values)
            merged[axis.key] = Axis(key=axis.key, values=tuple(dict.fromkeys(values)), kind=kind)
    return tuple(sorted(merged.values(), key=lambda axis: axis.key == SEED))


def cell_label(values: Mapping[str, Any]) -> str:
    """``model=tiny-64 optim.lr=1e-4`` for a mapping of axis values; axes that do not exist are left out, and
    named only where nothing else is: ``no schedule.decay_fraction``.
    """
    there = {key: value for key, value in values.items() if not is_absent(value)}
    if not there and values:
        return f"no {', '.join(values)}"
    return " ".join(f"{key}={label(value)}" for key, value in there.items())


def is_absent(value: Any) -> bool:
    """Whether an axis does not exist for a run: ``None``, or NaN as frames write it."""
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)
