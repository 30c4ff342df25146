"""Runs that walk over a training set: without an example of their own, and as long as ``epochs`` says.

Works on what is bound (:func:`sweeps.grid.resolve_configs.bind`), a choice of several groups at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.grid.columns import ABSENT, Column, combine
from sweeps.grid.resolve_configs import Bound
from sweeps.manifest.resolve import NO_EXAMPLE
from sweeps.spec import DataSpec, RunSpec, SpecError, coerce_key
from sweeps.spec.errors import shown
from sweeps.spec.training_set import steps_of_epochs

if TYPE_CHECKING:
    from sweeps.compose import ComposedSweep

EPOCHS, STEPS = "epochs", "steps"


def without_examples(
    composed: ComposedSweep, bound: Mapping[str, Bound], columns: Sequence[Column]
) -> tuple[dict[str, Bound], tuple[Column, ...]]:
    """Take the example from runs with a training set: they have none, and no value on an axis of it.

    Raises:
        SpecError: where an example was asked for beside the set.
    """
    walks = np.array([bool(v.get("path")) for v in bound["data"].variants])[bound["data"].codes]
    if not walks.any():
        return dict(bound), tuple(columns)
    of_example = [c for c in columns if _is_of(c.key, "example")]
    for column in of_example:
        if len(given := np.unique(column.codes[walks])) > 1:
            values = [column.values[code] for code in given if code != ABSENT]
            raise _two_sources(composed, f"{column.key}={','.join(map(str, values))}")
    asked = [w for w in composed.overrides if _is_of(w.lstrip("+").partition("=")[0], "example")]
    if walks.all() and asked:
        raise _two_sources(composed, asked[0])
    example = bound["example"]
    variants = (*example.variants, NO_EXAMPLE)
    codes = np.where(walks, len(example.variants), example.codes)
    kept = np.unique(codes)
    renumbered = np.full(len(variants), -1, dtype=np.int64)
    renumbered[kept] = np.arange(len(kept))
    used = Bound(variants=tuple(variants[code] for code in kept.tolist()), codes=renumbered[codes])
    return {**bound, "example": used}, _without_value(columns, "example", walks)


def _without_value(columns: Sequence[Column], group: str, rows: np.ndarray) -> tuple[Column, ...]:
    """The axes, those of a group (or of a scalar) without a value in some rows."""
    return tuple(
        replace(c, codes=np.where(rows, ABSENT, c.codes).astype(np.int32)) if _is_of(c.key, group) else c
        for c in columns
    )


def _is_of(key: str, group: str) -> bool:
    return key == group or key.startswith(f"{group}.")


def _two_sources(composed: ComposedSweep, asked: str) -> SpecError:
    return SpecError(
        f"{shown(asked)[1:-1]}: these runs train on the prompts of a training set (data), not on an example; "
        "leave one of the two out, or put them into sub-grids of their own (sweep.concat)"
    )


def walked_steps(
    composed: ComposedSweep,
    bound: Mapping[str, Bound],
    columns: Sequence[Column],
    parts: Mapping[str, Sequence[Any]],
    steps: np.ndarray,
) -> tuple[np.ndarray, tuple[Column, ...]]:
    """The steps of each run, from its epochs where it counts in them, int64 of shape (runs,); and the axes,
    of which one on steps has no value for such a run.

    Raises:
        SpecError: for epochs of no training set, below or at 0, or beside other steps.
    """
    epochs = [coerce_key(EPOCHS, value) for value in bound[EPOCHS].variants]
    if not any(value is not None for value in epochs):
        return steps, tuple(columns)
    walked, counts_in_epochs = steps.copy(), np.zeros(len(steps), dtype=bool)
    together = [bound[EPOCHS].codes, bound["data"].codes, bound["objective"].codes, steps]
    kinds = combine(together, len(steps))
    for kind, row in zip(*np.unique(kinds, return_index=True), strict=True):
        number = epochs[bound[EPOCHS].codes[row]]
        if number is None:
            continue
        data: DataSpec = parts["data"][bound["data"].codes[row]]
        if not data.is_set:
            raise SpecError(f"epochs={number:g}: there is no training set to pass over; name one with data")
        if not 0 < number < 1e9:
            raise SpecError(f"epochs={number:g}: must be a number above 0, such as 1 or 0.5")
        objective = parts["objective"][bound["objective"].codes[row]]
        found = steps_of_epochs(data, number, objective.iterations)
        _require_free(composed, number, int(steps[row]), found)
        walked[kinds == kind], counts_in_epochs[kinds == kind] = found, True
    RunSpec(steps=int(walked.max()))  # its range is an interval
    return walked, _without_value(columns, STEPS, counts_in_epochs)


def _require_free(composed: ComposedSweep, epochs: float, steps: int, found: int) -> None:
    """Refuse other steps beside epochs; what nobody set is 10."""
    is_asked = any(w.lstrip("+").partition("=")[0] == STEPS for w in composed.overrides)
    if (is_asked or steps != RunSpec().steps) and steps != found:
        raise SpecError(f"steps={steps}: epochs={epochs:g} makes it {found:,}; leave one of the two out")
