"""From a sweep whose weights were kept to the runs that merge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sweeps.grid.axes import resolve
from sweeps.grid.columns import SEED_KEY, Column, column_of_runs
from sweeps.grid.filters import as_text
from sweeps.manifest.assemble import manifest_of_specs
from sweeps.manifest.data_files import file_digest, local_path, stable_path
from sweeps.manifest.lineage import KeptWeights, OpenSweep, check_same_architecture
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.row_fields import read_items
from sweeps.spec import (
    EvalSpec,
    InitSpec,
    ModelSpec,
    RunSpec,
    TrainerSpec,
    canonical_json,
)
from sweeps.spec.errors import UserError, choice

METHODS = ("soup", "greedy", "wise", "lines")
"""Ways of merging: two that put several runs together, two that put a run and its base model together."""

TARGET = "trainers.merging.Merge"
METHOD_KEY, ALPHA_KEY = "merge.method", "merge.alpha"
"""Axes that a merge adds."""


@dataclass(frozen=True, kw_only=True)
class MergeRequest:
    """What to merge, and how."""

    sweep: Path
    methods: Sequence[str]
    """Some of :data:`METHODS`."""
    filters: Sequence[str] = ()
    by: Sequence[str] | None = None
    """Axes that tell soups apart; every axis but the seed unless given."""
    alphas: Sequence[float] = ()
    """Weights of the tuned model for ``wise`` and ``lines``."""
    held_out: str | None = None
    """Benchmark file on which ``greedy`` chooses."""
    keep: bool = False


@dataclass(frozen=True, kw_only=True)
class _Merge:
    spec: RunSpec
    axes: Mapping[str, Any] = field(default_factory=dict)


def merges_of(request: MergeRequest, open_sweep: OpenSweep) -> Manifest:
    """The runs that the wish asks for; ``open_sweep`` opens the directory of the sweep.

    Raises:
        SpecError, UserError: for an unknown method or axis, runs without kept weights, or of several
            architectures, or a held-out set that the benchmark knows.
    """
    for method in request.methods:
        choice("--method", method, METHODS)
    if bad := [a for a in request.alphas if not 0 <= a <= 1]:
        raise UserError(f"--alphas {bad[0]:g}: must lie in [0, 1]")
    sweep = open_sweep(request.sweep)
    source = sweep.manifest
    rows = source.matching(request.filters)
    if not rows:
        raise UserError(f"merge: no run matches {' '.join(request.filters)}")
    kept = {row: sweep.kept_weights(row, "merge") for row in rows}
    merges: list[_Merge] = []
    for method in request.methods:
        if method in ("wise", "lines"):
            merges += _curves(source, method, request, kept)
        else:
            merges += _soups(source, method, request, kept)
    manifest, _ = manifest_of_specs(
        [merge.spec for merge in merges],
        _columns(source, merges),
        sweep=f"{source.sweep}-merged",
        options={**source.options, "sharing": False, "budget": {}},
    )
    return manifest


_Kept = Mapping[int, KeptWeights]


def _curves(source: Manifest, method: str, request: MergeRequest, kept: _Kept) -> list[_Merge]:
    """A run and its base model, once for each weight."""
    return [
        _Merge(
            spec=_spec(source, row, {"method": method, "alpha": alpha}, [kept[row]], request),
            axes=source.axis_values(row) | {METHOD_KEY: method, ALPHA_KEY: alpha},
        )
        for row in kept
        for alpha in request.alphas
    ]


def _soups(source: Manifest, method: str, request: MergeRequest, kept: _Kept) -> list[_Merge]:
    """Runs that agree on some axes, one soup each."""
    axes = [axis.key for axis in source.axes]
    if request.by is None:
        by = [key for key in axes if key != SEED_KEY]
    else:
        by = [resolve(word, axes, "--by axis") for word in request.by]
    groups: dict[str, list[int]] = {}
    for row in kept:
        values = source.axis_values(row)
        groups.setdefault(canonical_json({k: values[k] for k in by}), []).append(row)
    params: dict[str, Any] = {"method": method}
    merges = []
    for rows in groups.values():
        values = source.axis_values(rows[0])
        if method == "greedy":
            params |= _held_out(request.held_out, source.group("eval", rows[0]))
        for row in rows[1:]:
            named = " ".join(f"{k}={as_text(values[k])}" for k in by) or "all runs"
            check_same_architecture(kept[row].model, kept[rows[0]].model, f"merge --by: the soup of {named}")
        members = sorted((kept[row] for row in rows), key=lambda member: member[0])
        axes_of = {k: values[k] for k in by} | {METHOD_KEY: method, SEED_KEY: values.get(SEED_KEY)}
        merges.append(_Merge(spec=_spec(source, rows[0], params, members, request), axes=axes_of))
    return merges


def _held_out(path: str | None, judged: EvalSpec) -> dict[str, Any]:
    """Parameters of a greedy soup, whose held-out items must be new to the benchmark."""
    if path is None:
        raise UserError(
            "--held-out: a greedy soup chooses its members on a set of its own; give a file that shares no "
            "item with the benchmark"
        )
    assert judged.path is not None
    read = partial(read_items, question_field=judged.question_field, answer_field=judged.answer_field)
    known = {item.question for item in read(judged.path, drop_items=judged.drop_items)}
    items = read(path, what="--held-out", system=judged.system, format=judged.format)
    shared = sum(item.question in known for item in items)
    if shared:
        raise UserError(
            f"--held-out {path}: {shared} of its {len(items)} items are in benchmark {judged.name}; what "
            "chooses must not be what judges"
        )
    return {"held_out": stable_path(path), "held_out_digest": file_digest(local_path(path))}


def _spec(
    source: Manifest,
    row: int,
    params: Mapping[str, Any],
    members: Sequence[tuple[str, Path, ModelSpec]],
    request: MergeRequest,
) -> RunSpec:
    policy = "last" if request.keep else "none"
    judged = source.group("eval", row)
    if judged.path is None:
        raise UserError(f"merge: run {source.run_ids[row]} was judged on nothing (eval=none)")
    return RunSpec(
        trainer=TrainerSpec(target=TARGET, params=dict(params)),
        model=source.group("model", row),
        engine=source.group("engine", row),
        eval=replace(judged, steps=(0, 1)),
        resources=replace(source.group("resources", row), keep_checkpoints=policy, save_every_steps=0),
        init=InitSpec(runs=tuple(m[0] for m in members), folders=tuple(str(m[1]) for m in members)),
        steps=1,
        seed=int(source.seeds[row]),
    )


def _columns(source: Manifest, merges: Sequence[_Merge]) -> tuple[Column, ...]:
    """The source's axes and the merge's own; the seed stays last."""
    keys = [a.key for a in source.axes if a.key != SEED_KEY]
    given = {
        key: [merge.axes.get(key) for merge in merges] for key in (*keys, METHOD_KEY, ALPHA_KEY, SEED_KEY)
    }
    return tuple(
        column_of_runs(key, values) for key, values in given.items() if any(v is not None for v in values)
    )
