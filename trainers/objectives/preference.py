"""Losses on given completions: of pairs, of labelled rows, of rows to be forgotten.

Each depends on the weights only through ℓ = Σ_t log π(y_t), the log-probability of a whole completion, EOS
included. Once ℓ of all the step's completions is known, :func:`preference_loss` gives the loss and its
derivative by each ℓ, constants that any micro batch may then carry to its own rows. So neither the size of a
micro batch, nor the ranks, nor a statistic over the whole step (KTO's z) changes the gradient.

All of it is computed in double precision: ℓ of a long answer is hundreds of nats, a difference of two of them
a few.

Shapes: S distinct completions of the step, P pairs or rows. Symbols: n tokens of a completion, r = ℓ − ℓ_ref,
y_w chosen, y_l rejected, σ the logistic function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from sweeps.spec.objective import ObjectiveSpec

CERTAIN = 1e-7
"""Least distance below 0 that ORPO takes a mean log-probability to have: fp32 cannot tell a smaller one from
certainty, whose odds are infinite.
"""

ALL_MISSED = -36.0
"""log(N·p) below which DCO's factor is 1 to the last bit of a double, so that p may underflow."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the policy and the reference think of completions; float64 of shape (P,)."""

    log_prob_P: Tensor
    """ℓ in nats."""
    reference_P: Tensor
    """ℓ_ref in nats; zeros for a method without a reference."""
    tokens_P: Tensor
    """n, at least 1."""

    @property
    def log_ratio(self) -> Tensor:
        """Log-ratio r = ℓ − ℓ_ref, in nats: (P,)."""
        return self.log_prob_P - self.reference_P

    @property
    def mean_log_prob(self) -> Tensor:
        """ℓ/n, in nats a token: (P,)."""
        return self.log_prob_P / self.tokens_P

    def at(self, index_P: Tensor) -> Scored:
        """Those of some completions, again and again where an index comes again."""
        return Scored(
            log_prob_P=self.log_prob_P[index_P],
            reference_P=self.reference_P[index_P],
            tokens_P=self.tokens_P[index_P],
        )


def dpo(chosen: Scored, rejected: Scored, *, beta: float, per_token: bool = False) -> Tensor:
    """−log σ(β(r_w − r_l)) (arXiv 2305.18290, TRL ``sigmoid``): (P,).

    ``per_token`` takes r/n in the place of r (Tülu 3, TRL ``sigmoid_norm``).
    """
    return -logsigmoid(beta * _margin(chosen, rejected, per_token))


def ipo(chosen: Scored, rejected: Scored, *, beta: float, per_token: bool = True) -> Tensor:
    """(r_w/n_w − r_l/n_l − 1/(2β))² (arXiv 2310.12036; the means as in TRL's ``ipo``): (P,).

    Equation 17 of the paper has r itself, without ``per_token``; its authors told TRL that their results are
    those of means.
    """
    return (_margin(chosen, rejected, per_token) - 1 / (2 * beta)) ** 2


def simpo(chosen: Scored, rejected: Scored, *, beta: float, margin: float) -> Tensor:
    """−log σ(β(ℓ_w/n_w − ℓ_l/n_l − margin)) (arXiv 2405.14734, whose γ is β·margin): (P,)."""
    return -logsigmoid(beta * (chosen.mean_log_prob - rejected.mean_log_prob - margin))


def orpo(chosen: Scored, rejected: Scored, *, beta: float) -> Tensor:
    """−ℓ_w/n_w − β·log σ(logit p_w − logit p_l), p = exp(ℓ/n) (arXiv 2403.07691, equations 1 to 7): (P,).

    TRL's ``ORPOTrainer`` differs in the first term: a mean over the tokens of all prompts *and* answers of
    its batch.
    """
    log_odds = _logit(chosen.mean_log_prob) - _logit(rejected.mean_log_prob)
    return -chosen.mean_log_prob - beta * logsigmoid(log_odds)


def redi(chosen: Scored, rejected: Scored, *, negative_weight: float) -> Tensor:
    """−ℓ_w/n_w + α·ℓ_l/n_l, α the ``negative_weight`` (arXiv 2505.24850): (P,). Unbounded below."""
    return -chosen.mean_log_prob + negative_weight * rejected.mean_log_prob


