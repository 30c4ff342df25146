"""What a policy thinks of rollouts: sums per rollout for rewards, log-probabilities per token for ratios.

One forward without gradients over a step's micro batches, by the policy itself or by the reference that the
engine lends its module to.

Shapes: D distinct rollouts of the step, B rows of a micro batch, K positions with logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers.engine.gang import Gang
from trainers.objectives.likelihood import token_statistics
from trainers.step.batch import StepBatch
from trainers.step.forward import policy_logits


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Sums over each completion's tokens, float64 of shape (D,), the same on every rank."""

    log_prob_D: np.ndarray
    """Log-probability of the completion, in nats."""
    entropy_D: np.ndarray
    """Token entropies, in nats."""
    certainty_D: np.ndarray
    """Self-certainties, in nats."""
    tokens_D: np.ndarray


@torch.no_grad()
def score(
    module: torch.nn.Module, batch: StepBatch, num_distinct: int, temperature: float, gang: Gang
) -> Scores:
    """Score every rollout of the step; every rank must call it."""
    values = []
    for micro_batch in batch.micro_batches:
        seen = token_statistics(policy_logits(module, micro_batch), micro_batch.target_BK, temperature)
        each = (seen.log_prob_BT, seen.entropy_BT, seen.certainty_BT, torch.ones_like(seen.entropy_BT))
        values.append(torch.stack(each))
    log_prob_D, entropy_D, certainty_D, tokens_D = sums(values, batch, num_distinct, gang)
    return Scores(log_prob_D=log_prob_D, entropy_D=entropy_D, certainty_D=certainty_D, tokens_D=tokens_D)


def sums(values: Sequence[Tensor], batch: StepBatch, num_distinct: int, gang: Gang) -> np.ndarray:
    """Sum over each completion's tokens, float64 of shape (…, D), the same on every rank.

    Args:
        values: One (…, B, K) per micro batch.
    """
    total = torch.zeros(*values[0].shape[:-2], num_distinct, dtype=torch.float64, device=gang.device)
    for micro_batch, of_tokens in zip(batch.micro_batches, values, strict=True):
        counted_BK = micro_batch.mask_BK * (micro_batch.weight_B > 0)[:, None]
        total.index_add_(-1, micro_batch.rollout_B, (of_tokens * counted_BK).sum(-1).double())
    return gang.sum(total).cpu().numpy()


@torch.no_grad()
def log_probs(module: torch.nn.Module, batch: StepBatch, temperature: float) -> list[Tensor]:
    """Log π of every token of this rank's rows, 0 where not counted: one (B, K) per micro batch."""
    values = []
    for micro_batch in batch.micro_batches:
        statistics = token_statistics(policy_logits(module, micro_batch), micro_batch.target_BK, temperature)
        values.append(statistics.log_prob_BT.where(micro_batch.mask_BK, 0.0))
    return values
