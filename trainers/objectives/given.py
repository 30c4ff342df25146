"""The loss of given completions: token by token, and by what whole sequences are worth.

A loss of sequences is a function of ℓ, the sum of each one's log-probabilities. Its derivative by each ℓ,
settled on the host from all sequences of the step before the pass with gradients, is a constant weight on
that sequence's tokens here. So its gradient is the same whatever micro batches and ranks the sequences lie
in.

Shapes: B rows, K positions with logits, V vocabulary, N = B·K, C positions of one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sweeps.spec.objective import ObjectiveSpec
from trainers.objectives.chunks import chunks, log_softmax
from trainers.objectives.divergence import divergence_on_reference
from trainers.objectives.loss import Totals, aggregate


@dataclass(frozen=True, kw_only=True)
class GivenRows:
    """What the loss knows about the given sequences of a micro batch beside their logits."""

    target_BK: Tensor
    mask_BK: Tensor
    """True where the loss counts a position."""
    nll_BK: Tensor
    """True where a counted position's negative log-likelihood is part of the loss; nowhere in a filler."""
    reference_BK: Tensor | None = None
    """log π of the frozen reference, 0 where not counted; ``None`` where the loss measures no divergence."""
    slope_B: Tensor | None = None
    """∂loss/∂ℓ of each sequence, 0 for a filler; ``None`` where no loss of sequences is part of it."""


@dataclass(frozen=True, kw_only=True)
class GivenLoss:
    """What a micro batch adds to the step's loss; ``nll`` and ``differentiable`` are scalars."""

    nll: Tensor
    """The part of tokens, likelihood and divergence with their weights, as it is recorded."""
    differentiable: Tensor
    """What to call ``backward`` on: that, and a term whose gradient is that of the loss of sequences."""
    log_prob_BK: Tensor
    """Log-probability of each counted token, 0 elsewhere, without a gradient."""
    entropy_BK: Tensor
    """Entropy of each distribution, in nats, without a gradient."""
    divergence_BK: Tensor | None = None
    """Divergence from the reference at each counted token, without a gradient, where the loss holds it."""


def given_loss(objective: ObjectiveSpec, logits_BKV: Tensor, rows: GivenRows, totals: Totals) -> GivenLoss:
    """The loss of a micro batch of given sequences; the backward pass writes over the logits."""
    smoothing = objective.label_smoothing
    log_prob_BK, mean_BK, entropy_BK = given_terms(logits_BKV, rows.target_BK, with_mean=smoothing > 0)
    log_prob_BK = log_prob_BK.where(rows.mask_BK, 0.0)
    nll_BK = -log_prob_BK
    if objective.nll_dft:
        nll_BK = nll_BK * log_prob_BK.detach().exp()
    elif smoothing:
        nll_BK = (1 - smoothing) * nll_BK - smoothing * mean_BK.where(rows.mask_BK, 0.0)
    nll = aggregate(nll_BK, rows.nll_BK, objective.aggregation, totals)
    if objective.nll_weight != 1:
        nll = objective.nll_weight * nll
    apart_BK = None
    if rows.reference_BK is not None:
        apart_BK = divergence_on_reference(objective.kl, log_prob_BK, rows.reference_BK)
        nll = nll + objective.kl_coef * aggregate(apart_BK, rows.nll_BK, objective.aggregation, totals)
    by_sequence = None if rows.slope_B is None else (rows.slope_B * log_prob_BK.sum(1)).sum()
    return GivenLoss(
        nll=nll,
        differentiable=nll if by_sequence is None else nll + by_sequence,
        log_prob_BK=log_prob_BK.detach(),
        entropy_BK=entropy_BK,
        divergence_BK=None if apart_BK is None else apart_BK.detach(),
    )


def given_terms(
    logits_BTV: Tensor, target_BT: Tensor, *, with_mean: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of each target, the mean of all log-probabilities, and the entropy, which has no
    gradient: float32, all (B, T), in nats.

    As with :func:`trainers.objectives.likelihood.token_terms`, the backward pass writes the gradient over the
    logits: ∂ log p_y/∂z_v = 1[v = y] − p_v and ∂(mean_u log p_u)/∂z_v = 1/V − p_v.

    Args:
        logits_BTV: Logits, of any float type.
        with_mean: Whether the mean is wanted; it is zero, without a gradient, otherwise.
    """
    return _GivenTerms.apply(logits_BTV, target_BT, with_mean)


class _GivenTerms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_BTV: Tensor, target_BT: Tensor, with_mean: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        flat_NV = logits_BTV.reshape(-1, logits_BTV.shape[-1])
        target_N = target_BT.reshape(-1)
        log_p_N = torch.empty(len(flat_NV), device=flat_NV.device)
        mean_N, entropy_N = torch.zeros_like(log_p_N), torch.empty_like(log_p_N)
        for chunk in chunks(flat_NV):
            log_p_CV = log_softmax(flat_NV[chunk], 1.0)
            log_p_N[chunk] = log_p_CV.gather(-1, target_N[chunk, None]).squeeze(-1)
            if with_mean:
                mean_N[chunk] = log_p_CV.mean(-1)
            entropy_N[chunk] = -(log_p_CV.exp() * log_p_CV).sum(-1)
        ctx.logits_BTV, ctx.target_N, ctx.with_mean = logits_BTV.detach(), target_N, with_mean
        shape = target_BT.shape
        entropy_BT = entropy_N.view(shape)
        ctx.mark_non_differentiable(entropy_BT)
        return log_p_N.view(shape), mean_N.view(shape), entropy_BT

    @staticmethod
    def backward(ctx: Any, *grads_BT: Tensor) -> tuple[Tensor, None, None]:
        logits_BTV = ctx.logits_BTV
        flat_NV = logits_BTV.view(-1, logits_BTV.shape[-1])
        by_log_p_N, by_mean_N = (g.reshape(-1) for g in grads_BT[:2])
        for chunk in chunks(flat_NV):
            p_CV = log_softmax(flat_NV[chunk], 1.0).exp_()
            by_log_p_C1, by_mean_C1 = by_log_p_N[chunk, None], by_mean_N[chunk, None]
            slope_CV = p_CV.mul_(-(by_log_p_C1 + by_mean_C1 if ctx.with_mean else by_log_p_C1))
            if ctx.with_mean:
                slope_CV.add_(by_mean_C1 / flat_NV.shape[-1])
            slope_CV.scatter_add_(-1, ctx.target_N[chunk, None], by_log_p_C1)
            flat_NV[chunk] = slope_CV
        return logits_BTV, None, None
