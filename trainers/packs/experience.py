"""What a member trains on: its distinct rollouts, and what each of their tokens weighs in its loss.

Shapes: D distinct rollouts, K counted tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from sweeps.spec import RunSpec
from sweeps.spec.cross_checks import group_size
from trainers.model.base_model import BaseModel
from trainers.objectives.advantage import advantages, credit
from trainers.step.rewards import OF_SCORES, Rewards
from trainers.step.rollout import Rollouts
from trainers.step.scoring import Scores


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One member's rollouts of a step as rows of a forward."""

    rollouts: Rollouts
    rows: Sequence[Sequence[int]]
    """Prompt and completion without its last token, which predicts nothing."""
    wanted: Sequence[tuple[int, int]]
    """(row, position) of each position that predicts a token of a completion."""
    target_K: Sequence[int]
    """The token that each of them predicts."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What forwards without gradients tell of a member's tokens, where its objective asks; each (K,).

    At the temperature of its objective.
    """

    log_prob_K: Tensor | None = None
    entropy_K: Tensor | None = None
    certainty_K: Tensor | None = None
    reference_K: Tensor | None = None
    """Log-probability by the untrained model."""

    def beside(self, other: Measured) -> Measured:
        """What either tells."""
        return replace(self, **{name: value for name, value in vars(other).items() if value is not None})


def joined(parts: Sequence[Measured]) -> Measured:
    """What is told of all micro batches, from that of each."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Measured(
        **{
            name: None if values[0] is None else torch.cat(values)
            for name, values in zip(vars(parts[0]), columns, strict=True)
        }
    )


@dataclass(kw_only=True)
class Policy:
    """What rewards, the reference and given completions weigh on log-probabilities."""

    gain_K: Sequence[float]
    """Of positive advantages, over what makes the loss a mean."""
    cost_K: Sequence[float]
    """Of negative ones."""
    divergence_K: Sequence[float]
    """Of the divergence from the reference."""
    reference_K: Tensor | None
    given: Given | None = None
    old_K: Tensor | None = None
    """Log-probabilities under the policy that drew the rollouts, once it has been seen."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What given completions weigh; 0 for tokens of rollouts."""

    is_given_K: Sequence[bool]
    nll_K: Sequence[float]
    """Of each negative log-likelihood, over what makes the loss a mean."""
    slope_K: Sequence[float]
    """Derivative of the loss of sequences by each log-probability."""
    share_K: Sequence[float]
    """Share of each token among those whose mean likelihood is recorded."""


@dataclass(frozen=True, kw_only=True)
class PackExperience(Drawn):
    """One member's rollouts with all that its loss needs."""

    entropy_K: Sequence[float]
    """Weight of each token's entropy in the loss."""
    share_K: Sequence[float]
    """Share of each token among all that were drawn."""
    policy: Policy | None = None
    """Where the loss reads log-probabilities."""
    sequence_loss: float = 0.0
    """The part of the loss that is a function of whole given completions, settled before the step."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Figures for the step's record."""
    parts: Sequence[PackExperience] = ()
    """The micro batches whose gradients add up to its own; none where it is computed in one."""

    @property
    def micro_batches(self) -> Sequence[PackExperience]:
        return self.parts or (self,)


def drawn_in_parts(drawn: Drawn, size: int) -> Iterator[tuple[Drawn, slice]]:
    """Yield at most ``size`` rows at a time, and which of all counted tokens are theirs."""
    if size >= len(drawn.rows):
        yield drawn, slice(0, len(drawn.target_K))
        return
    first = 0
    for start in range(0, len(drawn.rows), size):
        rows = drawn.rows[start : start + size]
        own = [(row - start, at) for row, at in drawn.wanted if start <= row < start + len(rows)]
        tokens = slice(first, first + len(own))
        first = tokens.stop
        target_K = drawn.target_K[tokens]
        yield Drawn(rollouts=drawn.rollouts, rows=rows, wanted=own, target_K=target_K), tokens


def in_micro_batches(whole: PackExperience, size: int) -> PackExperience:
    """The same, computed ``size`` rows at a time; 0 takes all."""
    if not size or size >= len(whole.rows):
        return whole
    parts = [
        PackExperience(
            **vars(drawn),
            entropy_K=whole.entropy_K[own],
            share_K=whole.share_K[own],
            policy=None if whole.policy is None else _policy_of(whole.policy, own),
        )
        for drawn, own in drawn_in_parts(whole, size)
    ]
    return replace(whole, parts=parts)


def _policy_of(policy: Policy, own: slice) -> Policy:
    return Policy(
        gain_K=policy.gain_K[own],
        cost_K=policy.cost_K[own],
        divergence_K=policy.divergence_K[own],
        reference_K=None if policy.reference_K is None else policy.reference_K[own],
        given=None if policy.given is None else Given(**{k: v[own] for k, v in vars(policy.given).items()}),
    )


