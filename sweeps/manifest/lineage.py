"""What runs start from: ``init_from`` as written, resolved to earlier runs.

Four forms, told apart by their look::

    base                           the base model, as does null
    objective=em example=carry-2   a cell of this sweep, in the filter grammar: the run that agrees with this
                                   one on every axis not named, the seed above all, and starts from the base
                                   model unless init_from is named too
    3f2a9c01d4…                    a run of this sweep by its id, or the beginning of it
    outputs/em/3f2a9c01d4…         a run of another sweep, whose weights were kept

A run of this sweep is trained again as the first phase of those that start from it, in common with every run
that has that phase (:mod:`sweeps.sharing.stages`), so it needs no weights on disk. The optimizer starts anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from sweeps.grid.columns import ABSENT, Table
from sweeps.grid.error_location import at
from sweeps.grid.filters import as_text, parse_filter
from sweeps.grid.resolve_configs import Bound
from sweeps.manifest.data_files import local_path
from sweeps.manifest.manifest import Manifest
from sweeps.spec import GROUPS, RUN_ID_LENGTH, InitSpec, ModelSpec, SpecError, group_from_dict, nearest
from sweeps.spec.curation_checks import check_start

KEY = "init_from"

BASE = "base"
"""The base model, in words."""

RUN_ID = re.compile(rf"[0-9a-f]{{8,{RUN_ID_LENGTH}}}")
"""A run's id or enough of its beginning."""

KEPT = ("model", "trainer", "engine", "resources")
"""Groups in which a run of this sweep must agree with the one it starts from."""

ARCHITECTURE_FREE = frozenset(
    ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "auto_map")
)
"""Keys of a model's ``config.json`` that say nothing about the shapes of its weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """Where each run's training starts."""

    texts: tuple[str | None, ...]
    """``init_from`` of each run; ``None`` for the base model."""
    rows: np.ndarray
    """Row of the cell that it names, int64, shape (runs,); −1 otherwise."""

    @property
    def is_trivial(self) -> bool:
        """Whether every run starts from the base model."""
        return not any(self.texts)

    def by_depth(self) -> list[list[int]]:
        """Rows that name no cell, then rows whose cell is among those before, and so on.

        Raises:
            SpecError: for runs that would start from one another.
        """
        depth = np.where(self.rows < 0, 0, -1)
        levels = [np.flatnonzero(depth == 0).tolist()]
        while (left := np.flatnonzero(depth < 0)).size:
            ready = left[depth[self.rows[left]] >= 0]
            if not ready.size:
                raise SpecError(
                    f"{KEY}={self.texts[left[0]]!r}: runs would start from one another; let one of them "
                    f"start from the base model ({KEY}={BASE})"
                )
            depth[ready] = len(levels)
            levels.append(ready.tolist())
        return levels


def trace(table: Table, written: Bound) -> Lineage:
    """Find the cell that each run starts from.

    Raises:
        SpecError: for a reference to no run of the sweep, or to several.
    """
    variants = [None if text == BASE else text for text in written.variants]
    texts = tuple(variants[code] for code in written.codes.tolist())
    rows = np.full(table.num_runs, -1, dtype=np.int64)
    starts_at_base = np.array([not text for text in variants])[written.codes]
    for code, text in enumerate(variants):
        if text and "=" in text:
            with at("axes", KEY):
                members = np.flatnonzero(written.codes == code)
                rows[members] = _cells_named(table, text, members, starts_at_base)
    return Lineage(texts=texts, rows=rows)


def _cells_named(table: Table, text: str, members: np.ndarray, starts_at_base: np.ndarray) -> np.ndarray:
    """Row that each of ``members`` starts from."""
    named = parse_filter(text, KEY).resolved({c.key: c.kind for c in table.columns}, KEY)
    keys = named.key_names()
    candidates = table.select(named)
    if KEY not in keys:
        candidates &= starts_at_base
    candidate_rows = np.flatnonzero(candidates)
    # An axis that exists under a condition may exist for one side only: it then tells nothing apart.
    shared = [
        c
        for c in table.columns
        if c.key not in (*keys, KEY)
        and (c.codes[candidate_rows] != ABSENT).any()
        and (c.codes[members] != ABSENT).any()
    ]
    by_place: dict[tuple[int, ...], list[int]] = {}
    for row in candidate_rows.tolist():
        by_place.setdefault(tuple(int(c.codes[row]) for c in shared), []).append(row)
    rows = []
    for member in members.tolist():
        matching = by_place.get(tuple(int(c.codes[member]) for c in shared), [])
        if len(matching) != 1:
            cell = " ".join(f"{c.key}={as_text(c.values[c.codes[member]])}" for c in shared)
            if matching:
                rest = [
                    c.key for c in table.columns if c.key not in keys and c not in shared and c.key != KEY
                ]
                raise SpecError(
                    f"{KEY}={text!r}: {len(matching)} runs match for {cell}; name {' or '.join(rest)} too"
                )
            alike = f" with {cell}" if cell else ""
            raise SpecError(
                f"{KEY}={text!r}: no run of this sweep{alike} has {text} and starts from the base model; add "
                "that value to its axis"
            )
        rows.append(matching[0])
    return np.array(rows, dtype=np.int64)


