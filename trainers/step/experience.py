"""From rollouts to what an optimizer step trains on: rewards, advantages, references, micro batches.

Everything that depends on all rollouts of the step is settled here, on the host and the same on every rank:
groups, advantages, divisors. A micro batch then adds up to the whole whatever its size and wherever it is.

Shapes: R rollouts as drawn, D distinct ones, B rows of a micro batch, K positions with logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from sweeps.spec import RunSpec
from sweeps.spec.cross_checks import group_size, rollouts_per_prompt
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.model.base_model import BaseModel
from trainers.model.target_encoding import GivenSequence
from trainers.objectives.advantage import Credit, advantages, credit, rates, uniform_groups
from trainers.objectives.loss import Rows, Totals
from trainers.step.batch import MicroBatch, StepBatch, given_batch, step_batch
from trainers.step.compat import Dealing, dealing, is_dealt
from trainers.step.forward import sharing_pays
from trainers.step.given import TEMPERATURE, GivenExperience, given_experience
from trainers.step.preferences import settle_preferences
from trainers.step.reference import References
from trainers.step.rewards import OF_SCORES, Rewards
from trainers.step.rollout import NO_ROLLOUTS, Rollouts, merge
from trainers.step.scoring import log_probs, score, sums


@dataclass(frozen=True, kw_only=True)
class Experience:
    """Rollouts, given sequences, and all that the loss needs beside their logits."""

    rollouts: Rollouts
    """Empty where the objective draws none."""
    batch: StepBatch
    rows: Sequence[Rows]
    """What the loss knows of each of its micro batches."""
    totals: Totals
    measured: Mapping[str, float] = field(default_factory=dict)
    """Figures for the step's record: ``reward``, the mean over the rollouts trained on, ``kl_nats`` per
    token, and ``target_tokens``, the tokens of given completions.
    """
    given: GivenExperience | None = None
    """What training on given completions adds to the loss."""


_NO_EXPERIENCE = Experience(
    rollouts=NO_ROLLOUTS,
    batch=StepBatch(micro_batches=(), num_tokens=1),
    rows=(),
    totals=Totals(num_tokens=1, num_rollouts=1, max_new_tokens=1),
)


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """What a run's experience is made with."""

    spec: RunSpec
    base: BaseModel
    prompts: Sequence[Sequence[int]]
    engine: Engine
    rewards: Rewards
    references: References
    gang: Gang
    given: Sequence[GivenSequence] = ()
    """What the step's rows give to train on."""
    start: str = ""
    """What decides the weights that the phase trains from, beside what ``spec`` tells."""


@torch.no_grad()
def gather(context: TrainContext, draw: Callable[[int], Rollouts], *, step: int = 0) -> Experience:
    """Draw a step's rollouts and settle what they and given completions are worth; every rank must call it.

    Args:
        context: The run.
        draw: Draws the step's rollouts; told how often it was asked before.
        step: Optimizer steps taken before.
    """
    experience = (
        _of_rollouts(context, draw, step) if context.spec.objective.draws_rollouts else _NO_EXPERIENCE
    )
    if not context.given:
        return experience
    given, figures = _of_given(context)
    measured = {**experience.measured, "target_tokens": given.batch.num_tokens, **figures}
    return replace(experience, given=given, measured=measured)


def _of_given(context: TrainContext) -> tuple[GivenExperience, Mapping[str, float]]:
    """What given completions add to the loss, and the figures of those that are compared."""
    objective = context.spec.objective

    def batch_of(sequences: Sequence[GivenSequence]) -> StepBatch:
        return given_batch(
            sequences,
            size=context.spec.engine.micro_batch,
            rank=context.gang.rank,
            world_size=context.gang.world_size,
            base=context.base,
            device=context.gang.device,
        )

    batch, reference = batch_of(context.given), None
    if objective.diverges_on_completions:
        reference = context.references.log_probs(context.engine, batch, TEMPERATURE)
    if objective.preference == "none":
        return given_experience(context.given, batch, reference=reference), {}
    worth = settle_preferences(
        objective, context.given, batch_of, context.engine, context.references, context.gang
    )
    weight = objective.preference_weight
    given = given_experience(
        context.given,
        batch,
        sequence_loss=weight * worth.loss,
        slope_D=weight * worth.slope_S.numpy(),
        reference=reference,
    )
    return given, worth.figures


