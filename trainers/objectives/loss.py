"""An objective's loss, put together from its parts; the one entry that training uses.

Shapes: B rows (distinct rollouts), K positions with logits, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sweeps.spec.objective import ObjectiveSpec
from trainers.objectives.divergence import divergence
from trainers.objectives.entropy import bf16_entropy, token_entropy
from trainers.objectives.likelihood import token_terms
from trainers.objectives.policy import negative_aware, reinforce, surrogate


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What the loss knows about the rows of a micro batch beside their logits."""

    target_BK: Tensor
    mask_BK: Tensor
    """True where the loss counts a position."""
    count_B: Tensor
    """Copies that each row stands for, or their weight in a mean of micro batches' means; 0 for a filler."""
    gain_B: Tensor
    """Sum of the copies' positive advantages."""
    cost_B: Tensor
    """Sum of the copies' negative advantages."""
    old_log_prob_BK: Tensor | None = None
    """log π of the policy that drew the rows, 0 where not counted; ``None`` where that is the policy being
    trained.
    """
    reference_BK: Tensor | None = None
    """log π of the frozen reference, 0 where not counted; ``None`` where the loss measures no divergence."""
    rate_B: Tensor | None = None
    """Rate of right answers to each row's prompt, where the objective is aware of negative ones."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What sums are divided by: over all micro batches and ranks, copies included."""

    num_tokens: int
    """Tokens that the loss counts; at least 1."""
    num_rollouts: int
    max_new_tokens: int
    """Longest completion that was allowed, in tokens."""


@dataclass(frozen=True, kw_only=True)
class TokenLosses:
    """Position by position, summed over the row's copies."""

    loss_BK: Tensor
    divergence_BK: Tensor | None
    """Divergence from the reference of one copy, where the loss holds it."""


def token_losses(objective: ObjectiveSpec, logits_BKV: Tensor, rows: Rows) -> TokenLosses:
    """Put the objective's parts together; :func:`aggregate` makes a scalar of them.

    The backward pass writes over the logits.
    """
    count_B1, weight = rows.count_B[:, None], objective.entropy_weight
    if not objective.reads_log_probs:
        in_bf16 = "bf16_entropy" in objective.defects
        entropy_BK = (bf16_entropy if in_bf16 else token_entropy)(logits_BKV, objective.temperature)
        loss_BK = (entropy_BK if weight == 1 else weight * entropy_BK) * count_B1
        return TokenLosses(loss_BK=loss_BK, divergence_BK=None)
    log_prob_BK, entropy_BK = token_terms(
        logits_BKV, rows.target_BK, objective.temperature, with_entropy=weight != 0
    )
    # Padding is not drawn: an exponential of its log π, whatever that is, must not meet the mask's zero.
    log_prob_BK = log_prob_BK.where(rows.mask_BK, 0.0)
    loss_BK = weight * entropy_BK * count_B1 if weight else torch.zeros_like(log_prob_BK)
    if objective.is_policy_gradient and objective.has_ratio:
        old_BK = log_prob_BK.detach() if rows.old_log_prob_BK is None else rows.old_log_prob_BK
        if objective.negative_aware:
            assert rows.rate_B is not None
            loss_BK = loss_BK + negative_aware(log_prob_BK, old_BK, rows.gain_B, rows.cost_B, rows.rate_B)
        else:
            clips = {"clip_low": objective.clip_low, "clip_high": objective.clip_high}
            loss_BK = loss_BK + surrogate(log_prob_BK, old_BK, rows.gain_B, rows.cost_B, **clips)
    elif objective.is_policy_gradient:
        loss_BK = loss_BK + reinforce(log_prob_BK, rows.gain_B, rows.cost_B)
    divergence_BK = None
    if rows.reference_BK is not None:
        divergence_BK = divergence(objective.kl, log_prob_BK, rows.reference_BK)
        loss_BK = loss_BK + objective.kl_coef * divergence_BK * count_B1
    return TokenLosses(loss_BK=loss_BK, divergence_BK=divergence_BK)


def aggregate(loss_BK: Tensor, mask_BK: Tensor, how: str, totals: Totals) -> Tensor:
    """Sum of the counted positions over what makes it a mean; see ``ObjectiveSpec.aggregation``.

    A row's positions are already summed over its copies, so equal rollouts count as often as they were drawn.
    A row without counted positions adds nothing.
    """
    if how == "sequence":
        loss_BK = loss_BK / mask_BK.sum(1, keepdim=True).clamp(min=1)
    divisor = {
        "token": totals.num_tokens,
        "sequence": totals.num_rollouts,
        "sum": totals.num_rollouts,
        "dr": totals.num_rollouts * totals.max_new_tokens,
    }[how]
    return (loss_BK * mask_BK).sum() / divisor
