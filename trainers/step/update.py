"""One optimizer step on an objective.

Shapes: B rows of a micro batch, K positions with logits, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sweeps.spec import ObjectiveSpec, RunSpec
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.objectives.entropy import token_entropy, weighted_token_sum
from trainers.objectives.given import given_loss
from trainers.objectives.loss import aggregate, token_losses
from trainers.step.compat import updates_by
from trainers.step.experience import Experience
from trainers.step.forward import policy_logits

OVERFLOWS_TOLERATED = 40
"""Times one fp16 step is taken again at a lower loss scale: from 2^16, DeepSpeed's first, to below any use.
"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the objective's forward saw, over all rollouts, before the update."""

    loss: float
    entropy_nats: float
    """Mean token entropy at temperature 1, over the same tokens; over given ones where none are drawn."""
    kl_nats: float | None
    """Mean divergence from the reference per token, where the loss holds it."""
    nll_nats: float | None = None
    """Mean negative log-likelihood of given completions per token, where the loss holds it."""


@dataclass(frozen=True, kw_only=True)
class Update(Seen):
    """What one optimizer step saw."""

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
    total = spec.sampling.num_rollouts
    return updates_by(step, total, spec.objective) > updates_by(step - 1, total, spec.objective)


def starts_afresh(spec: RunSpec, step: int) -> bool:
    """Whether ``step``, counted from 1, draws rollouts of its own."""
    return (step - 1) % spec.objective.iterations == 0


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """The objective's gradient at some weights, kept for runs that step from there at other rates."""

    seen: Seen
    tensors: Sequence[Tensor]
    """From :meth:`trainers.engine.engine.Engine.gradients`."""


def update_policy(
    objective: ObjectiveSpec, engine: Engine, experience: Experience, lr: float, gang: Gang
) -> Update:
    """Take one optimizer step on the objective; every rank must call it."""
    for _ in range(OVERFLOWS_TOLERATED):
        seen = _accumulate(objective, engine, experience, gang)
        grad_norm = engine.step(lr)
        # A step is an update: where fp16 overflowed, the same step is taken again at the lowered scale.
        if not engine.overflowed or not math.isfinite(seen.loss):
            break
    return Update(**vars(seen), grad_norm=grad_norm)


def gradient_of(objective: ObjectiveSpec, engine: Engine, experience: Experience, gang: Gang) -> Gradient:
    """Compute the gradient without stepping, for :func:`update_by`; see ``engine.gradients_can_be_kept``."""
    seen = _accumulate(objective, engine, experience, gang)
    return Gradient(seen=seen, tensors=engine.gradients())


def update_by(gradient: Gradient, engine: Engine, lr: float) -> Update:
    """Take the step that :func:`update_policy` would, from a gradient computed before."""
    engine.set_gradients(gradient.tensors)
    return Update(**vars(gradient.seen), grad_norm=engine.step(lr))


def _accumulate(objective: ObjectiveSpec, engine: Engine, experience: Experience, gang: Gang) -> Seen:
    """Accumulate the objective's gradient; return what was seen of all ranks' rollouts."""
    totals = experience.totals
    sums = torch.zeros(3, dtype=torch.float64, device=gang.device)
    for micro_batch, rows in zip(experience.batch.micro_batches, experience.rows, strict=True):
        logits_BKV = policy_logits(engine.forward, micro_batch)
        with torch.no_grad():
            plain_BK = token_entropy(logits_BKV)
            if micro_batch.logged_B is not None:
                logged_rows = replace(rows, count_B=micro_batch.logged_B)
                sums[0] += (token_losses(objective, logits_BKV, logged_rows).loss_BK * rows.mask_BK).sum()
        losses = token_losses(objective, logits_BKV, rows)
        loss = aggregate(losses.loss_BK, rows.mask_BK, objective.aggregation, totals)
        if micro_batch.logged_B is None:
            sums[0] += loss.detach()
        sums[1] += weighted_token_sum(plain_BK, micro_batch.mask_BK, micro_batch.weight_B) / totals.num_tokens
        if losses.divergence_BK is not None:
            divergence_BK = losses.divergence_BK.detach()
            sums[2] += (
                weighted_token_sum(divergence_BK, micro_batch.mask_BK, micro_batch.weight_B)
                / totals.num_tokens
            )
        engine.backward(loss)
    loss_sum, entropy_sum, divergence_sum = gang.sum(sums).tolist()
    if experience.batch.logged_tokens is not None:
        loss_sum = _mean(
            loss_sum, experience.batch.logged_tokens, in_bf16="bf16_entropy" in objective.defects
        )
    in_loss = objective.diverges_in_loss
    seen = Seen(loss=loss_sum, entropy_nats=entropy_sum, kl_nats=divergence_sum if in_loss else None)
    return _with_given(objective, engine, experience, gang, seen) if experience.given else seen


def _with_given(
    objective: ObjectiveSpec, engine: Engine, experience: Experience, gang: Gang, seen: Seen
) -> Seen:
    """Accumulate the gradient of given completions on top; return what was seen of all."""
    given = experience.given
    assert given is not None
    sums = torch.zeros(4, dtype=torch.float64, device=gang.device)
    for micro_batch, rows in zip(given.batch.micro_batches, given.rows, strict=True):
        logits_BKV = policy_logits(engine.forward, micro_batch)
        loss = given_loss(objective, logits_BKV, rows, given.totals)
        num_tokens = given.totals.num_tokens
        seen_here = [
            loss.nll.detach(),
            weighted_token_sum(loss.entropy_BK, micro_batch.mask_BK, micro_batch.weight_B)
            / given.batch.num_tokens,
            -(loss.log_prob_BK * rows.nll_BK).sum() / num_tokens,
        ]
        if loss.divergence_BK is not None:
            seen_here.append((loss.divergence_BK * rows.nll_BK).sum() / num_tokens)
        sums[: len(seen_here)] += torch.stack(seen_here)
        engine.backward(loss.differentiable)
    nll_part, entropy, nll, divergence = gang.sum(sums).tolist()
    return replace(
        seen,
        loss=seen.loss + nll_part + given.sequence_loss,
        entropy_nats=seen.entropy_nats if experience.batch.micro_batches else entropy,
        nll_nats=nll if objective.nll_weight else None,
        kl_nats=divergence if objective.diverges_on_completions else seen.kl_nats,
    )


def _mean(total: float, num: int, *, in_bf16: bool) -> float:
    """A sum over a number; rounded after each operation where they are bfloat16's."""
    if not in_bf16:
        return total / num
    return float(torch.tensor(total, dtype=torch.bfloat16) / num)
