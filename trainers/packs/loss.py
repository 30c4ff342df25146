"""The losses of a pack's members, token by token: entropies, and log-probabilities where rewards weigh them.

Tokens of members that train on entropies alone never meet the others' arithmetic, so that their bits do not
depend on such mates.

Shapes: K positions with logits, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from trainers.objectives.chunks import LOG_ZERO

LONGEST_VECTOR = 64
"""Numbers that a vectorised kernel computes at once, at most; what is left over it computes by scalar code,
whose last bits are others.
"""


def entropies(logits_KV: Tensor, temperature_K: Tensor) -> Tensor:
    """Entropy of each distribution at its temperature, in nats."""
    log_p_KV = _log_p(logits_KV, temperature_K)
    return -(log_p_KV.softmax(-1) * log_p_KV).sum(-1)


def weighed(logits_KV: Tensor, temperature_K: Tensor, weight_K: Tensor) -> Tensor:
    """Each token's entropy times its weight, shape (K,), with gradients."""
    return cast(Tensor, _Weighed.apply(logits_KV, temperature_K, weight_K))


def terms(logits_KV: Tensor, temperature_K: Tensor, target_K: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and the entropy beside it, shape (K,), with gradients."""
    return cast(tuple[Tensor, Tensor], _Terms.apply(logits_KV, temperature_K, target_K))


def exponential(x_K: Tensor) -> Tensor:
    """e^x, an element's bits being the same wherever it lies."""
    return torch.cat([x_K, x_K.new_zeros(LONGEST_VECTOR)]).exp()[: len(x_K)]


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


class _Terms(torch.autograd.Function):
    """∂ log p_t/∂z_v = (1[v = t] − p_v)/τ beside the entropy's slope."""

    @staticmethod
    def forward(
        ctx: Any, logits_KV: Tensor, temperature_K: Tensor, target_K: Tensor
    ) -> tuple[Tensor, Tensor]:
        log_p_KV = _log_p(logits_KV, temperature_K)
        p_KV = log_p_KV.softmax(-1)
        entropy_K = -(p_KV * log_p_KV).sum(-1)
        ctx.saved = p_KV, log_p_KV, entropy_K, temperature_K, target_K
        return log_p_KV.gather(-1, target_K[:, None])[:, 0], entropy_K

    @staticmethod
    def backward(ctx: Any, *grads_K: Tensor) -> tuple[Tensor, None, None]:
        p_KV, log_p_KV, entropy_K, temperature_K, target_K = ctx.saved
        by_log_p_K, by_entropy_K = (grad_K / temperature_K for grad_K in grads_K)
        slope_KV = (log_p_KV + entropy_K[:, None]).mul_(by_entropy_K[:, None]).add_(by_log_p_K[:, None])
        slope_KV = slope_KV.mul_(p_KV).neg_()
        return slope_KV.scatter_add_(-1, target_K[:, None], by_log_p_K[:, None]), None, None
