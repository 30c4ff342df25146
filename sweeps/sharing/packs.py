"""Which runs are trained together in one forward, a *pack*, and why others are not. Pure.

Packing is asked for by ``engine.pack``, the most runs of a pack. Whether a run is packed follows from its own
specification, never from its neighbours': so a run that is retried, resumed or replayed alone has the bits
that it has among others. Members of one pack agree on :func:`pack_key`; rates, schedules, temperatures,
weights of the objective, examples, seeds and sampling are each one's own.
"""

from __future__ import annotations

import dataclasses

from sweeps.spec import RunSpec, canonical_json, group_to_dict

PACK_GROUPS = ("model", "trainer", "engine", "resources")
"""Groups that members of a pack agree on whole."""

PACKED_TRAINERS = ("trainers.em.EntropyMinimization",)
"""Trainers that train packs."""

PACKED_MAX_TOKENS = 64
"""Longest completion of a packed run: rollouts of packs are decoded as trees (:mod:`trainers.decoding`)."""


def not_packed_because(spec: RunSpec) -> str:
    """Why a run that asks for a pack is trained by itself; empty for one that is packed.

    A trainer may still refuse a model whose layers it does not know.
    """
    engine, objective = spec.engine, spec.objective
    reasons = (
        (spec.trainer.target not in PACKED_TRAINERS, f"trainer.target={spec.trainer.target}"),
        (spec.model.adapter != "none", f"model.adapter={spec.model.adapter}"),
        (spec.resources.world_size > 1, f"resources.world_size={spec.resources.world_size}"),
        (spec.resources.gpus_per_worker > 0, f"resources.gpus_per_worker={spec.resources.gpus_per_worker:g}"),
        (
            bool(spec.resources.save_every_steps),
            f"resources.save_every_steps={spec.resources.save_every_steps}",
        ),
        (engine.precision != "fp32", f"engine.precision={engine.precision}"),
        (engine.zero_stage > 0, f"engine.zero_stage={engine.zero_stage}"),
        (engine.micro_batch > 0, f"engine.micro_batch={engine.micro_batch}"),
        (engine.gradient_checkpointing, "engine.gradient_checkpointing=true"),
        (engine.decoder not in ("auto", "tree"), f"engine.decoder={engine.decoder}"),
        (
            spec.sampling.max_new_tokens > PACKED_MAX_TOKENS,
            f"sampling.max_new_tokens={spec.sampling.max_new_tokens} above {PACKED_MAX_TOKENS}",
        ),
        (engine.attention != "sdpa", f"engine.attention={engine.attention}"),
        (bool(spec.optim.half_every_steps), f"optim.half_every_steps={spec.optim.half_every_steps}"),
        (objective.is_policy_gradient or objective.kl_coef > 0, f"objective={objective.name}"),
        (bool(objective.defects), f"objective.compat={objective.compat}"),
        (bool(spec.init.changes), "init_from another run of the sweep"),
        (spec.eval.logit_stats, "eval.logit_stats=true"),
    )
    return next((reason for applies, reason in reasons if applies), "")


def is_packed(spec: RunSpec) -> bool:
    return spec.engine.pack > 0 and not not_packed_because(spec)


def pack_key(spec: RunSpec) -> str:
    """Return the text that the members of a pack agree on."""
    parts = {name: group_to_dict(getattr(spec, name)) for name in PACK_GROUPS}
    judged = group_to_dict(dataclasses.replace(spec.eval, steps=()))
    return canonical_json(parts | {"eval": judged, "max_new_tokens": spec.sampling.max_new_tokens})
