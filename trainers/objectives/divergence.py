"""Divergence from a frozen reference, token by token, estimated from the tokens alone.

An f-divergence of π from π_ref at one position is E_π_ref[f(π/π_ref)], f convex, f(1) = f′(1) = 0. The whole
distributions are never held: only π and π_ref of each token are known.

On tokens drawn by π the value is g(w) = w·f(1/w), w = π_ref/π, an unbiased estimate that is never negative.
Its own derivative would leave out that π also draws the token, so its gradient is put together anew::

    ∇ E_π[g(w)] = E_π[(g − w·g′) ∇ log π]

    divergence    f(u)                            g(w)                            g − w·g′
    reverse       u·log u − u + 1                 w − log w − 1                   −log w
    forward       u − log u − 1                   w·log w − w + 1                 1 − w
    js            u·log u − (u+1)·log((u+1)/2)    w·log w − (w+1)·log((w+1)/2)    −log((w+1)/2)

``k3`` is the value of ``reverse`` with its own derivative, 1 − w, that of ``forward`` (Schulman 2020,
"Approximating KL divergence"; GRPO, arXiv 2402.03300). All hold for tokens drawn at the temperature of the
loss, before the policy has moved on.

Shapes: B rows (distinct rollouts), T positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sweeps.spec.objective_names import Divergence

FARTHEST = 80.0
"""Nats of log π_ref − log π above which a token counts as this far: w·log w is a float32 up to there."""


def divergence(kind: Divergence, log_prob_BT: Tensor, reference_BT: Tensor) -> Tensor:
    """Divergence of π from π_ref at tokens drawn by π, in nats: (B, T).

    Args:
        kind: ``reverse``, ``forward``, ``js`` or ``k3``.
        log_prob_BT: log π of each token.
        reference_BT: log π_ref of it.
    """
    if kind == "k3":
        return _reverse(reference_BT - log_prob_BT)
    d_BT = (reference_BT - log_prob_BT).detach().clamp(max=FARTHEST)
    value, slope = _ON_POLICY[kind]
    return value(d_BT) + slope(d_BT) * (log_prob_BT - log_prob_BT.detach())


def divergence_on_reference(kind: Divergence, log_prob_BT: Tensor, reference_BT: Tensor) -> Tensor:
    """Divergence of π from π_ref at tokens drawn by π_ref, in nats: f(u), u = π/π_ref, (B, T).

    Its own derivative is the right one: what draws the tokens does not move. D_f of DPH-RL (arXiv
    2509.07430), whose code holds the value of ``forward`` at 10.

    Args:
        kind: ``reverse``, ``forward`` or ``js``.
        log_prob_BT: log π of each token.
        reference_BT: log π_ref of it.
    """
    # f(u) at u is g(w) of the other direction at w = u.
    value = {"reverse": _forward, "forward": _reverse, "js": _js}[kind]
    return value((log_prob_BT - reference_BT).clamp(max=FARTHEST))


def _reverse(d_BT: Tensor) -> Tensor:
    return torch.exp(d_BT) - d_BT - 1


def _forward(d_BT: Tensor) -> Tensor:
    return torch.exp(d_BT) * (d_BT - 1) + 1


def _js(d_BT: Tensor) -> Tensor:
    return torch.exp(d_BT) * (math.log(2) - softplus(-d_BT)) - _log_mean(d_BT)


def _log_mean(d_BT: Tensor) -> Tensor:
    """log((e^d + 1)/2)."""
    return softplus(d_BT) - math.log(2)


_ON_POLICY = {
    "reverse": (_reverse, torch.neg),
    "forward": (_forward, lambda d_BT: -torch.expm1(d_BT)),
    "js": (_js, lambda d_BT: -_log_mean(d_BT)),
}
"""g and g − w·g′, of d = log w."""