def _of_rollouts(context: TrainContext, draw: Callable[[int], Rollouts], step: int) -> Experience:
    objective = context.spec.objective
    rollouts = draw(0)
    if not objective.is_policy_gradient:
        dealt = None
        if is_dealt(objective.defects):
            total, num_prompts = len(rollouts.distinct), len(context.prompts)
            dealt = dealing(objective, total, num_prompts, context.spec.seed, step)
        return _experience(context, rollouts, _batch(context, rollouts, dealt), None, {})
    size = group_size(objective, context.spec.sampling, context.spec.example)
    rewarded = _rewarded(context, rollouts)
    for redraw in range(1, objective.max_redraws + 1):
        if not uniform_groups(rewarded.telling_R, size).any():
            break
        rewarded = _refilled(context, rewarded, _rewarded(context, draw(redraw)), size)
    if objective.max_redraws:
        rewarded = _without_uniform_groups(context, rewarded, size)
    advantage_R = advantages(rewarded.reward_R, size, objective.advantage)
    if (
        objective.max_redraws
    ):  # a group that nobody told apart stays where no other is left, and teaches nothing
        advantage_R[np.repeat(uniform_groups(rewarded.telling_R, size), size)] = 0.0
    distinct_R = np.array(rewarded.rollouts.distinct)
    worth = credit(advantage_R, distinct_R, positive_only=objective.positive_only)
    if objective.negative_aware:
        rate_D = np.zeros_like(worth.gain_D)
        rate_D[distinct_R] = rates(rewarded.reward_R, size)
        worth = replace(worth, cost_D=objective.negative_weight * worth.cost_D, rate_D=rate_D)
    measured = {"reward": float(rewarded.reward_R.mean()), **rewarded.measured}
    return _experience(context, rewarded.rollouts, rewarded.batch, worth, measured)


@dataclass(frozen=True, kw_only=True)
class _Rewarded:
    rollouts: Rollouts
    batch: StepBatch
    reward_R: np.ndarray
    telling_R: np.ndarray
    """What a group that tells nothing has the same of for all its rollouts; see
    :class:`trainers.step.rewards.Earned`.
    """
    measured: Mapping[str, float]


def _rewarded(context: TrainContext, rollouts: Rollouts) -> _Rewarded:
    objective, num_distinct = context.spec.objective, len(rollouts.count)
    batch = _batch(context, rollouts)
    in_reward = objective.diverges_in_reward
    scores = None
    if in_reward or OF_SCORES & set(objective.rewards):
        scores = score(context.engine.module, batch, num_distinct, objective.temperature, context.gang)
    earned = context.rewards.of(context.spec, context.base, rollouts, scores)
    reward_D = earned.reward_D
    measured = {}
    if in_reward:
        assert scores is not None
        reference = context.references.log_probs(context.engine, batch, objective.temperature)
        divergence_D = scores.log_prob_D - sums(reference, batch, num_distinct, context.gang)
        reward_D = reward_D - objective.kl_coef * divergence_D
        measured["kl_nats"] = float(divergence_D @ np.array(rollouts.count)) / batch.num_tokens
    telling_D = reward_D if earned.telling_D is None else earned.telling_D
    distinct = list(rollouts.distinct)
    rewarded = _Rewarded(
        rollouts=rollouts,
        batch=batch,
        reward_R=reward_D[distinct],
        telling_R=telling_D[distinct],
        measured=measured,
    )
    return _first_of_each_prompt(context, rewarded) if objective.trained_per_prompt else rewarded


def _first_of_each_prompt(context: TrainContext, rewarded: _Rewarded) -> _Rewarded:
    """Keep the rollouts that are trained on; the others have voted."""
    each = rollouts_per_prompt(context.spec.sampling, context.spec.example)
    kept_R = np.arange(len(rewarded.reward_R)) % each < context.spec.objective.trained_per_prompt
    return _kept(context, rewarded, kept_R)


def _refilled(context: TrainContext, old: _Rewarded, new: _Rewarded, size: int) -> _Rewarded:
    """Put groups of the new draw where the old one has uniform ones, unless they are uniform too."""
    take = uniform_groups(old.telling_R, size) & ~uniform_groups(new.telling_R, size)
    if not take.any():
        return old
    taken_R = np.repeat(take, size)
    pairs = [n if t else o for t, o, n in zip(taken_R, _pairs(old), _pairs(new), strict=True)]
    return _of_pairs(
        context,
        pairs,
        reward_R=np.where(taken_R, new.reward_R, old.reward_R),
        telling_R=np.where(taken_R, new.telling_R, old.telling_R),
        measured=old.measured,
    )


