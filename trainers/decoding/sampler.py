"""From raw logits to the next token: penalty, temperature, nucleus, and the inverse of the cumulative
distribution.

Shapes: N nodes (distinct prefixes), V vocabulary, R rows (rollouts).
The order of operations is that of transformers' ``generate``: repetition penalty, temperature, top-k, top-p;
sharpening comes before them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.decoding.em_inf import Sharpening, lower_entropy


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How a token is drawn from logits."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token."""
    top_p: float = 1.0
    """Nucleus mass kept; 1 keeps all."""
    top_k: int = 0
    """Most likely tokens kept; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens already seen (arXiv 1909.05858)."""
    sharpening: Sharpening | None = None
    """Lowers the entropy of the model's own distribution before anything else."""

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def cumulative(self, logits_NV: Tensor, seen_NV: Tensor | None) -> Tensor:
        """Cumulative distribution over the vocabulary, float64 of shape (N, V), its last column about 1.

        Args:
            logits_NV: Raw logits of any float type.
            seen_NV: True where the node's prefix (prompt included) holds the token; needed for a
                repetition penalty.
        """
        z_NV = logits_NV.float()
        if self.sharpening is not None:
            z_NV = lower_entropy(z_NV, self.sharpening)
        if self.repetition_penalty != 1.0:
            assert seen_NV is not None, "a repetition penalty needs the tokens seen so far"
            penalised = torch.where(z_NV < 0, z_NV * self.repetition_penalty, z_NV / self.repetition_penalty)
            z_NV = torch.where(seen_NV, penalised, z_NV)
        if self.greedy:
            best_N1 = z_NV.argmax(-1, keepdim=True)
            p_NV = torch.zeros_like(z_NV).scatter_(-1, best_N1, 1.0)
            return p_NV.double().cumsum(-1)
        z_NV = z_NV / self.temperature
        if self.top_k:
            kth_N1 = z_NV.topk(min(self.top_k, z_NV.shape[-1]), dim=-1).values[:, -1:]
            z_NV = z_NV.masked_fill(z_NV < kth_N1, -torch.inf)
        p_NV = torch.softmax(z_NV, -1)
        if self.top_p < 1.0:
            p_NV = _nucleus(p_NV, self.top_p)
        return p_NV.double().cumsum(-1)


def _nucleus(p_NV: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose mass reaches ``top_p``; the rest gets 0 (arXiv
    1904.09751).
    """
    sorted_NV, order_NV = p_NV.sort(dim=-1, descending=True, stable=True)
    mass_before_NV = sorted_NV.cumsum(-1) - sorted_NV
    kept_NV = sorted_NV.masked_fill(mass_before_NV >= top_p, 0.0)
    return torch.zeros_like(p_NV).scatter_(-1, order_NV, kept_NV)


def draw(cumulative_RV: Tensor, uniform_R: Tensor) -> Tensor:
    """Invert each row's cumulative distribution: the first token whose cumulated mass exceeds ``uniform ×
    total``.

    Args:
        cumulative_RV: From :meth:`Sampler.cumulative`, gathered per row.
        uniform_R: float64 in [0, 1).

    Returns:
        Token ids of shape (R,). A token of zero mass is never drawn.
    """
    threshold_R1 = uniform_R[:, None] * cumulative_RV[:, -1:]
    return (cumulative_RV <= threshold_R1).sum(-1).clamp_(max=cumulative_RV.shape[-1] - 1)


def seen_tokens(ids_NT: Tensor, lengths_N: Tensor, vocab_size: int) -> Tensor:
    """Mark which tokens occur among the first ``lengths`` ids of each row: bool of shape (N, V)."""
    real_NT = torch.arange(ids_NT.shape[1], device=ids_NT.device) < lengths_N[:, None]
    counts_NV = torch.zeros(ids_NT.shape[0], vocab_size, device=ids_NT.device)
    return counts_NV.scatter_add_(1, ids_NT, real_NT.float()) > 0
