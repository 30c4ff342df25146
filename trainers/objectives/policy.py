"""Policy-gradient terms, token by token, summed over the copies of equal rollouts.

Shapes: B rows (distinct rollouts), T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_LOG_RATIO = 10.0
"""Above this log R, NFT's authors take R as a constant."""


def surrogate(
    log_prob_BT: Tensor,
    old_log_prob_BT: Tensor,
    gain_B: Tensor,
    cost_B: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """−min(ρA, clip(ρ, 1 − clip_low, 1 + clip_high)·A), ρ = π/π_old (PPO, arXiv 1707.06347): (B, T).

    For A ≥ 0 the minimum is A·min(ρ, 1 + clip_high), for A < 0 it is A·max(ρ, 1 − clip_low), so sums of
    positive and of negative advantages are all it takes.
    """
    ratio_BT = torch.exp(log_prob_BT - old_log_prob_BT)
    gained_BT = gain_B[:, None] * ratio_BT.clamp(max=1 + clip_high)
    return -(gained_BT + cost_B[:, None] * ratio_BT.clamp(min=1 - clip_low))


def negative_aware(
    log_prob_BT: Tensor, old_log_prob_BT: Tensor, gain_B: Tensor, cost_B: Tensor, rate_B: Tensor
) -> Tensor:
    """Negative-aware fine-tuning (NFT, arXiv 2505.18116; NVlabs/NFT ``dp_actor.py``): (B, T).

    −w·log R of a right answer and −w·log max((1 − q·R)/(1 − q), 1) of a wrong one, R = π/π_old of the token
    and w = 1 − q; the maximum passes gradients. The advantages of ``rate`` are w and −w·q/(1 − q).
    While π is π_old, its gradient is that of :func:`reinforce`.

    Args:
        rate_B: q, the rate of right answers to the row's prompt, in (0, 1).
    """
    log_ratio_BT = (log_prob_BT - old_log_prob_BT).clamp(max=MOST_LOG_RATIO)
    q_B1 = rate_B[:, None]
    implicit_BT = (1 - q_B1 * log_ratio_BT.exp()) / (1 - q_B1)
    floored_BT = implicit_BT + (implicit_BT.clamp(min=1.0) - implicit_BT).detach()
    wrong_B1 = (cost_B * (1 - rate_B) / rate_B)[:, None]
    return wrong_B1 * torch.log(floored_BT) - gain_B[:, None] * log_ratio_BT


def reinforce(log_prob_BT: Tensor, gain_B: Tensor, cost_B: Tensor) -> Tensor:
    """−A·log π (REINFORCE; RGRA, arXiv 2603.18756): (B, T)."""
    return -(gain_B + cost_B)[:, None] * log_prob_BT
