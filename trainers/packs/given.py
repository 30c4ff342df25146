"""What a member trains on beside its rollouts, or instead of them: given completions.

They are further rows of its forward, whose tokens weigh on log-probabilities at temperature 1, as
:mod:`trainers.step.given` has it for a run by itself.

Shapes: D given completions of the step, K counted tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from sweeps.spec import ObjectiveSpec
from trainers.model.target_encoding import GivenSequence
from trainers.objectives.preference import PreferenceLoss, Scored, preference_loss
from trainers.packs.experience import Drawn, Given, Measured, PackExperience, Policy
from trainers.step.preferences import mismatched_rows, preferences_among
from trainers.step.rollout import NO_ROLLOUTS


def given_as_rows(sequences: Sequence[GivenSequence]) -> Drawn:
    """Given completions as rows of a forward, each without its last token, which predicts nothing."""
    return Drawn(
        rollouts=NO_ROLLOUTS,
        rows=[s.ids[:-1] for s in sequences],
        wanted=[(number, place - 1) for number, s in enumerate(sequences) for place in s.counted],
        target_K=[s.ids[place] for s in sequences for place in s.counted],
    )


def compared_by(objective: ObjectiveSpec, sequences: Sequence[GivenSequence]) -> list[GivenSequence]:
    """The completions whose log-probabilities a loss of sequences reads: those, and what ``kto`` compares."""
    return [*sequences, *(mismatched_rows(sequences) if objective.preference == "kto" else ())]


def worth_of(
    objective: ObjectiveSpec, sequences: Sequence[GivenSequence], told: Measured
) -> PreferenceLoss | None:
    """The loss of sequences at the weights as they are; ``None`` where the objective has no loss of them.

    Args:
        told: Of the tokens of all that :func:`compared_by` names.
    """
    if told.log_prob_K is None:
        return None
    lengths = [len(s.counted) for s in compared_by(objective, sequences)]

    def sums(values_K: Tensor) -> Tensor:
        return torch.stack([part.double().sum() for part in torch.split(values_K, lengths)]).cpu()

    log_prob, reference_K = sums(told.log_prob_K), told.reference_K
    scored = Scored(
        log_prob_P=log_prob,
        reference_P=torch.zeros_like(log_prob) if reference_K is None else sums(reference_K),
        tokens_P=torch.tensor(lengths, dtype=torch.float64),
    )
    num = len(sequences)
    mismatched = scored.at(torch.arange(num, len(lengths))) if len(lengths) > num else None
    return preference_loss(objective, scored.at(torch.arange(num)), preferences_among(sequences), mismatched)


def given_experience(
    objective: ObjectiveSpec, sequences: Sequence[GivenSequence], worth: PreferenceLoss | None
) -> PackExperience:
    """What given completions weigh, as :func:`trainers.step.given.given_experience` settles it."""
    drawn, lengths = given_as_rows(sequences), [len(s.counted) for s in sequences]
    is_nll_D, weight = [s.is_example for s in sequences], objective.preference_weight
    num_nll, num_tokens = sum(is_nll_D), max(1, sum(lengths))
    nll_tokens = max(1, sum(n for n, counts in zip(lengths, is_nll_D, strict=True) if counts))

    def over(length: int) -> float:
        """What a token's likelihood is divided by; see ``ObjectiveSpec.aggregation``."""
        num = max(1, num_nll)
        return {"token": nll_tokens, "sequence": num * length, "sum": num, "dr": num}[objective.aggregation]

    def each(values_D: Sequence[float]) -> list[float]:
        return [v for v, n in zip(values_D, lengths, strict=True) for _ in range(n)]

    zeros = [0.0] * len(drawn.target_K)
    nll_D = [
        objective.nll_weight / over(n) if counts else 0.0 for n, counts in zip(lengths, is_nll_D, strict=True)
    ]
    return PackExperience(
        **vars(drawn),
        entropy_K=zeros,
        share_K=each([1 / num_tokens] * len(sequences)),
        policy=Policy(
            gain_K=zeros,
            cost_K=zeros,
            divergence_K=zeros,
            reference_K=None,
            given=Given(
                is_given_K=[True] * len(zeros),
                nll_K=each(nll_D),
                slope_K=zeros if worth is None else each((weight * worth.slope_S).tolist()),
                share_K=each([counts / nll_tokens for counts in is_nll_D]),
            ),
        ),
        sequence_loss=weight * worth.loss if worth else 0.0,
        measured={"target_tokens": num_tokens, **(worth.figures if worth else {})},
    )


def beside_rollouts(drawn: PackExperience, given: PackExperience) -> PackExperience:
    """What a member trains on that draws rollouts and has given completions; entropies are the rollouts'."""
    assert given.policy is not None
    assert given.policy.given is not None
    own, of_given = len(drawn.target_K), len(given.target_K)
    before, zeros = [0.0] * own, [0.0] * of_given
    policy = drawn.policy or Policy(gain_K=before, cost_K=before, divergence_K=before, reference_K=None)
    reference_K = policy.reference_K
    if reference_K is not None:
        reference_K = torch.cat([reference_K, reference_K.new_zeros(of_given)])
    weights = given.policy.given
    return dataclasses.replace(
        drawn,
        rows=[*drawn.rows, *given.rows],
        wanted=[*drawn.wanted, *((len(drawn.rows) + row, place) for row, place in given.wanted)],
        target_K=[*drawn.target_K, *given.target_K],
        entropy_K=[*drawn.entropy_K, *zeros],
        share_K=[*drawn.share_K, *zeros],
        policy=Policy(
            gain_K=[*policy.gain_K, *zeros],
            cost_K=[*policy.cost_K, *zeros],
            divergence_K=[*policy.divergence_K, *zeros],
            reference_K=reference_K,
            given=Given(
                is_given_K=[*[False] * own, *weights.is_given_K],
                nll_K=[*before, *weights.nll_K],
                slope_K=[*before, *weights.slope_K],
                share_K=[*before, *weights.share_K],
            ),
        ),
        sequence_loss=given.sequence_loss,
        measured={**drawn.measured, **given.measured},
    )