def init_of_cell(
    row: int, parent: int, part_of: Callable[[str, int], tuple[int, str]], scalars: Mapping[str, np.ndarray]
) -> InitSpec:
    """What a run that starts from another row of the sweep holds.

    Args:
        part_of: returns a group's code and JSON for a row; of ``init`` the JSON alone counts.
        scalars: ``steps`` and ``seed`` of every row.

    Raises:
        SpecError: if they train different models, or in different ways.
    """
    changes: dict[str, Any] = {}
    for group in GROUPS:
        (own_code, _), (code, text) = part_of(group, row), part_of(group, parent)
        if group == "init" or own_code != code:
            changes[group] = json.loads(text)
    changes |= {k: int(v[parent]) for k, v in scalars.items() if v[row] != v[parent]}
    for group in KEPT:
        if group in changes:
            raise SpecError(
                f"{KEY}: would start {group}={_name(part_of(group, row)[1])} from a run with "
                f"{group}={_name(part_of(group, parent)[1])}; weights carry over within one {group} only: "
                f"leave {group} out of {KEY}"
            )
    init = InitSpec(changes=changes)
    check_start(group_from_dict("curate", json.loads(part_of("curate", row)[1])), init)
    return init


def _name(text: str) -> str:
    part = json.loads(text)
    return str(part.get("name") or part.get("target") or text)


class KeptWeights(NamedTuple):
    """The weights that a run of another sweep left."""

    run_id: str
    folder: Path
    model: ModelSpec


class EarlierSweep(Protocol):
    """A sweep directory that runs may start from."""

    manifest: Manifest

    def kept_weights(self, row: int, key: str) -> KeptWeights:
        """The final weights of a run by its index; ``key`` is what asks, for messages.

        Raises:
            SpecError: for a run that has no result, or left no weights.
        """
        ...


OpenSweep = Callable[[Path], EarlierSweep]
"""Opens the sweep of a directory; what lies where in one is the store's to know."""


def init_of_run(text: str, model: ModelSpec, open_sweep: OpenSweep | None) -> InitSpec:
    """What a run holds that starts from ``SWEEP_DIR/RUN_ID``.

    Raises:
        SpecError: for a run that does not exist, failed, left no weights, or has another architecture.
    """
    folder, _, beginning = text.rpartition("/")
    if not folder or not RUN_ID.fullmatch(beginning):
        raise SpecError(
            f"{KEY}={text!r}: is neither axis values of this sweep (objective=em), nor a run's id, nor "
            "SWEEP_DIR/RUN_ID"
        )
    if open_sweep is None:
        raise SpecError(f"{KEY}={text!r}: other sweeps cannot be opened here; name a run of this sweep")
    sweep = open_sweep(Path(folder))
    row = row_of_run(sweep.manifest, beginning, f"{KEY}: {folder}")
    run_id, kept, earlier = sweep.kept_weights(row, KEY)
    check_same_architecture(earlier, model, f"{KEY}={text!r}")
    if model.adapter != "none":
        raise SpecError(
            f"{KEY}={text!r}: kept weights hold no adapter to go on with, it is merged into them; start from "
            f"a run of this sweep, or set model.adapter=none"
        )
    return InitSpec(runs=(run_id,), folders=(str(kept),))


def row_of_run(manifest: Manifest, beginning: str, what: str) -> int:
    """Index of the one run whose id begins so.

    Raises:
        SpecError: when none or several match.
    """
    rows = [i for i, run_id in enumerate(manifest.run_ids) if run_id.startswith(beginning)]
    if len(rows) != 1:
        many = f"{len(rows)} runs begin with {beginning!r}; give more digits"
        raise SpecError(
            f"{what}: {many if rows else f'has no run {beginning!r}{nearest(beginning, manifest.run_ids)}'}"
        )
    return rows[0]


def check_same_architecture(earlier: ModelSpec, model: ModelSpec, what: str) -> None:
    """Refuse weights that do not fit a model; a model that is not on this machine cannot be checked here.

    Raises:
        SpecError: naming the first keys in which the configurations differ.
    """
    configs = [_config(earlier), _config(model)]
    if None in configs or configs[0] == configs[1]:
        return
    first, second = configs
    assert first is not None
    assert second is not None
    keys = sorted(k for k in first.keys() | second.keys() if first.get(k) != second.get(k))
    differences = ", ".join(f"{k} {first.get(k)!r} and {second.get(k)!r}" for k in keys[:3])
    raise SpecError(
        f"{what}: {earlier.name} and {model.name} have different architectures ({differences}); "
        "weights fit the model they were trained in only"
    )


def _config(model: ModelSpec) -> dict[str, Any] | None:
    file = local_path(model.path) / "config.json"
    if model.hub_id or not file.is_file():
        return None
    written = json.loads(file.read_text())
    return {k: v for k, v in written.items() if k not in ARCHITECTURE_FREE}


def find_by_id(ids: Sequence[str], beginning: str) -> int:
    """Row of a run of this sweep by its id.

    Raises:
        SpecError: when none or several match.
    """
    rows = [i for i, run_id in enumerate(ids) if run_id and run_id.startswith(beginning)]
    if len(rows) == 1:
        return rows[0]
    many = f"{len(rows)} runs begin so; give more digits"
    none = "this sweep has no such run that starts from the base model; for another's write SWEEP_DIR/RUN_ID"
    raise SpecError(f"{KEY}={beginning!r}: {many if rows else none}")
