"""Entropy minimization at decode time: lower the entropy of a next-token distribution, train nothing.

EM-INF (arXiv 2505.15134): before a token is drawn, its logits z take a few gradient steps on

    max(H(softmax z), δ) + κ · KL(softmax z ‖ softmax z₀)

with ∂H/∂z_v = −p_v (log p_v + H) and ∂KL/∂z_v = p_v (log p_v − log p⁰_v − KL). A distribution whose entropy
is below δ already stays as it is. Steps are Adam's, as torch takes them.

Shapes: N distributions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.objectives.chunks import chunks, log_softmax

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Torch's defaults of Adam."""


@dataclass(frozen=True, kw_only=True)
class Sharpening:
    """How far distributions are sharpened; ``eval.em_inf_*`` default to the published scripts' values."""

    steps: int
    threshold_nats: float
    """Entropy δ below which nothing is gained."""
    kl_coef: float
    """Weight κ of the divergence from where the logits started."""
    lr: float


def lower_entropy(logits_NV: Tensor, sharpening: Sharpening) -> Tensor:
    """Logits after the gradient steps, float32 of shape (N, V); distributions do not see each other."""
    found_NV = logits_NV.float().clone()
    for chunk in chunks(found_NV):
        found_NV[chunk] = _lowered(found_NV[chunk], sharpening)
    return found_NV


def _lowered(z_CV: Tensor, sharpening: Sharpening) -> Tensor:
    start_CV = log_softmax(z_CV, 1.0)
    mean_CV, square_CV = torch.zeros_like(z_CV), torch.zeros_like(z_CV)
    for step in range(1, sharpening.steps + 1):
        log_p_CV = log_softmax(z_CV, 1.0)
        p_CV = log_p_CV.exp()
        entropy_C1 = -(p_CV * log_p_CV).sum(-1, keepdim=True)
        apart_CV = log_p_CV - start_CV
        divergence_C1 = (p_CV * apart_CV).sum(-1, keepdim=True)
        above_C1 = entropy_C1 > sharpening.threshold_nats
        slope_CV = p_CV * (
            sharpening.kl_coef * (apart_CV - divergence_C1) - above_C1 * (log_p_CV + entropy_C1)
        )
        mean_CV = BETA1 * mean_CV + (1 - BETA1) * slope_CV
        square_CV = BETA2 * square_CV + (1 - BETA2) * slope_CV**2
        scale_CV = (square_CV / (1 - BETA2**step)).sqrt() + EPSILON
        z_CV = z_CV - sharpening.lr * mean_CV / (1 - BETA1**step) / scale_CV
    return z_CV
