"""Which runs are trained together in one forward, a *pack*, and why others are not. Pure.

Packing is asked for by ``engine.pack``, the most runs of a pack. Whether a run is packed follows from its own
specification, never from its neighbours': so a run that is retried, resumed or replayed alone has the bits
that it has among others. Members of one pack agree on :func:`pack_key`; rates, schedules, temperatures,
weights of the objective, examples, training sets, seeds and sampling are each one's own.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np

from sweeps.grid.columns import combine
from sweeps.manifest.manifest import Manifest
from sweeps.sharing.stages import evaluation_key, group_text
from sweeps.spec import CurateSpec, EvalSpec, ObjectiveSpec, RunSpec
from sweeps.spec.data_groups import InitSpec, ModelSpec, ResourcesSpec, TrainerSpec
from sweeps.spec.train_groups import EngineSpec, OptimSpec, ScheduleSpec

PACK_GROUPS = ("trainer", "engine", "resources")
"""Groups that members of a pack agree on whole; of ``model`` on all but an adapter's scale, its targets and,
within a tile, its rank; of ``eval`` on all but the steps; of ``sampling`` on the longest completion.
"""

PACKED_TRAINERS = ("trainers.em.EntropyMinimization",)
"""Trainers that train packs."""

PACKED_OPTIMIZER = "adamw"
"""The optimizer of packs."""

_LIKE_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

PACKED_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "qwen2": _LIKE_LLAMA,
    "llama": _LIKE_LLAMA,
    "gemma": _LIKE_LLAMA,
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
}
"""``model_type`` of the models whose layers packs know, and the linear layers of each that packs add low-rank
matrices to.
"""

PACKED_TARGETS = tuple(sorted({target for targets in PACKED_FAMILIES.values() for target in targets}))
"""Those of any family: which one a model is of, its specification does not say."""

RANK_TILE = 8
"""Additions of a rank are filled up to a multiple of it, so that runs of several ranks share a pack."""


def _of_trainer(trainer: TrainerSpec) -> Iterator[str]:
    if trainer.target not in PACKED_TRAINERS:
        yield f"trainer.target={trainer.target}"


def _of_model(model: ModelSpec) -> Iterator[str]:
    for target in model.adapter_targets:
        if model.adapter != "none" and target not in PACKED_TARGETS:
            yield f"model.adapter_targets={target}"


def _of_resources(resources: ResourcesSpec) -> Iterator[str]:
    if resources.save_every_steps:
        yield f"resources.save_every_steps={resources.save_every_steps}"


def _of_engine(engine: EngineSpec) -> Iterator[str]:
    if engine.precision != "fp32":
        yield f"engine.precision={engine.precision}"
    if engine.gradient_checkpointing:
        yield "engine.gradient_checkpointing=true"
    if engine.decoder == "vllm":
        yield f"engine.decoder={engine.decoder}"
    if engine.attention != "sdpa":
        yield f"engine.attention={engine.attention}"


def _of_objective(objective: ObjectiveSpec) -> Iterator[str]:
    if objective.nll_dft or objective.label_smoothing:
        weighed = "nll_dft=true" if objective.nll_dft else f"label_smoothing={objective.label_smoothing:g}"
        yield f"objective.{weighed}"
    if objective.diverges_on_completions:
        yield f"objective.kl_on={objective.kl_on}"
    if objective.max_redraws:
        yield f"objective.max_redraws={objective.max_redraws}"
    if objective.trained_per_prompt:
        yield f"objective.trained_per_prompt={objective.trained_per_prompt}"
    if objective.defects:
        yield f"objective.compat={objective.compat}"
    if objective.diverges_in_loss and objective.kl != "k3":
        yield f"objective.kl={objective.kl}"
    if objective.negative_aware:
        yield "objective.negative_aware=true"


def _of_curate(curate: CurateSpec) -> Iterator[str]:
    if curate.is_on:
        yield f"curate.rounds={curate.rounds}"


def _of_optim(optim: OptimSpec) -> Iterator[str]:
    if optim.name != PACKED_OPTIMIZER:
        yield f"optim.name={optim.name}"
    if optim.half_every_steps:
        yield f"optim.half_every_steps={optim.half_every_steps}"


def _of_schedule(schedule: ScheduleSpec) -> Iterator[str]:
    if schedule.probes:  # a member goes back to where it was, and its mates do not
        yield f"schedule.name={schedule.name}"


def _of_init(init: InitSpec) -> Iterator[str]:
    if init.changes:
        yield "init_from another run of the sweep"


def _of_eval(evaluation: EvalSpec) -> Iterator[str]:
    if evaluation.logit_stats:
        yield "eval.logit_stats=true"


_REASONS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "trainer": _of_trainer,
    "model": _of_model,
    "resources": _of_resources,
    "engine": _of_engine,
    "objective": _of_objective,
    "curate": _of_curate,
    "optim": _of_optim,
    "schedule": _of_schedule,
    "init": _of_init,
    "eval": _of_eval,
}
"""Why a group's value keeps a run out of packs."""


def _of_start(model: ModelSpec, init: InitSpec) -> Iterator[str]:
    if init.runs and model.adapter != "none":  # members that add to weights share those
        yield "init_from a run of another sweep with model.adapter=lora"


