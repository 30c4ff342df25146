"""Defects of the published one-shot EM trainer, reproduced on request to trace a published number.

``objective.compat`` is ``exact`` (none of them), ``upstream`` (all), or names joined by ``+``. Each was read
in the published code of arXiv 2505.20282, whose update is that of ``upstream``:

``micro_steps``        A "step" counts micro batches of 2 rollouts a GPU: by step s only
                       floor(s / accumulation) optimizer updates were made. On eight GPUs, step 10 is 2.
``shared_noise``       All ranks share one seed, so with identical prompts every rank draws the same rollouts:
                       64 rollouts are eight copies of eight.
``padded_lengths``     With left padding, a prompt's token count is used as an absolute index: in a micro
                       batch of unequal prompts, positions inside the shorter ones count as completion.
``unshifted_mask``     The mask is not shifted against the logits: it omits the position that predicts the
                       first completion token and includes the one after the last.
``eos_as_padding``     Padding is told by token id, so with pad == EOS every EOS is taken for padding: that
                       of a completion drops out of the loss, one inside a prompt out of attention and out of
                       the count of its tokens. ``upstream`` does so where the tokenizer's padding token is
                       the EOS or missing; the name alone makes EOS the padding of any model.
``micro_batch_means``  The loss is the mean of the micro batches' token means, not the mean over all tokens.
``bf16_entropy``       Softmax, logarithm and sums are computed in bfloat16.
``rank0_loss``         The loss in the log is that of rank 0's last micro batch alone.

``objective.compat_world_size`` and ``objective.compat_micro_batch`` say on how many GPUs, and how many
rollouts at a time. A micro batch's prompts come in shuffled order, as from the published loader.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from sweeps.spec import ObjectiveSpec
from trainers.model.base_model import BaseModel
from trainers.noise import Stream, uniforms

EXACT: frozenset[str] = frozenset()
"""No defects."""

_DEALT = frozenset(("padded_lengths", "micro_batch_means", "rank0_loss"))
"""Defects for which it matters which rollouts share a micro batch."""


@dataclass(frozen=True, kw_only=True)
class Dealing:
    """The published trainer's micro batches of one update: which rollout is in which, and on which rank."""

    order: Sequence[int]
    """Rollout, counted as drawn, at each place; a micro batch is a run of ``micro_batch`` places, the first
    one on rank 0, the next one on rank 1.
    """
    world_size: int
    micro_batch: int

    @property
    def micro_batches(self) -> list[Sequence[int]]:
        starts = range(0, len(self.order), self.micro_batch)
        return [self.order[start : start + self.micro_batch] for start in starts]

    @property
    def logged(self) -> int:
        """The micro batch whose loss is logged: the last one on rank 0."""
        return (len(self.micro_batches) - 1) // self.world_size * self.world_size

    def noise_rows(self) -> list[int]:
        """Row of the noise table that each rollout reads where all ranks share their noise: its number on its
        own rank.
        """
        rows = [0] * len(self.order)
        for place, rollout in enumerate(self.order):
            turn = place // self.micro_batch // self.world_size
            rows[rollout] = turn * self.micro_batch + place % self.micro_batch
        return rows


def dealing(objective: ObjectiveSpec, num_rollouts: int, num_prompts: int, seed: int, step: int) -> Dealing:
    """Deal the rollouts of one update out. Those of a single prompt are as good in one order as in another.

    Args:
        step: optimizer steps taken before.
    """
    order = np.arange(num_rollouts)
    if num_prompts > 1:
        order = np.argsort(uniforms(seed, Stream.DEALING, step, 0, num_rollouts), kind="stable")
    return Dealing(
        order=order.tolist(),
        world_size=objective.compat_world_size,
        micro_batch=objective.compat_micro_batch,
    )


def is_dealt(defects: Set[str]) -> bool:
    """Whether the loss depends on which rollouts share a micro batch."""
    return bool(_DEALT & defects)


def updates_by(step: int, num_rollouts: int, objective: ObjectiveSpec) -> int:
    """Optimizer updates made by the end of ``step``: ``step``, unless ``micro_steps`` is reproduced."""
    if "micro_steps" not in objective.defects:
        return step
    at_once = objective.compat_micro_batch * objective.compat_world_size
    return step // max(1, num_rollouts // at_once)


def padding_ids(base: BaseModel, objective: ObjectiveSpec) -> frozenset[int]:
    """Tokens taken for padding wherever they stand: none, unless ``eos_as_padding`` is reproduced."""
    if "eos_as_padding" not in objective.defects:
        return frozenset()
    if objective.compat == "upstream" or base.pad_id in base.eos_ids:
        return frozenset((base.pad_id,))
    return frozenset(base.eos_ids)


def masked_tokens(
    ids: Sequence[int], prompt: int, widest: int, padding: Set[int], defects: Set[str]
) -> Sequence[int]:
    """Tokens of one row, counted from its first real one, whose entropy enters the loss.

    Args:
        ids: The row's tokens, prompt and completion, EOS included.
        prompt: How many of them are the prompt's.
        widest: Tokens of the longest prompt that it is padded to.
        padding: From :func:`padding_ids`.
        defects: Of :attr:`ObjectiveSpec.defects`.
    """
    start = prompt
    if "padded_lengths" in defects:
        # The count of real tokens is an index into a row that `widest − prompt` tokens of padding precede.
        real = sum(token not in padding for token in ids[:prompt])
        start = max(real - (widest - prompt), 0)
    if not padding:
        return range(start, len(ids))
    return [t for t in range(start, len(ids)) if ids[t] not in padding]


def predicting_offset(defects: Set[str]) -> int:
    """Logits at position t + offset stand for token t: −1, or 0 where ``unshifted_mask`` is reproduced."""
    return 0 if "unshifted_mask" in defects else -1
