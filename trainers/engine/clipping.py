"""Clipping of gradients that share a device and a type."""

from __future__ import annotations

import torch
from torch import Tensor


def clip(gradients: list[Tensor], limit: float) -> float:
    """Scale gradients down in place to a global norm of at most ``limit``; return their norm before.

    To the bit what ``torch.nn.utils.clip_grad_norm_`` does, which sorts gradients by device and type, and
    multiplies by 1 where there is nothing to scale.
    """
    if not gradients:
        return 0.0
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor = (limit / (norm + 1e-6)).clamp_(max=1.0)
    if float(factor) != 1.0:
        torch._foreach_mul_(gradients, factor)
    return float(norm)
