"""A run's configuration, frozen: :class:`RunSpec` and its plain forms."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from sweeps.spec.cross_checks import (
    check_fit,
    check_measured,
    check_norms,
    check_probed_length,
    check_probes,
    check_sharded,
    check_trainable,
)
from sweeps.spec.curation import CurateSpec
from sweeps.spec.curation_checks import check_curation, check_rounds, check_start
from sweeps.spec.data_groups import EvalSpec, ExampleSpec, InitSpec, ModelSpec, ResourcesSpec, TrainerSpec
from sweeps.spec.errors import SpecError, cut, nearest, require, shown
from sweeps.spec.identity import (
    canonical_json,
    group_canonical,
    group_to_dict,
    join_run_id,
    key_of,
    lineage_canonical,
)
from sweeps.spec.objective import ObjectiveSpec
from sweeps.spec.train_groups import EngineSpec, OptimSpec, SamplingSpec, ScheduleSpec
from sweeps.spec.training_set import DataSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """One run, complete: nothing outside it is needed to compute the result."""

    trainer: TrainerSpec = field(default_factory=TrainerSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    example: ExampleSpec = field(default_factory=ExampleSpec)
    data: DataSpec = field(default_factory=DataSpec)
    curate: CurateSpec = field(default_factory=CurateSpec)
    objective: ObjectiveSpec = field(default_factory=ObjectiveSpec)
    optim: OptimSpec = field(default_factory=OptimSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    sampling: SamplingSpec = field(default_factory=SamplingSpec)
    engine: EngineSpec = field(default_factory=EngineSpec)
    eval: EvalSpec = field(default_factory=EvalSpec)
    resources: ResourcesSpec = field(default_factory=ResourcesSpec)
    init: InitSpec = field(default_factory=InitSpec)
    steps: int = 10
    """Optimizer steps. A step is one update of the weights, whatever the micro batch or world size."""
    seed: int = 0
    """Keys every random draw of the run."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", self.steps, "must be at least 1")
        require(self.steps < 2**31, "steps", self.steps, "must be below 2^31")
        require(0 <= self.seed < 2**63, "seed", self.seed, "must lie in [0, 2^63)")
        check_fit(self.objective, self.sampling, self.example, self.data)
        check_measured(self.eval, self.objective)
        check_curation(self.curate, self.data, self.objective)
        check_start(self.curate, self.init)
        check_trainable(self.model, self.optim, self.engine)
        check_rounds(self.curate, self.steps)
        check_norms(self.schedule, self.own_steps)
        check_probes(self.schedule, self.trainer, self.objective, self.curate)
        check_probed_length(self.schedule, self.own_steps)
        check_sharded(self.optim, self.engine, self.resources)

    @property
    def run_id(self) -> str:
        """First 32 hex digits of SHA-256 over the canonical science part."""
        return run_id_of(self)

    @property
    def parent(self) -> RunSpec | None:
        """The run of the same sweep that this one starts from; ``None`` if it is no run of the sweep."""
        if not self.init.changes:
            return None
        fields = spec_to_dict(self)
        return spec_from_dict(fields | {"init": {}} | dict(self.init.changes))

    @property
    def own_steps(self) -> int:
        """Optimizer steps of its last phase (:func:`phases_of`): of a run in rounds, those of one."""
        return self.steps // self.curate.num_rounds

    @property
    def steps_before(self) -> int:
        """Optimizer steps of its earlier rounds."""
        return self.steps - self.own_steps

    @property
    def num_draws(self) -> int:
        """Times that its last phase draws completions: at every step, once a round, or never."""
        if self.curate.is_on or not self.objective.draws_rollouts:
            return int(self.curate.is_on)
        return self.own_steps + self.schedule.undone_draws(self.own_steps)

    @property
    def num_updates(self) -> int:
        """Optimizer steps that its last phase computes, with those that try rates and are undone."""
        return self.own_steps + self.schedule.undone_steps(self.own_steps)

    @property
    def rollouts_at_once(self) -> int:
        """Completions that it draws at once."""
        if self.curate.is_on:
            return (self.curate.prompts or self.data.num_rows) * self.curate.completions
        return self.sampling.num_rollouts if self.objective.draws_rollouts else 0

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """Steps at which the run is evaluated, ascending; empty when there is no benchmark."""
        if self.eval.path is None:
            return ()
        return tuple(sorted({s for s in self.eval.steps if s <= self.steps} | {self.steps}))


GROUPS: tuple[str, ...] = tuple(
    f.name for f in dataclasses.fields(RunSpec) if f.name not in ("steps", "seed")
)
"""Names of the spec's groups, in the order of :class:`RunSpec`."""

SCALARS = ("steps", "seed", "init_from", "epochs")
"""Top-level keys of a run's configuration that are not groups. ``init_from`` names an earlier run and becomes
the group ``init``; ``epochs`` counts passes over a training set and becomes ``steps``.
"""

_SCALAR_TYPES: Mapping[str, Any] = {"init_from": str | None, "epochs": float | None}
"""Those that are no whole numbers."""

_FILLED_IN = ("init",)
"""Groups that nobody sets by hand."""


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@cache
def _keys(group: str) -> dict[str, Any]:
    """The keys of a group with the types of their values."""
    return {key_of(name): hint for name, hint in _hints(group_type(group)).items()}


@cache
def _field_names(group: str) -> dict[str, str]:
    return {key_of(name): name for name in _hints(group_type(group))}


def group_type(name: str) -> type:
    kind: type = _hints(RunSpec)[name]
    return kind


