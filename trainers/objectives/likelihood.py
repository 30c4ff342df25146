"""Log-probability of the tokens drawn, and the entropy at the same positions where both are wanted.

For p = softmax(z/τ) and drawn token y: log π = z_y/τ − logsumexp(z/τ), ∂ log π/∂z_v = (1[v = y] − p_v)/τ, and
∂H/∂z_v = −p_v (log p_v + H)/τ, all in fp32 whatever the logits' type.

Shapes: B rows, T positions, V vocabulary, N = B·T, C positions of one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.objectives.chunks import chunks, log_softmax


def token_terms(
    logits_BTV: Tensor, target_BT: Tensor, temperature: float = 1.0, *, with_entropy: bool = False
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of its distribution, in nats: float32, both (B, T).

    As with :func:`trainers.objectives.entropy.token_entropy`, positions are worked through in chunks and the
    backward pass writes the gradient over the logits, which must not be read after ``backward``.

    Args:
        logits_BTV: Logits, of any float type.
        target_BT: Token drawn at each position.
        with_entropy: Whether the entropy is wanted; it is zero, without a gradient, otherwise.
    """
    return _TokenTerms.apply(logits_BTV, target_BT, temperature, with_entropy)


class _TokenTerms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_BTV: Tensor, target_BT: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        flat_NV = logits_BTV.reshape(-1, logits_BTV.shape[-1])
        target_N = target_BT.reshape(-1)
        log_p_N = torch.empty(len(flat_NV), device=flat_NV.device)
        entropy_N = torch.zeros_like(log_p_N)
        for chunk in chunks(flat_NV):
            log_p_CV = log_softmax(flat_NV[chunk], temperature)
            log_p_N[chunk] = log_p_CV.gather(-1, target_N[chunk, None]).squeeze(-1)
            if with_entropy:
                entropy_N[chunk] = -(log_p_CV.exp() * log_p_CV).sum(-1)
        ctx.logits_BTV, ctx.target_N, ctx.entropy_N = logits_BTV.detach(), target_N, entropy_N
        ctx.temperature, ctx.with_entropy = temperature, with_entropy
        shape = logits_BTV.shape[:-1]
        return log_p_N.view(shape), entropy_N.view(shape)

    @staticmethod
    def backward(ctx: Any, *grads_BT: Tensor) -> tuple[Tensor, None, None, None]:
        logits_BTV = ctx.logits_BTV
        flat_NV = logits_BTV.view(-1, logits_BTV.shape[-1])
        by_log_p_N, by_entropy_N = (g.reshape(-1) / ctx.temperature for g in grads_BT)
        for chunk in chunks(flat_NV):
            log_p_CV = log_softmax(flat_NV[chunk], ctx.temperature)
            p_CV = log_p_CV.exp()
            if ctx.with_entropy:
                # −p·(g + h·(log p + H)), with the drawn token's +g added below
                slope_CV = log_p_CV.add_(ctx.entropy_N[chunk, None]).mul_(by_entropy_N[chunk, None])
                slope_CV = slope_CV.add_(by_log_p_N[chunk, None]).mul_(p_CV).neg_()
            else:
                slope_CV = p_CV.mul_(-by_log_p_N[chunk, None])
            slope_CV.scatter_add_(-1, ctx.target_N[chunk, None], by_log_p_N[chunk, None])
            flat_NV[chunk] = slope_CV
        return logits_BTV, None, None, None


@dataclass(frozen=True, kw_only=True)
class TokenStatistics:
    """What rewards and references read off the logits, without gradients; float32 of shape (B, T)."""

    log_prob_BT: Tensor
    """Log-probability of the token drawn, in nats."""
    entropy_BT: Tensor
    """Entropy of its distribution, in nats."""
    certainty_BT: Tensor
    """Self-certainty logsumexp(z/τ) − mean(z/τ) = KL(uniform ‖ p) + log V, in nats (arXiv 2505.19590)."""


@torch.no_grad()
def token_statistics(logits_BTV: Tensor, target_BT: Tensor, temperature: float) -> TokenStatistics:
    """Measure each position's distribution at temperature τ."""
    flat_NV = logits_BTV.reshape(-1, logits_BTV.shape[-1])
    target_N = target_BT.reshape(-1)
    statistics_3N = torch.empty(3, len(flat_NV), device=flat_NV.device)
    for chunk in chunks(flat_NV):
        log_p_CV = log_softmax(flat_NV[chunk], temperature)
        statistics_3N[0, chunk] = log_p_CV.gather(-1, target_N[chunk, None]).squeeze(-1)
        statistics_3N[1, chunk] = -(log_p_CV.exp() * log_p_CV).sum(-1)
        statistics_3N[2, chunk] = -log_p_CV.mean(-1)
    log_prob_BT, entropy_BT, certainty_BT = statistics_3N.view(3, *logits_BTV.shape[:-1])
    return TokenStatistics(log_prob_BT=log_prob_BT, entropy_BT=entropy_BT, certainty_BT=certainty_BT)
