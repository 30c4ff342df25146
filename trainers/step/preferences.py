"""What a step's pairs and labelled completions are worth, settled before the pass with gradients.

One forward without gradients by the policy, one by the reference where the loss has one, of all completions
of the step on all ranks. The loss and its derivative by each completion's log-probability are then constants,
the same on every rank; see :mod:`trainers.objectives.preference`.

Shapes: S given completions of the step, P pairs or rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from sweeps.spec import ObjectiveSpec
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.model.target_encoding import GivenSequence
from trainers.objectives.preference import PreferenceLoss, Preferences, Scored, preference_loss
from trainers.step.batch import StepBatch
from trainers.step.given import reference_log_probs, sequence_log_probs
from trainers.step.reference import References


def settle_preferences(
    objective: ObjectiveSpec,
    sequences: Sequence[GivenSequence],
    batch_of: Callable[[Sequence[GivenSequence]], StepBatch],
    engine: Engine,
    references: References,
    gang: Gang,
) -> PreferenceLoss:
    """The step's loss on pairs or labelled completions, at the weights as they are; every rank must call it.

    Args:
        objective: Names the loss.
        sequences: All that the step's rows give, on every rank the same.
        batch_of: Deals sequences out to the ranks; returns this one's share.
        engine: Holds the policy, and lends its module to the reference.
        references: What the reference is known to think.
        gang: The ranks.
    """

    def scored(of: Sequence[GivenSequence]) -> Scored:
        batch = batch_of(of)
        log_prob_S = sequence_log_probs(engine.module, batch, len(of), gang)
        reference_S = np.zeros_like(log_prob_S)
        if objective.has_preference_reference:
            reference_S = reference_log_probs(references, engine, batch, len(of), gang)
        return Scored(
            log_prob_P=torch.from_numpy(log_prob_S),
            reference_P=torch.from_numpy(reference_S),
            tokens_P=torch.tensor([len(s.counted) for s in of], dtype=torch.float64),
        )

    mismatched = scored(mismatched_rows(sequences)) if objective.preference == "kto" else None
    return preference_loss(objective, scored(sequences), preferences_among(sequences), mismatched)


def preferences_among(sequences: Sequence[GivenSequence]) -> Preferences:
    """Which of some completions are chosen, rejected, desirable."""
    roles = np.array([s.role for s in sequences])
    [rejected_P] = np.nonzero(roles == "rejected")
    [chosen_P] = np.nonzero(roles != "rejected")
    labels = [sequences[k].desirable for k in chosen_P.tolist()]
    return Preferences(
        chosen_P=torch.from_numpy(chosen_P),
        rejected_P=torch.from_numpy(rejected_P) if len(rejected_P) else None,
        desirable_P=None if None in labels else torch.tensor(labels, dtype=torch.bool),
    )


def mismatched_rows(sequences: Sequence[GivenSequence]) -> list[GivenSequence]:
    """Each row's prompt with the completion of the row before it, the first with that of the last.

    As TRL's ``KTOTrainer`` pairs the rows of a batch; of a step's two rows on, no prompt meets its own.
    """
    return [_with_completion_of(s, sequences[number - 1]) for number, s in enumerate(sequences)]


def _with_completion_of(sequence: GivenSequence, other: GivenSequence) -> GivenSequence:
    """A row's prompt, which ends where its first counted token is, and what follows another's."""
    prompt, begin = sequence.ids[: sequence.counted[0]], other.counted[0]
    return replace(
        sequence,
        ids=(*prompt, *other.ids[begin:]),
        counted=tuple(len(prompt) + place - begin for place in other.counted),
    )