def known_keys() -> list[str]:
    """Every dotted key of a spec, such as ``optim.lr``."""
    groups = [g for g in GROUPS if g not in _FILLED_IN]
    keys = [f"{g}.{key}" for g in groups for key in _keys(g)]
    return [*keys, *SCALARS]


def spec_from_dict(data: Mapping[str, Any]) -> RunSpec:
    """Build a spec from nested plain data, refusing unknown keys and wrong types.

    Raises:
        SpecError: for an unknown key (with the nearest known ones), a wrong type or a value out of range.
    """
    unknown = [k for k in data if k not in (*GROUPS, "steps", "seed")]
    if unknown:
        raise SpecError(f"unknown key {unknown[0]!r}{nearest(unknown[0], (*GROUPS, 'steps', 'seed'))}")
    parts: dict[str, Any] = {g: group_from_dict(g, data[g]) for g in GROUPS if g in data}
    for key in ("steps", "seed"):
        if key in data:
            parts[key] = _coerce(key, data[key], int)
    return RunSpec(**parts)


def group_from_dict(group: str, data: Mapping[str, Any]) -> Any:
    """Build one group's dataclass from plain data; raises as :func:`spec_from_dict` does."""
    kind, hints, names = group_type(group), _keys(group), _field_names(group)
    for key in data:
        if key not in hints:
            raise SpecError(f"unknown key {f'{group}.{key}'!r}{nearest(f'{group}.{key}', known_keys())}")
    return kind(**{names[k]: _coerce(f"{group}.{k}", v, hints[k]) for k, v in data.items()})


def changed_group(group: str, part: Any, data: Mapping[str, Any]) -> Any:
    """The group with other values at some keys; raises as :func:`spec_from_dict` does."""
    hints, names = _keys(group), _field_names(group)
    return replace(part, **{names[k]: _coerce(f"{group}.{k}", v, hints[k]) for k, v in data.items()})


def coerce_key(key: str, value: Any) -> Any:
    """Return ``value`` as the dotted ``key`` holds it; raises as :func:`spec_from_dict` does.

    Free parameters below ``trainer.params`` are returned as they are.
    """
    if key in SCALARS:
        return _coerce(key, value, _SCALAR_TYPES.get(key, int))
    group, _, name = key.partition(".")
    hints = _keys(group) if group in GROUPS else {}
    if key == "trainer.command" and isinstance(value, list | tuple):
        value = [_as_word(word) for word in value]
    if key == "trainer.metrics_from" and isinstance(value, str):
        value = [value]
    if name in hints:
        return _coerce(key, value, hints[name])
    if group in GROUPS and name.partition(".")[0] in _free_fields(group):
        return value
    raise SpecError(f"unknown key {key!r}{nearest(key, known_keys())}")


def _as_word(value: Any) -> Any:
    """A word of a command, which YAML may have taken for a number, a truth value or nothing."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, int | float) else value


def _free_fields(group: str) -> list[str]:
    hints = _keys(group)
    return [k for k, h in hints.items() if typing.get_origin(h) in (Mapping, dict)]


def _coerce(key: str, value: Any, hint: Any) -> Any:
    """Return ``value`` as ``hint`` asks, without losing information; raise :class:`SpecError` otherwise."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        *others, last = (a for a in reversed(args) if a is not type(None))
        for option in others:
            with suppress(SpecError):
                return _coerce(key, value, option)
        return _coerce(key, value, last)
    if origin is Literal:
        return _coerce(key, value, str)  # the group says which texts it takes
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise SpecError(f"{key}={shown(value)}: must be a list, such as [{cut(str(value))}]")
        return tuple(_coerce(key, v, args[0]) for v in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise SpecError(f"{key}={shown(value)}: must be a mapping")
        read = json.loads(canonical_json(value, key))
        return {name: read[name] for name in value}
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise SpecError(f"{key}={shown(value)}: must be a number that fits 64 bits; give a smaller one")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, hint) and not (hint in (int, float) and isinstance(value, bool)):
        return value
    raise SpecError(
        f"{key}={shown(value)}: must be {_TYPE_WORDS.get(hint, hint)}, not {type(value).__name__}"
    )


_TYPE_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def spec_to_dict(spec: RunSpec) -> dict[str, Any]:
    """The whole spec as plain JSON values; ``spec_from_dict`` is its inverse."""
    return {g: group_to_dict(getattr(spec, g)) for g in GROUPS} | {"steps": spec.steps, "seed": spec.seed}


def run_id_of(spec: RunSpec) -> str:
    parent = spec.parent
    parents = (run_id_of(parent),) if parent else spec.init.runs
    fragments = {g: group_canonical(g, getattr(spec, g)) for g in GROUPS}
    return join_run_id(fragments | {"init": lineage_canonical(parents)}, spec.steps, spec.seed)


def phases_of(spec: RunSpec) -> tuple[RunSpec, ...]:
    """The runs that a run goes through, the earliest first and itself last.

    A phase begins where the one before ends, with a fresh optimizer: a run that starts from another begins
    after it, and round t of a run that goes in rounds is the run of t rounds, after that of t − 1.
    """
    phases = rounds_of(spec)
    while (parent := phases[0].parent) is not None:
        phases = (*rounds_of(parent), *phases)
    return phases


def rounds_of(spec: RunSpec) -> tuple[RunSpec, ...]:
    """The run after each of its rounds, itself last; itself alone where it does not go in rounds."""
    earlier = (
        dataclasses.replace(
            spec, steps=number * spec.own_steps, curate=dataclasses.replace(spec.curate, rounds=number)
        )
        for number in range(1, spec.curate.num_rounds)
    )
    return (*earlier, spec)
