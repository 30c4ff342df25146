"""Token entropy, the objective of one-shot entropy minimization (arXiv 2505.20282).

For p = softmax(z/τ): H = −Σ_v p_v log p_v = logsumexp(z/τ) − Σ_v p_v·z_v/τ and ∂H/∂z_v = −p_v (log p_v +
H)/τ, computed in fp32 whatever the logits' type. The gradient flows through H alone: no reward, no score-
function term.

Shapes: B rows, T positions, V vocabulary, N = B·T, C positions of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainers.objectives.chunks import chunks, log_softmax


def token_entropy(logits_BTV: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of each next-token distribution at temperature τ, in nats: float32 of shape (B, T).

    The positions are worked through in chunks, and the backward pass writes the gradient over the logits, so
    neither direction ever holds a second tensor of the logits' size. The logits must not be read after
    ``backward``; a linear layer, which produces them, does not.
    """
    return _TokenEntropy.apply(logits_BTV, temperature)


class _TokenEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BTV: Tensor, temperature: float) -> Tensor:
        flat_NV = logits_BTV.reshape(-1, logits_BTV.shape[-1])
        entropy_N = torch.empty(len(flat_NV), device=flat_NV.device)
        for chunk in chunks(flat_NV):
            log_p_CV = log_softmax(flat_NV[chunk], temperature)
            entropy_N[chunk] = -(log_p_CV.exp() * log_p_CV).sum(-1)
        ctx.logits_BTV, ctx.temperature, ctx.entropy_N = logits_BTV.detach(), temperature, entropy_N
        return entropy_N.view(logits_BTV.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad_BT: Tensor) -> tuple[Tensor, None]:
        logits_BTV = ctx.logits_BTV
        flat_NV = logits_BTV.view(-1, logits_BTV.shape[-1])
        grad_N = grad_BT.reshape(-1)
        for chunk in chunks(flat_NV):
            log_p_CV = log_softmax(flat_NV[chunk], ctx.temperature)
            slope_CV = log_p_CV.exp().mul_(log_p_CV.add_(ctx.entropy_N[chunk, None]))
            flat_NV[chunk] = slope_CV.mul_(-grad_N[chunk, None] / ctx.temperature)
        return logits_BTV, None


def bf16_entropy(logits_BTV: Tensor, temperature: float = 1.0) -> Tensor:
    """The same as the published trainer computes it (``objective.compat``): bfloat16 of shape (B, T).

    Rounded to three digits after every operation, and a probability below 1e-12 counts as that.
    """
    p_BTV = torch.softmax(logits_BTV.to(torch.bfloat16) / temperature, -1)
    return -(p_BTV * torch.log(p_BTV + 1e-12)).sum(-1)


def weighted_token_sum(values_BT: Tensor, mask_BT: Tensor, weight_B: Tensor) -> Tensor:
    """Σ over rows and masked positions of ``weight × value``: rows drawn several times count as often.

    Dividing by the number of completion tokens of all rollouts, over micro batches and ranks, gives the token
    mean L = Σ(H·m) / max(1, Σm), exactly as if no identical rollouts had been merged.
    """
    return (values_BT * mask_BT * weight_B[:, None]).sum()
