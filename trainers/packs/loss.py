"""The loss of a pack's members: each token's entropy at its member's temperature, weighed.

Shapes: K positions with logits, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from trainers.objectives.chunks import LOG_ZERO


def entropies(logits_KV: Tensor, temperature_K: Tensor) -> Tensor:
    """Entropy of each distribution at its temperature, in nats."""
    log_p_KV = _log_p(logits_KV, temperature_K)
    return -(log_p_KV.softmax(-1) * log_p_KV).sum(-1)


def weighed(logits_KV: Tensor, temperature_K: Tensor, weight_K: Tensor) -> Tensor:
    """Each token's entropy times its weight, shape (K,), with gradients."""
    return cast(Tensor, _Weighed.apply(logits_KV, temperature_K, weight_K))


def _log_p(logits_KV: Tensor, temperature_K: Tensor) -> Tensor:
    return torch.log_softmax(logits_KV / temperature_K[:, None], -1).clamp_(min=LOG_ZERO)


class _Weighed(torch.autograd.Function):
    """∂H/∂z_v = −p_v (log p_v + H)/τ; see :mod:`trainers.objectives.entropy`."""

    @staticmethod
    def forward(ctx: Any, logits_KV: Tensor, temperature_K: Tensor, weight_K: Tensor) -> Tensor:
        log_p_KV = _log_p(logits_KV, temperature_K)
        # Not `exp`: only the softmax's kernel computes a row the same wherever it lies.
        p_KV = log_p_KV.softmax(-1)
        entropy_K = -(p_KV * log_p_KV).sum(-1)
        ctx.saved = p_KV, log_p_KV, entropy_K, weight_K / temperature_K
        return entropy_K * weight_K

    @staticmethod
    def backward(ctx: Any, *grads_K: Tensor) -> tuple[Tensor, None, None]:
        p_KV, log_p_KV, entropy_K, weight_K = ctx.saved
        by_logits_KV = (log_p_KV + entropy_K[:, None]).mul_(p_KV).mul_(-(grads_K[0] * weight_K)[:, None])
        return by_logits_KV, None, None