def drawn_as_rows(rollouts: Rollouts, prompts: Sequence[Sequence[int]]) -> Drawn:
    rows: list[list[int]] = []
    wanted: list[tuple[int, int]] = []
    targets: list[int] = []
    for number, (prompt, completion) in enumerate(zip(rollouts.prompt, rollouts.completion, strict=True)):
        first = len(prompts[prompt]) - 1
        rows.append([*prompts[prompt], *completion[:-1]])
        wanted.extend((number, first + k) for k in range(len(completion)))
        targets.extend(completion)
    return Drawn(rollouts=rollouts, rows=rows, wanted=wanted, target_K=targets)


def asks_for_scores(spec: RunSpec) -> bool:
    """Whether rewards read what the policy thinks of its rollouts."""
    objective = spec.objective
    in_reward = objective.diverges_in_reward
    return in_reward or bool(OF_SCORES & set(objective.rewards))


def experience_of(
    spec: RunSpec, base: BaseModel, drawn: Drawn, measured: Measured, rewards: Rewards
) -> PackExperience:
    """Settle what rollouts weigh, as :mod:`trainers.step.experience` does for a run by itself."""
    objective, rollouts = spec.objective, drawn.rollouts
    count, lengths = rollouts.count, [len(completion) for completion in rollouts.completion]
    num_rollouts, num_tokens = sum(count), max(1, sum(n * c for n, c in zip(lengths, count, strict=True)))

    def over(length: int) -> float:
        """What a token's loss is divided by; see ``ObjectiveSpec.aggregation``."""
        return {
            "token": num_tokens,
            "sequence": num_rollouts * length,
            "sum": num_rollouts,
            "dr": num_rollouts * spec.sampling.max_new_tokens,
        }[objective.aggregation]

    def each(values_D: Sequence[float]) -> list[float]:
        return [v / over(n) for v, n in zip(values_D, lengths, strict=True) for _ in range(n)]

    policy, figures = None, dict[str, float]()
    if objective.reads_log_probs:
        gain_D = cost_D = [0.0] * len(count)
        if objective.is_policy_gradient:
            gain_D, cost_D, figures = _credit(spec, base, drawn, measured, rewards, num_tokens)
        in_loss = objective.diverges_in_loss
        policy = Policy(
            gain_K=each(gain_D),
            cost_K=each(cost_D),
            divergence_K=each([objective.kl_coef * c if in_loss else 0.0 for c in count]),
            reference_K=measured.reference_K if in_loss else None,
        )
    return PackExperience(
        **vars(drawn),
        entropy_K=each([objective.entropy_weight * c for c in count]),
        share_K=[c / num_tokens for c, n in zip(count, lengths, strict=True) for _ in range(n)],
        policy=policy,
        measured=figures,
    )


def _credit(
    spec: RunSpec, base: BaseModel, drawn: Drawn, measured: Measured, rewards: Rewards, num_tokens: int
) -> tuple[list[float], list[float], dict[str, float]]:
    """What each distinct rollout is worth, in gains and costs, and figures for the record."""
    objective, rollouts = spec.objective, drawn.rollouts
    scores = _scores(drawn, measured) if asks_for_scores(spec) else None
    reward_D, figures = rewards.of(spec, base, rollouts, scores).reward_D, {}
    if objective.diverges_in_reward:
        assert scores is not None
        assert measured.reference_K is not None
        divergence_D = scores.log_prob_D - _sums(drawn, measured.reference_K)
        reward_D = reward_D - objective.kl_coef * divergence_D
        figures["kl_nats"] = float(divergence_D @ np.array(rollouts.count)) / num_tokens
    reward_R = reward_D[list(rollouts.distinct)]
    size = group_size(objective, spec.sampling, spec.example)
    advantage_R = advantages(reward_R, size, objective.advantage)
    worth = credit(advantage_R, np.array(rollouts.distinct), positive_only=objective.positive_only)
    figures = {"reward": float(reward_R.mean()), **figures}
    return worth.gain_D.tolist(), worth.cost_D.tolist(), figures


def _scores(drawn: Drawn, measured: Measured) -> Scores:
    values = (measured.log_prob_K, measured.entropy_K, measured.certainty_K)
    log_prob_D, entropy_D, certainty_D = (_sums(drawn, v) for v in values if v is not None)
    lengths = np.array([len(completion) for completion in drawn.rollouts.completion], dtype=np.float64)
    return Scores(log_prob_D=log_prob_D, entropy_D=entropy_D, certainty_D=certainty_D, tokens_D=lengths)


def _sums(drawn: Drawn, values_K: Tensor) -> np.ndarray:
    """Sums over each rollout's tokens, float64 of shape (D,)."""
    lengths = [len(completion) for completion in drawn.rollouts.completion]
    return np.array([float(part.double().sum()) for part in torch.split(values_K, lengths)])