def _without_uniform_groups(context: TrainContext, rewarded: _Rewarded, size: int) -> _Rewarded:
    """Leave groups out that tell nothing, unless no other is left."""
    uniform = uniform_groups(rewarded.telling_R, size)
    if uniform.all() or not uniform.any():
        return rewarded
    return _kept(context, rewarded, np.repeat(~uniform, size))


def _kept(context: TrainContext, rewarded: _Rewarded, kept_R: np.ndarray) -> _Rewarded:
    pairs = [pair for pair, kept in zip(_pairs(rewarded), kept_R, strict=True) if kept]
    return _of_pairs(
        context,
        pairs,
        reward_R=rewarded.reward_R[kept_R],
        telling_R=rewarded.telling_R[kept_R],
        measured=rewarded.measured,
    )


def _pairs(rewarded: _Rewarded) -> list[tuple[int, tuple[int, ...]]]:
    drawn = rewarded.rollouts
    return [(drawn.prompt[d], drawn.completion[d]) for d in drawn.distinct]


def _of_pairs(
    context: TrainContext,
    pairs: Sequence[tuple[int, tuple[int, ...]]],
    *,
    reward_R: np.ndarray,
    telling_R: np.ndarray,
    measured: Mapping[str, float],
) -> _Rewarded:
    rollouts = merge([p for p, _ in pairs], [c for _, c in pairs])
    return _Rewarded(
        rollouts=rollouts,
        batch=_batch(context, rollouts),
        reward_R=reward_R,
        telling_R=telling_R,
        measured=measured,
    )


def _batch(context: TrainContext, rollouts: Rollouts, dealt: Dealing | None = None) -> StepBatch:
    spec = context.spec
    return step_batch(
        rollouts,
        context.prompts,
        size=spec.engine.micro_batch,
        rank=context.gang.rank,
        world_size=context.gang.world_size,
        base=context.base,
        device=context.gang.device,
        objective=spec.objective,
        dealt=dealt,
        share_prompt=sharing_pays(spec, context.prompts),
    )


def _experience(
    context: TrainContext,
    rollouts: Rollouts,
    batch: StepBatch,
    worth: Credit | None,
    measured: Mapping[str, float],
) -> Experience:
    objective = context.spec.objective
    old: Sequence[Tensor | None] = [None] * len(batch.micro_batches)
    reference: Sequence[Tensor | None] = old
    if objective.is_policy_gradient and objective.has_ratio and objective.iterations > 1:
        old = log_probs(context.engine.module, batch, objective.temperature)
    if objective.diverges_in_loss:
        reference = context.references.log_probs(context.engine, batch, objective.temperature)
    return Experience(
        rollouts=rollouts,
        batch=batch,
        rows=[
            _rows(micro_batch, worth, *beside)
            for micro_batch, *beside in zip(batch.micro_batches, old, reference, strict=True)
        ],
        totals=Totals(
            num_tokens=batch.num_tokens,
            num_rollouts=sum(rollouts.count),
            max_new_tokens=context.spec.sampling.max_new_tokens,
        ),
        measured=measured,
    )


def _rows(
    micro_batch: MicroBatch, worth: Credit | None, old_BK: Tensor | None, reference_BK: Tensor | None
) -> Rows:
    none_B = torch.zeros_like(micro_batch.weight_B)

    def of_rows(values_D: np.ndarray | None) -> Tensor:
        if values_D is None:
            return none_B
        values = torch.as_tensor(values_D, dtype=torch.float32, device=none_B.device)
        return values[micro_batch.rollout_B].where(micro_batch.weight_B > 0, none_B)

    rate_B = None
    if worth is not None and worth.rate_D is not None:  # a filler has that of the rollout it points at
        rate_D = torch.as_tensor(worth.rate_D, dtype=torch.float32, device=none_B.device)
        rate_B = rate_D[micro_batch.rollout_B]
    return Rows(
        target_BK=micro_batch.target_BK,
        mask_BK=micro_batch.mask_BK,
        count_B=micro_batch.loss_weight_B,
        gain_B=of_rows(worth.gain_D if worth else None),
        cost_B=of_rows(worth.cost_D if worth else None),
        rate_B=rate_B,
        old_log_prob_BK=old_BK,
        reference_BK=reference_BK,
    )
