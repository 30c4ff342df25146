"""From given sequences to what an optimizer step trains on beside its rollouts, or instead of them.

Shapes: D given sequences of the step, B rows of a micro batch, K positions with logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import torch

from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.model.target_encoding import GivenSequence
from trainers.objectives.given import GivenRows
from trainers.objectives.loss import Totals
from trainers.step.batch import StepBatch
from trainers.step.reference import References
from trainers.step.scoring import log_probs, sums

TEMPERATURE = 1.0
"""At which given completions are likely or not: they were not drawn at any other."""


@dataclass(frozen=True, kw_only=True)
class GivenExperience:
    """Given sequences and all that their loss needs beside their logits."""

    batch: StepBatch
    rows: Sequence[GivenRows]
    """What the loss knows of each of its micro batches."""
    totals: Totals
    """Of the sequences whose negative log-likelihood is part of the loss."""
    sequence_loss: float = 0.0
    """The part of the loss that is a function of whole sequences, at the weights it was settled with."""


def given_experience(
    sequences: Sequence[GivenSequence],
    batch: StepBatch,
    *,
    sequence_loss: float = 0.0,
    slope_D: np.ndarray | None = None,
    reference: Sequence[torch.Tensor] | None = None,
) -> GivenExperience:
    """What the micro batches of given sequences add to the loss.

    Args:
        sequences: Those of the step, on every rank the same.
        batch: This rank's share of them.
        sequence_loss: Value of a loss of sequences (:mod:`trainers.objectives.given`), over the whole step.
        slope_D: Its derivative by the log-probability of each sequence.
        reference: Log π_ref of each token, one (B, K) per micro batch, where the loss measures a divergence.
    """
    is_example = [s.is_example for s in sequences]
    totals = Totals(
        num_tokens=max(1, sum(len(s.counted) for s in compress(sequences, is_example))),
        num_rollouts=max(1, sum(is_example)),
        max_new_tokens=1,
    )
    rows = []
    for number, micro_batch in enumerate(batch.micro_batches):
        is_row_B, device = micro_batch.weight_B > 0, micro_batch.weight_B.device
        nll_B = is_row_B
        if not all(is_example):
            nll_B = torch.tensor(is_example, device=device)[micro_batch.rollout_B] & is_row_B
        slope_B = None
        if slope_D is not None:
            slopes = torch.as_tensor(slope_D, dtype=torch.float32, device=device)
            slope_B = slopes[micro_batch.rollout_B] * is_row_B
        rows.append(
            GivenRows(
                target_BK=micro_batch.target_BK,
                mask_BK=micro_batch.mask_BK,
                nll_BK=micro_batch.mask_BK & nll_B[:, None],
                reference_BK=None if reference is None else reference[number],
                slope_B=slope_B,
            )
        )
    return GivenExperience(batch=batch, rows=rows, totals=totals, sequence_loss=sequence_loss)


def sequence_log_probs(module: torch.nn.Module, batch: StepBatch, num: int, gang: Gang) -> np.ndarray:
    """ℓ: the log-probability of each given completion under the policy, float64 of shape (D,), the same on
    every rank; every rank must call it.
    """
    return sums(log_probs(module, batch, TEMPERATURE), batch, num, gang)


def reference_log_probs(
    references: References, engine: Engine, batch: StepBatch, num: int, gang: Gang
) -> np.ndarray:
    """The same under the frozen reference."""
    return sums(references.log_probs(engine, batch, TEMPERATURE), batch, num, gang)
