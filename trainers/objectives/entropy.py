"""Token entropy, the objective of one-shot entropy minimization (arXiv 2505.20282).

Shapes: B rows, T positions, V vocabulary. For p = softmax(z/τ): H = −Σ_v p_v log p_v = logsumexp(z/τ) −
    Σ_v p_v·z_v/τ,
computed in fp32 whatever the logits' type. The gradient flows through H alone: no reward, no score-function
term.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_entropy(logits_BTV: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of each next-token distribution at temperature τ, in nats: float32 of shape (B, T)."""
    z_BTV = logits_BTV.float()
    if temperature != 1.0:
        z_BTV = z_BTV / temperature
    logsum_BT = torch.logsumexp(z_BTV, -1)
    p_BTV = torch.exp(z_BTV - logsum_BT[..., None])
    return logsum_BT - (p_BTV * z_BTV).sum(-1)


def weighted_token_sum(values_BT: Tensor, mask_BT: Tensor, weight_B: Tensor) -> Tensor:
    """Σ over rows and masked positions of ``weight × value``: rows drawn several times count as often.

    Dividing by :func:`weighted_token_count`, summed over all micro batches and ranks, gives the token mean
    L = Σ(H·m) / max(1, Σm) over all rollouts, exactly as if none had been merged.
    """
    return (values_BT * mask_BT * weight_B[:, None]).sum()


def weighted_token_count(mask_BT: Tensor, weight_B: Tensor) -> Tensor:
    """Completion tokens of all rollouts, multiplicity counted: a scalar."""
    return (mask_BT.sum(-1) * weight_B).sum()
