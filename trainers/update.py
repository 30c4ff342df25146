"""One optimizer step on the rollouts' entropy.

Shapes: B rows of a micro batch, K positions with logits, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeps.spec import RunSpec
from trainers.batch import StepBatch, step_batch
from trainers.compat import defects_of, updates_by
from trainers.engine import Engine
from trainers.forward import policy_logits, sharing_pays
from trainers.gang import Gang
from trainers.model import BaseModel
from trainers.objectives.entropy import token_entropy, weighted_token_sum
from trainers.rollout import Rollouts

OVERFLOWS_TOLERATED = 40
"""Times one fp16 step is taken again at a lower loss scale: from 2^16, DeepSpeed's first, to below any use.
"""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one optimizer step saw."""

    loss: float
    """Objective over all rollouts before the update."""
    entropy_nats: float
    """Mean token entropy at temperature 1, over the same tokens."""
    grad_norm: float
    """Global gradient norm before clipping."""

    @property
    def finite(self) -> bool:
        """False when the run has diverged."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def update_due(spec: RunSpec, step: int) -> bool:
    """Whether ``step`` updates the weights: always, unless the published trainer's step count is
    reproduced.
    """
    defects, total = defects_of(spec.objective), spec.sampling.num_rollouts
    return updates_by(step, total, defects) > updates_by(step - 1, total, defects)


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """The objective's gradient at some weights, kept for runs that step from there at other rates."""

    loss: float
    """The objective."""
    entropy_nats: float
    """Mean token entropy at temperature 1."""
    tensors: Sequence[Tensor]
    """From :meth:`trainers.engine.Engine.gradients`."""


def update_policy(
    spec: RunSpec,
    base: BaseModel,
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    rollouts: Rollouts,
    lr: float,
    gang: Gang,
) -> Update:
    """Take one optimizer step on the token-mean entropy of the rollouts; every rank must call it."""
    batch = _batch(spec, base, prompts, rollouts, gang)
    for _ in range(OVERFLOWS_TOLERATED):
        loss, entropy_nats = _accumulate(spec, engine, batch, gang)
        grad_norm = engine.step(lr)
        # A step is an update: where fp16 overflowed, the same step is taken again at the lowered scale.
        if not engine.overflowed or not math.isfinite(loss):
            break
    return Update(loss=loss, entropy_nats=entropy_nats, grad_norm=grad_norm)


def gradient_of(
    spec: RunSpec,
    base: BaseModel,
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    rollouts: Rollouts,
    gang: Gang,
) -> Gradient:
    """Compute the gradient without stepping, for :func:`update_by`; see ``engine.gradients_can_be_kept``."""
    loss, entropy_nats = _accumulate(spec, engine, _batch(spec, base, prompts, rollouts, gang), gang)
    return Gradient(loss=loss, entropy_nats=entropy_nats, tensors=engine.gradients())


def update_by(gradient: Gradient, engine: Engine, lr: float) -> Update:
    """Take the step that :func:`update_policy` would, from a gradient computed before."""
    engine.set_gradients(gradient.tensors)
    return Update(loss=gradient.loss, entropy_nats=gradient.entropy_nats, grad_norm=engine.step(lr))


def _batch(
    spec: RunSpec,
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    rollouts: Rollouts,
    gang: Gang,
) -> StepBatch:
    return step_batch(
        rollouts,
        prompts,
        size=spec.engine.micro_batch,
        rank=gang.rank,
        world_size=gang.world_size,
        base=base,
        device=gang.device,
        defects=defects_of(spec.objective),
        share_prompt=sharing_pays(spec, prompts),
    )


def _accumulate(spec: RunSpec, engine: Engine, batch: StepBatch, gang: Gang) -> tuple[float, float]:
    """Accumulate the objective's gradient; return the objective and the entropy at temperature 1, in nats."""
    sums = torch.zeros(2, dtype=torch.float64, device=gang.device)
    for some in batch.micro_batches:
        logits_BKV = policy_logits(engine.forward, some)
        with torch.no_grad():
            plain_BK = token_entropy(logits_BKV)
        entropy_BK = token_entropy(logits_BKV, spec.objective.temperature)
        loss = weighted_token_sum(entropy_BK, some.mask_BK, some.weight_B) / batch.num_tokens
        sums[0] += loss.detach()
        sums[1] += weighted_token_sum(plain_BK, some.mask_BK, some.weight_B) / batch.num_tokens
        engine.backward(loss)
    loss_sum, entropy_sum = gang.sum(sums).tolist()
    return loss_sum, entropy_sum
