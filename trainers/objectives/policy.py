"""Policy-gradient terms, token by token, summed over the copies of equal rollouts.

Shapes: B rows (distinct rollouts), T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor


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


def reinforce(log_prob_BT: Tensor, gain_B: Tensor, cost_B: Tensor) -> Tensor:
    """−A·log π (REINFORCE; RGRA, arXiv 2603.18756): (B, T)."""
    return -(gain_B + cost_B)[:, None] * log_prob_BT
