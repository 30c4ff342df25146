"""Runs that walk over a training set: without an example of their own, reading of a row what their objective
needs, without a sampler where they draw nothing, and as long as ``epochs`` says.

Works on what is bound (:func:`sweeps.grid.resolve_configs.bind`), a choice of several groups at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.grid.columns import ABSENT, Column, combine
from sweeps.grid.resolve_configs import Bound
from sweeps.manifest.resolve import NO_EXAMPLE
from sweeps.spec import DataSpec, ObjectiveSpec, RunSpec, SpecError, coerce_key, group_from_dict
from sweeps.spec.errors import shown
from sweeps.spec.training_set import steps_of_epochs

if TYPE_CHECKING:
    from sweeps.compose import ComposedSweep

NO_SAMPLING: Mapping[str, Any] = {}
"""Configuration of the sampling of a run that draws no rollouts."""

NEUTRAL = {f.name: f.default for f in fields(ObjectiveSpec)} | {"temperature": 1.0}
"""What an objective says of itself where it says nothing; given completions are compared at temperature 1."""

EPOCHS, STEPS = "epochs", "steps"


def without_examples(
    composed: ComposedSweep, bound: Mapping[str, Bound], columns: Sequence[Column]
) -> tuple[dict[str, Bound], tuple[Column, ...]]:
    """Take the example from runs with a training set: they have none, and no value on an axis of it.

    Raises:
        SpecError: where an example was asked for beside the set.
    """
    walks = np.array([bool(v.get("path") or v.get("mix")) for v in bound["data"].variants])[
        bound["data"].codes
    ]
    if not walks.any():
        return dict(bound), tuple(columns)
    if asked := _asked_of(composed, columns, "example", walks):
        raise SpecError(
            f"{asked}: these runs train on the prompts of a training set (data), not on an example; leave "
            "one of the two out, or put them into sub-grids of their own (sweep.concat)"
        )
    return _without(bound, columns, "example", walks, NO_EXAMPLE)


def with_targets(
    composed: ComposedSweep, bound: Mapping[str, Bound], columns: Sequence[Column]
) -> tuple[dict[str, Bound], tuple[Column, ...]]:
    """Have training sets read what the objective of each run needs of a row; take the sampler from runs that
    draw nothing: they have the default one, and no value on an axis of it.

    Raises:
        SpecError: where a sampler was asked for and no run draws; for an objective that cannot be.
    """
    objectives: list[ObjectiveSpec] = [
        group_from_dict("objective", config) for config in bound["objective"].variants
    ]
    reads = np.array([o.targets for o in objectives])[bound["objective"].codes]
    if not (reads != "").any():
        return dict(bound), tuple(columns)
    data, needs = bound["data"], np.unique(reads, return_inverse=True)
    pairs, codes = np.unique(np.stack([data.codes, needs[1]]), axis=1, return_inverse=True)
    variants = tuple(_reading(data.variants[code], str(needs[0][need])) for code, need in pairs.T.tolist())
    bound = {**bound, "data": Bound(variants=variants, codes=codes.reshape(-1))}
    idle = np.array([not o.draws_rollouts for o in objectives])[bound["objective"].codes]
    rounds = [group_from_dict("curate", config).is_on for config in bound["curate"].variants]
    idle &= ~np.array(rounds)[bound["curate"].codes]  # rounds draw what they train on
    if not idle.any():
        return bound, tuple(columns)
    if idle.all() and (asked := _asked_of(composed, columns, "sampling", idle)):
        raise SpecError(
            f"{asked}: these runs train on given completions and draw no rollouts; leave it out, or weigh a "
            "part of the loss that draws them, such as objective.entropy_weight"
        )
    return _without(bound, columns, "sampling", idle, NO_SAMPLING)


def without_unread(
    composed: ComposedSweep, bound: Mapping[str, Bound], columns: Sequence[Column]
) -> tuple[dict[str, Bound], tuple[Column, ...]]:
    """Take from objectives of given completions what their loss does not read: no value on an axis of it.

    Raises:
        SpecError: where it was asked for and no run reads it.
    """
    given = bound["objective"]
    unread = [group_from_dict("objective", config).unread for config in given.variants]
    for name in sorted({name for names in unread for name in names}):
        key = f"objective.{name}"
        rows = np.array([name in names for names in unread])[given.codes]
        asked = _asked_of(composed, columns, key, rows)
        if asked and rows.all():
            raise SpecError(
                f"{asked}: changes nothing, since these runs train on given completions only; leave it out, "
                "or weigh a part of the loss that reads it, such as objective.entropy_weight"
            )
        if asked:
            variants = tuple(
                {**config, name: NEUTRAL[name]} if name in names else config
                for config, names in zip(given.variants, unread, strict=True)
            )
            given, columns = replace(given, variants=variants), _without_value(columns, key, rows)
    return {**bound, "objective": _merged(given)}, tuple(columns)


def _merged(bound: Bound) -> Bound:
    """The same with equal variants as one."""
    distinct: dict[str, int] = {}
    texts = [json.dumps(variant, sort_keys=True) for variant in bound.variants]
    codes = np.array([distinct.setdefault(text, len(distinct)) for text in texts])
    return Bound(variants=tuple(bound.variants[texts.index(t)] for t in distinct), codes=codes[bound.codes])


def _reading(data: Mapping[str, Any], targets: str) -> Mapping[str, Any]:
    """The configuration of a training set, of whose rows so much is read."""
    return {**data, "targets": targets} if data.get("path") or data.get("mix") else data


def _asked_of(composed: ComposedSweep, columns: Sequence[Column], group: str, rows: np.ndarray) -> str:
    """What was asked of a group for runs that have no use for it; empty for nothing."""
    for column in columns:
        if _is_of(column.key, group) and len(given := np.unique(column.codes[rows])) > 1:
            values = [column.values[code] for code in given if code != ABSENT]
            return shown(f"{column.key}={','.join(map(str, values))}")[1:-1]
    asked = [w for w in composed.overrides if _is_of(w.lstrip("+").partition("=")[0], group)]
    return shown(asked[0])[1:-1] if rows.all() and asked else ""


def _without(
    bound: Mapping[str, Bound],
    columns: Sequence[Column],
    group: str,
    rows: np.ndarray,
    nothing: Mapping[str, Any],
) -> tuple[dict[str, Bound], tuple[Column, ...]]:
    """Give some runs the configuration ``nothing`` of a group, and no value on axes of it."""
    given = bound[group]
    variants = (*given.variants, nothing)
    codes = np.where(rows, len(given.variants), given.codes)
    kept = np.unique(codes)
    renumbered = np.full(len(variants), -1, dtype=np.int64)
    renumbered[kept] = np.arange(len(kept))
    used = Bound(variants=tuple(variants[code] for code in kept.tolist()), codes=renumbered[codes])
    return {**bound, group: used}, _without_value(columns, group, rows)


def _without_value(columns: Sequence[Column], group: str, rows: np.ndarray) -> tuple[Column, ...]:
    """The axes, those of a group (or of a scalar) without a value in some rows."""
    return tuple(
        replace(c, codes=np.where(rows, ABSENT, c.codes).astype(np.int32)) if _is_of(c.key, group) else c
        for c in columns
    )


def _is_of(key: str, group: str) -> bool:
    return key == group or key.startswith(f"{group}.")


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
        if data.mix:
            raise SpecError(
                f"epochs={number:g}: the sets of data.mix end at different times; count in steps (steps=N)"
            )
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