def kto(
    rows: Scored,
    desirable_P: Tensor,
    z: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """λ_D(1 − σ(β(r − z))) of a desirable row, λ_U(1 − σ(β(z − r))) of another (arXiv 2402.01306): (P,).

    Args:
        rows: Completions with a label each.
        desirable_P: Those labels, bool.
        z: From :func:`kto_z`.
        beta: β.
        desirable_weight: λ_D.
        undesirable_weight: λ_U.
    """
    above_P = beta * (rows.log_ratio - z)
    # 1 − σ(x) = σ(−x), without the difference that would round to 0.
    return torch.where(
        desirable_P, desirable_weight * torch.sigmoid(-above_P), undesirable_weight * torch.sigmoid(above_P)
    )


def kto_z(mismatched: Scored) -> Tensor:
    """max(0, mean r) over prompts with another row's completion, detached: a scalar (TRL ``kto_trainer``).

    An estimate of KL(π ‖ π_ref) that the gradient does not pass; over all ranks and micro batches of a step.
    """
    return mismatched.log_ratio.detach().mean().clamp(min=0.0)


def npo(rows: Scored, *, beta: float) -> Tensor:
    """−(2/β)·log σ(−β·r), which lowers the probability of rows to be forgotten (arXiv 2404.05868): (P,).

    As β → 0 it is (2/β)·log 2 + r: gradient ascent on the rows' NLL.
    """
    return -(2 / beta) * logsigmoid(-beta * rows.log_ratio)


def dco(rows: Scored, *, attempts: int) -> Tensor:
    """F·(−ℓ/n), F from :func:`dco_factor` and detached (arXiv 2502.07154): (P,).

    Its gradient is that of −log(1 − (1 − p)^N)/n, p = exp ℓ: the probability that one of N attempts gives the
    answer. As in the authors' code (allanraventos/refine, ``training/NCO.py``) the loss shown is F times
    the mean NLL of a row's tokens. N = 1 is fine-tuning on the rows, every row weighing the same.
    """
    return dco_factor(rows.log_prob_P.detach(), attempts) * -rows.mean_log_prob


def dco_factor(log_prob_P: Tensor, attempts: int) -> Tensor:
    """F = N·p·(1 − p)^(N−1) / (1 − (1 − p)^N), p = exp ℓ: (P,), 1 for p ≪ 1/N and 0 for p ≫ 1/N.

    Exact for any ℓ. The authors' code takes a series of second order where pN < 0.1, up to 1.4e-4 away.
    """
    if attempts == 1:
        return torch.ones_like(log_prob_P)
    miss_P = log1mexp(log_prob_P)
    log_hit_P = math.log(attempts) + log_prob_P
    factor_P = (log_hit_P + (attempts - 1) * miss_P - torch.log(-torch.expm1(attempts * miss_P))).exp()
    return torch.where(log_hit_P < ALL_MISSED, 1.0, factor_P)


def pass_at(log_prob_P: Tensor, attempts: int) -> Tensor:
    """1 − (1 − p)^N, p = exp ℓ, the probability that one of N attempts gives the completion: (P,)."""
    return -torch.expm1(attempts * log1mexp(log_prob_P))


def log1mexp(x: Tensor) -> Tensor:
    """log(1 − e^x) for x ≤ 0, to full precision at either end (Mächler 2012); −inf at 0."""
    return torch.where(x < -math.log(2), torch.log1p(-x.exp()), torch.log(-torch.expm1(x)))


def _logit(mean_log_prob: Tensor) -> Tensor:
    """log(p/(1 − p)) of p = exp(mean), finite at certainty, with the gradient it has beside that."""
    below_P = mean_log_prob + (mean_log_prob.detach().clamp(max=-CERTAIN) - mean_log_prob.detach())
    return below_P - log1mexp(below_P)


def _margin(chosen: Scored, rejected: Scored, per_token: bool) -> Tensor:
    """r_w − r_l, or the difference of their means over tokens."""
    if per_token:
        return chosen.log_ratio / chosen.tokens_P - rejected.log_ratio / rejected.tokens_P
    return chosen.log_ratio - rejected.log_ratio


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Which of a step's completions are compared, labelled or to be forgotten: indices of shape (P,)."""

    chosen_P: Tensor
    """Chosen completions; the rows themselves for a method that knows no pairs."""
    rejected_P: Tensor | None = None
    """Rejected completions of the same prompts, for a method of pairs."""
    desirable_P: Tensor | None = None
    """Whether a row is desirable, bool; ``None`` for rows without a label."""

    @property
    def forgotten(self) -> Tensor:
        """Rows to be forgotten: those that are not desirable, or all where there are no labels."""
        return self.chosen_P if self.desirable_P is None else self.chosen_P[~self.desirable_P]


@dataclass(frozen=True, kw_only=True)
class PreferenceLoss:
    """A step's loss on given completions, over all its pairs or rows."""

    loss: float
    """Mean over pairs or rows."""
    slope_S: Tensor
    """Its derivative by each completion's ℓ, float64 of shape (S,)."""
    figures: dict[str, float]
    """What to record: ``log_prob_chosen``, ``reward_margin`` and so on, in nats."""


def preference_loss(
    objective: ObjectiveSpec, completions: Scored, preferences: Preferences, mismatched: Scored | None = None
) -> PreferenceLoss:
    """The mean loss of a step, its derivative by each ℓ, and the figures to watch.

    Args:
        objective: Names the method (``preference``) and its parameters.
        completions: All distinct completions of the step, of all ranks: (S,).
        preferences: The pairs or rows that they stand in.
        mismatched: For KTO, each prompt with another row's completion.
    """
    leaf_S = completions.log_prob_P.detach().clone().requires_grad_()
    of_policy = Scored(log_prob_P=leaf_S, reference_P=completions.reference_P, tokens_P=completions.tokens_P)
    with torch.enable_grad():
        loss_P = losses(objective, of_policy, preferences, mismatched)
        loss = loss_P.sum() / max(1, len(loss_P))  # a step may have no row to forget
        (slope_S,) = torch.autograd.grad(loss, leaf_S)
    return PreferenceLoss(
        loss=loss.item(), slope_S=slope_S, figures=_figures(objective, completions, preferences, mismatched)
    )


def losses(
    objective: ObjectiveSpec, completions: Scored, preferences: Preferences, mismatched: Scored | None = None
) -> Tensor:
    """The loss of each pair or row, (P,); see :func:`preference_loss`."""
    kind, beta, per_token = objective.preference, objective.beta, objective.per_token
    rows = completions.at(preferences.chosen_P)
    if kind == "kto":
        assert preferences.desirable_P is not None
        assert mismatched is not None
        weights = {
            "desirable_weight": objective.desirable_weight,
            "undesirable_weight": objective.undesirable_weight,
        }
        return kto(rows, preferences.desirable_P, kto_z(mismatched), beta=beta, **weights)
    if kind == "npo":
        return npo(completions.at(preferences.forgotten), beta=beta)
    if kind == "dco":
        return dco(rows, attempts=objective.attempts)
    assert preferences.rejected_P is not None
    rejected = completions.at(preferences.rejected_P)
    if kind == "dpo":
        return dpo(rows, rejected, beta=beta, per_token=per_token)
    if kind == "ipo":
        return ipo(rows, rejected, beta=beta, per_token=per_token)
    if kind == "simpo":
        return simpo(rows, rejected, beta=beta, margin=objective.margin)
    if kind == "orpo":
        return orpo(rows, rejected, beta=beta)
    assert kind == "redi"
    return redi(rows, rejected, negative_weight=objective.negative_weight)


def _figures(
    objective: ObjectiveSpec, completions: Scored, preferences: Preferences, mismatched: Scored | None
) -> dict[str, float]:
    """Figures as TRL's trainers log them; a reward is β·r, and β·ℓ/n where the method has no reference."""
    rows = completions.at(preferences.chosen_P)
    if objective.preference == "dco":
        return {
            "log_prob_chosen": _mean(rows.log_prob_P),
            "pass_at_n": _mean(pass_at(rows.log_prob_P, objective.attempts)),
        }
    if objective.preference == "npo":
        forgotten = completions.at(preferences.forgotten)
        if not len(forgotten.tokens_P):
            return {}
        return {
            "log_prob_rejected": _mean(forgotten.log_prob_P),
            "reward_rejected": objective.beta * _mean(forgotten.log_ratio),
        }
    if preferences.desirable_P is not None:
        chosen, rejected = rows, rows
        is_chosen, is_rejected = preferences.desirable_P, ~preferences.desirable_P
    else:
        assert preferences.rejected_P is not None
        chosen, rejected = rows, completions.at(preferences.rejected_P)
        is_chosen = is_rejected = torch.ones_like(rows.tokens_P, dtype=torch.bool)
    chosen_P, rejected_P = _reward(objective, chosen), _reward(objective, rejected)
    figures = {}
    if is_chosen.any():
        figures["log_prob_chosen"] = _mean(chosen.log_prob_P[is_chosen])
        figures["reward_chosen"] = _mean(chosen_P[is_chosen])
    if is_rejected.any():
        figures["log_prob_rejected"] = _mean(rejected.log_prob_P[is_rejected])
        figures["reward_rejected"] = _mean(rejected_P[is_rejected])
    if "reward_chosen" in figures and "reward_rejected" in figures:
        figures["reward_margin"] = figures["reward_chosen"] - figures["reward_rejected"]
    if preferences.desirable_P is None:
        figures["reward_accuracy"] = _mean((chosen_P > rejected_P).double())
    elif mismatched is not None:
        figures["kto_z_nats"] = kto_z(mismatched).item()
    return figures


def _reward(objective: ObjectiveSpec, scored: Scored) -> Tensor:
    if objective.has_preference_reference:
        return objective.beta * scored.log_ratio
    scale = 1.0 if objective.preference == "redi" else objective.beta
    return scale * scored.mean_log_prob


def _mean(values_P: Tensor) -> float:
    return values_P.mean().item()
