"""From a composed sweep to its manifest: expand, resolve, check, identify.

Runs are ordered for locality: by model, then by what lets neighbours share work (example, sampling, seed,
objective, optimizer).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sweeps.grid.columns import SEED_KEY, Table, combine
from sweeps.grid.error_location import at, mistakes_in
from sweeps.grid.expand import expand
from sweeps.grid.resolve_configs import Bound, bind, references
from sweeps.manifest.assemble import assemble
from sweeps.manifest.lineage import OpenSweep, trace
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.prompts import check_formats, check_labels, check_lengths, check_set_lengths
from sweeps.manifest.resolve import Need, resolve_group
from sweeps.manifest.run_ids import Unidentified, identify
from sweeps.manifest.walks import walked_steps, with_targets, without_examples, without_unread
from sweeps.spec import (
    GROUPS,
    RunSpec,
    canonical_of,
    changed_group,
    coerce_key,
    group_from_dict,
    key_texts,
    text_of,
)
from sweeps.spec.command_words import check_axes, check_command
from sweeps.spec.cross_checks import (
    check_fit,
    check_measured,
    check_norms,
    check_params,
    check_patterns,
    check_probed_length,
    check_probes,
    check_sharded,
    check_trainable,
)
from sweeps.spec.curation import CurateSpec
from sweeps.spec.curation_checks import check_curation, check_rounds
from sweeps.spec.data_groups import TrainerSpec

if TYPE_CHECKING:
    from sweeps.compose import ComposedSweep

LOCALITY = (
    "model",
    "trainer",
    "engine",
    "resources",
    "example",
    "data",
    "curate",
    "sampling",
    "seed",
    "objective",
    "optim",
    "schedule",
)
"""Groups by which runs are sorted, the most expensive to change first; evaluation and horizon come last."""


class Known:
    """What was resolved and checked before, for manifests of one sweep that are made piece by piece."""

    def __init__(self) -> None:
        self.resolved: dict[tuple[str, str], _Resolved] = {}
        self.located: dict[str, tuple[dict[str, Any], Need | None]] = {}
        self.newest: dict[str, _Made] = {}
        self.checked: set[tuple[Any, ...]] = set()

    def forget_beyond(self, most: int) -> None:
        """Begin anew once more than so many configurations are known; they may never come again."""
        if len(self.resolved) > most:
            self.resolved.clear()
            self.checked.clear()


MOST_KNOWN = 20_000
"""Configurations that are remembered between the pieces of a sweep: some 60 MB."""


class _Made(NamedTuple):
    """A configuration of a group as it is read."""

    resolved: Mapping[str, Any]
    part: Any
    texts: Mapping[str, str]
    """Canonical JSON of each value, by key."""


class _Resolved(NamedTuple):
    """One configuration of a group."""

    part: Any
    text: str
    canonical: str
    need: Need | None


def build_manifest(composed: ComposedSweep, open_sweep: OpenSweep | None = None) -> Manifest:
    """Expand, resolve and identify every run of a composed sweep, in time linear in their number.

    Each distinct configuration of a group is resolved, checked and serialised once; a run costs one hash.

    Args:
        open_sweep: opens the directory of another sweep that runs start from.

    Raises:
        SpecError: for what :func:`~sweeps.grid.expand.expand`, :func:`~sweeps.grid.resolve_configs.bind`,
            :func:`~sweeps.manifest.resolve.resolve_group`, a group's own rules or those between groups
            refuse.
    """
    with mistakes_in(composed.source):
        table = expand(composed.grid, _defaults(composed))
    return manifest_of_table(composed, table, open_sweep)


def manifest_of_table(
    composed: ComposedSweep,
    table: Table,
    open_sweep: OpenSweep | None = None,
    *,
    known: Known | None = None,
    by_locality: bool = True,
) -> Manifest:
    """Resolve and identify the runs of a table, as :func:`build_manifest` does those of a grid.

    Args:
        known: what earlier calls for the same sweep have found; this one adds to it.
        by_locality: put runs that share work beside each other, rather than leave them in the table's order.
    """
    known = known or Known()
    folder = composed.source.parent if composed.source else None
    with mistakes_in(composed.source):
        bound = bind(composed.layers, table)
        lineage = trace(table, bound["init_from"])
        bound, columns = without_examples(composed, bound, table.columns)
        bound, columns = with_targets(composed, bound, columns)
        bound, columns = without_unread(composed, bound, columns)
    groups: dict[str, tuple[str, ...]] = {}
    codes: dict[str, np.ndarray] = {}
    fragments: dict[str, list[str]] = {}
    parts: dict[str, list[Any]] = {group: [] for group in GROUPS}
    needs: dict[Need, None] = {}
    for group in GROUPS:
        texts, canonical = [], []
        of_group = bound[group]
        spelled = of_group.texts or [json.dumps(v, sort_keys=True) for v in of_group.variants]
        for config, written in zip(of_group.variants, spelled, strict=True):
            found = _resolved(known, group, config, written, folder)
            texts.append(found.text)
            canonical.append(found.canonical)
            if found.need is not None:
                needs[found.need] = None
            parts[group].append(found.part)
        groups[group], codes[group], fragments[group] = tuple(texts), bound[group].codes, canonical
    _check_together(parts, codes, known)
    with mistakes_in(composed.source):
        axes = [c.key for c in table.columns if len(c.values) > 1]
        check_axes(parts["trainer"], axes, references(_trainers_as_written(composed)))
    steps, seeds = _scalars("steps", bound["steps"]), _scalars("seed", bound["seed"])
    with mistakes_in(composed.source):
        steps, columns = walked_steps(composed, bound, columns, parts, steps)
    lengths = _own_steps(parts["curate"], codes["curate"], steps)
    for schedule, number in sorted({*zip(codes["schedule"].tolist(), lengths.tolist(), strict=True)}):
        check_norms(parts["schedule"][schedule], number)
        check_probed_length(parts["schedule"][schedule], number)
    with mistakes_in(composed.source), at("axes", "init_from"):
        identities = identify(
            Unidentified(
                texts=groups,
                canonical=fragments,
                codes=codes,
                models=parts["model"],
                steps=steps,
                seeds=seeds,
            ),
            lineage,
            open_sweep,
        )
    groups["init"], codes["init"] = identities.inits, identities.init_codes
    manifest = assemble(
        sweep=composed.name,
        run_ids=identities.run_ids,
        columns=columns,
        groups=groups,
        group_codes=codes,
        steps=steps,
        seeds=seeds,
        order=_locality(codes, steps, seeds) if by_locality else None,
        options=dict(composed.options),
        overrides=composed.overrides,
        needs=tuple(needs),
    )
    if known is not None:
        manifest.keep_parsed({(g, code): part for g in parts for code, part in enumerate(parts[g])})
        known.forget_beyond(MOST_KNOWN)
    return manifest


def _resolved(
    known: Known, group: str, config: Mapping[str, Any], written: str, folder: Path | None
) -> _Resolved:
    key = group, written
    if key not in known.resolved:
        resolved, need = _located(known, group, config, folder)
        made = known.newest[group] = _made(group, resolved, known.newest.get(group))
        text, canonical = text_of(made.part, made.texts), canonical_of(made.part, made.texts)
        known.resolved[key] = _Resolved(made.part, text, canonical, need)
    return known.resolved[key]


def _made(group: str, resolved: Mapping[str, Any], like: _Made | None) -> _Made:
    """A configuration as its dataclass; of one that is made much like another only what differs is read."""
    if like is not None and like.resolved.keys() == resolved.keys():
        changed = {k: v for k, v in resolved.items() if not _is_same(v, like.resolved[k])}
        if len(changed) < len(resolved):
            part = changed_group(group, like.part, changed)
            return _Made(
                resolved, part, {**like.texts, **key_texts(group, part, changed)} if changed else like.texts
            )
    part = group_from_dict(group, resolved)
    return _Made(resolved, part, key_texts(group, part))


def _is_same(value: Any, other: Any) -> bool:
    """Whether both are one object, or equal and without parts."""
    if value is other:
        return True
    return type(value) is type(other) and isinstance(value, (str, int, float)) and repr(value) == repr(other)


def _located(
    known: Known, group: str, config: Mapping[str, Any], folder: Path | None
) -> tuple[dict[str, Any], Need | None]:
    """What a configuration points at; parameters of a trainer point at nothing."""
    if group != "trainer" or not config.get("params"):
        return resolve_group(group, config, folder)
    without = {**config, "params": None}
    key = json.dumps(without, sort_keys=True)
    if key not in known.located:
        known.located[key] = resolve_group(group, without, folder)
    resolved, need = known.located[key]
    return {**resolved, "params": config["params"]}, need


def _trainers_as_written(composed: ComposedSweep) -> list[Any]:
    """What files and words say of the trainer, references and all."""
    layers = composed.layers
    ruled = [v for rule in layers.rules for k, v in rule.assign.items() if k.startswith("trainer.")]
    return [layers.base["trainer"], *layers.options.get("trainer", {}).values(), *ruled]


def _defaults(composed: ComposedSweep) -> dict[str, Any]:
    """What an axis holds in a sub-grid that does not set it: the base option or value."""
    values: dict[str, Any] = dict(composed.choices)
    for key in composed.grid.key_names():
        group, _, rest = key.partition(".")
        if key not in values:
            value: Any = composed.base.get(group)
            for name in rest.split(".") if rest else ():
                value = value.get(name) if isinstance(value, Mapping) else None
            values[key] = value
    return values


def _check_together(
    parts: Mapping[str, Sequence[Any]], codes: Mapping[str, np.ndarray], known: Known
) -> None:
    """Hold each distinct choice of several groups against the rules between them, once."""
    everywhere = np.ones(len(codes["model"]), dtype=bool)
    ours = np.array([t.target == TrainerSpec().target for t in parts["trainer"]])[codes["trainer"]]
    for check, rows, *together in (
        (check_fit, everywhere, "objective", "sampling", "example", "data"),
        (check_curation, everywhere, "curate", "data", "objective"),
        (check_trainable, everywhere, "model", "optim", "engine"),
        (check_sharded, everywhere, "optim", "engine", "resources"),
        (check_patterns, everywhere, "eval", "objective", "curate"),
        (check_measured, everywhere, "eval", "objective"),
        (check_probes, everywhere, "schedule", "trainer", "objective", "curate"),
        (check_params, everywhere, "trainer"),
        (check_command, everywhere, "trainer", "resources"),
        (check_formats, ours, "model", "example", "data", "eval"),
        (check_lengths, ours, "model", "example", "sampling"),
        (check_labels, everywhere, "data", "curate"),
        (check_set_lengths, ours, "model", "data", "objective", "curate", "sampling"),
    ):
        columns = [codes[group][rows] for group in together]
        _, firsts = np.unique(combine(columns, int(rows.sum())), return_index=True)
        for row in firsts.tolist():
            chosen = [parts[g][column[row]] for g, column in zip(together, columns, strict=True)]
            checked = (check, *map(id, chosen))  # what is known of keeps them alive
            if checked not in known.checked:
                check(*chosen)
                known.checked.add(checked)


def _own_steps(curates: Sequence[CurateSpec], codes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Optimizer steps of each run's last round, int64 of shape (runs,)."""
    for curate, number in sorted({*zip(codes.tolist(), steps.tolist(), strict=True)}):
        check_rounds(curates[curate], number)
    lengths: np.ndarray = steps // np.array([curate.num_rounds for curate in curates])[codes]
    return lengths


def _scalars(key: str, bound: Bound) -> np.ndarray:
    values = [coerce_key(key, v) for v in bound.variants]
    for extreme in (min(values), max(values)):
        RunSpec(**{key: extreme})  # its range is an interval, so the ends decide
    return np.asarray(np.array(values, dtype=np.int64)[bound.codes])


def _locality(codes: Mapping[str, np.ndarray], steps: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the order of runs in which neighbours share most."""
    keys = [seeds if name == SEED_KEY else codes[name] for name in LOCALITY]
    order: np.ndarray = np.lexsort([codes["eval"], steps, *reversed(keys)])
    return order