def _of_reference(objective: ObjectiveSpec, init: InitSpec) -> Iterator[str]:
    if init.runs and objective.reference == "start":  # members compare with the base model that they share
        yield "objective.reference=start with init_from a run of another sweep"


def _of_ranks(model: ModelSpec, engine: EngineSpec, resources: ResourcesSpec) -> Iterator[str]:
    """Members are dealt out to ranks, which hold shares of the weights that all of them add to."""
    if resources.world_size > 1 and model.adapter == "none":
        yield f"resources.world_size={resources.world_size}"
    if engine.offload:
        yield "engine.offload=true"
    if engine.zero_stage != (3 if resources.world_size > 1 else 0):
        several = " (packs over several ranks take 3)" if resources.world_size > 1 else ""
        yield f"engine.zero_stage={engine.zero_stage}{several}"


_OF_SEVERAL: Mapping[tuple[str, ...], Callable[..., Iterator[str]]] = {
    ("model", "init"): _of_start,
    ("objective", "init"): _of_reference,
    ("model", "engine", "resources"): _of_ranks,
}
"""Why values of several groups keep a run out of packs."""


def _reasons(spec: RunSpec) -> Iterator[str]:
    for group, of in _REASONS.items():
        yield from of(getattr(spec, group))
    for groups, of_several in _OF_SEVERAL.items():
        yield from of_several(*(getattr(spec, group) for group in groups))


def not_packed_because(spec: RunSpec) -> str:
    """Why a run that asks for a pack is trained by itself; empty for one that is packed.

    A trainer may still refuse a model whose layers it does not know.
    """
    return next(_reasons(spec), "")


def is_packed(spec: RunSpec) -> bool:
    return spec.engine.pack > 0 and not not_packed_because(spec)


def packed_rank(model: ModelSpec) -> int:
    """The rank of a member's additions in a pack, which follows from its own."""
    return -(-model.adapter_rank // RANK_TILE) * RANK_TILE


def shared_model(model: ModelSpec) -> ModelSpec:
    """What the members of a pack have in common of their models."""
    return model if model.adapter == "none" else _without_own(model)


@lru_cache(maxsize=256)
def _without_own(model: ModelSpec) -> ModelSpec:
    return dataclasses.replace(model, adapter_rank=packed_rank(model), adapter_alpha=1.0, adapter_targets=())


def _model_text(model: ModelSpec) -> str:
    return group_text(shared_model(model))


def pack_key(spec: RunSpec) -> str:
    """Return the text that the members of a pack agree on."""
    parts = [group_text(getattr(spec, name)) for name in PACK_GROUPS]
    longest = str(spec.sampling.max_new_tokens)
    return "\n".join([_model_text(spec.model), *parts, evaluation_key(spec.eval), longest])


@dataclass(frozen=True, kw_only=True)
class Packing:
    """A manifest's runs by the packs that they may join."""

    pack_of: np.ndarray
    """Number of the packs that a run may join, the same for runs of equal :func:`pack_key`; −1 for a run that
    is trained by itself. int64, shape (runs,).
    """
    refused: Mapping[str, int] = field(default_factory=dict)
    """Runs that ask for a pack and are trained by themselves, by the first reason."""

    @property
    def num_packed(self) -> int:
        return int((self.pack_of >= 0).sum())


def packing_of(manifest: Manifest, further: Iterable[tuple[np.ndarray, str]] = ()) -> Packing:
    """Find which runs are packed.

    Args:
        manifest: the runs.
        further: runs that are known not to be packed, bool of shape (runs,), and the reason.
    """
    num = len(manifest)
    asks = _by_value(manifest, ("engine",), lambda engine: engine.pack > 0)
    if not asks.any():
        return Packing(pack_of=np.full(num, -1, dtype=np.int64))
    counts: Counter[str] = Counter()
    packed = asks
    own = {(group,): of for group, of in _REASONS.items()}
    for groups, of in (own | dict(_OF_SEVERAL)).items():
        first = _by_value(manifest, groups, partial(_first, of))
        counts.update(first[packed & (first != "")].tolist())
        packed = packed & (first == "")
    for rows, reason in further:
        counts[reason] += int((packed & rows).sum())
        packed = packed & ~rows
    judged = _by_value(manifest, ("eval",), evaluation_key)
    longest = _by_value(manifest, ("sampling",), lambda value: str(value.max_new_tokens))
    models = _by_value(manifest, ("model",), _model_text)
    alike = [np.unique(texts, return_inverse=True)[1] for texts in (models, judged, longest)]
    pack_of = combine([*(manifest.group_codes[group] for group in PACK_GROUPS), *alike], num)
    return Packing(pack_of=np.where(packed, pack_of, -1), refused={r: n for r, n in counts.items() if n})


def _first(of: Callable[..., Iterator[str]], *values: Any) -> str:
    """The first reason; empty for none."""
    return next(of(*values), "")


def _by_value(manifest: Manifest, groups: tuple[str, ...], of: Callable[..., Any]) -> np.ndarray:
    """What a function says of each run's values of groups, asked once for each; shape (runs,)."""
    codes = combine([manifest.group_codes[group] for group in groups], len(manifest))
    _, rows, which = np.unique(codes, return_index=True, return_inverse=True)
    return np.array([of(*(manifest.group(g, int(row)) for g in groups)) for row in rows])[which]
