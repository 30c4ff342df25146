"""From distinct rollouts to the micro batches that one rank feeds its engine.

Shapes: B rows of a micro batch, T tokens, K last positions, whose logits are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainers.model.base_model import BaseModel
from trainers.step.compat import masked_tokens, predicting_offset
from trainers.step.masks import predicting_mask
from trainers.step.rollout import Rollouts


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Rows of one forward, right-padded."""

    ids_BT: Tensor
    mask_BK: Tensor
    """True where the loss counts a position, over the last K positions."""
    target_BK: Tensor
    rollout_B: Tensor
    """Index of the distinct rollout that each row is; a filler's weight is 0, whatever it points at."""
    weight_B: Tensor
    """Multiplicity of each row; 0 for a filler."""
    shared_prompt: int
    """Leading tokens, the same in every row, whose forward is made once for all of them; 0 for none."""

    @property
    def num_logits(self) -> int:
        """K, for ``logits_to_keep``."""
        return self.mask_BK.shape[1]


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """One rank's share of an optimizer step, cut into micro batches of equal shape."""

    micro_batches: Sequence[MicroBatch]
    """Equally many on every rank."""
    num_tokens: int
    """Tokens the loss counts over all rollouts, micro batches and ranks, multiplicity included; at least 1.
    """


def step_batch(
    rollouts: Rollouts,
    prompts: Sequence[Sequence[int]],
    *,
    size: int,
    rank: int,
    world_size: int,
    base: BaseModel,
    device: torch.device,
    defects: frozenset[str] = frozenset(),
    share_prompt: bool = False,
) -> StepBatch:
    """Deal the rows out to the ranks and cut this rank's share into micro batches.

    Every rank gets equally many, filled up with rows of weight 0, or ZeRO-3 would wait for ever.

    Args:
        size: Rows per micro batch; 0 puts the whole share into one.
        base: Gives the padding and EOS tokens.
        defects: Of the published trainer, to be reproduced.
        share_prompt: Forward a single prompt once per micro batch instead of once per row.
    """
    widest = max(map(len, prompts))
    rows = []
    drawn = zip(rollouts.prompt, rollouts.completion, rollouts.count, strict=True)
    for number, (p, completion, count) in enumerate(drawn):
        ended = bool(completion) and completion[-1] in base.eos_ids
        counted = masked_tokens(len(prompts[p]), len(completion), widest, ended, defects)
        ids = [*prompts[p], *completion]
        rows.append(_Row(ids=ids, counted=counted, weight=count, rollout=number))
    offset = predicting_offset(defects)
    # The longest row's last token is fed only where its own position counts, as in the unshifted mask.
    width = max(len(row.ids) for row in rows) + offset
    first = max(0, min(row.counted.start for row in rows) + offset)
    shared_prompt = len(prompts[0]) if share_prompt and len(prompts) == 1 else 0
    if shared_prompt:
        first = shared_prompt - 1
    share = -(-len(rows) // world_size)
    size = min(size or share, share)
    own_rows = rows[rank::world_size]
    filler = replace(rows[0], weight=0)
    own_rows += [filler] * (-(-share // size) * size - len(own_rows))
    return StepBatch(
        micro_batches=[
            _micro_batch(
                own_rows[start : start + size], width, first, offset, base.pad_id, device, shared_prompt
            )
            for start in range(0, len(own_rows), size)
        ],
        num_tokens=max(1, sum(len(row.counted) * row.weight for row in rows)),
    )


@dataclass(frozen=True, kw_only=True)
class _Row:
    ids: list[int]
    counted: range
    weight: int
    rollout: int


def _micro_batch(
    rows: Sequence[_Row],
    width: int,
    first: int,
    offset: int,
    pad_id: int,
    device: torch.device,
    shared_prompt: int,
) -> MicroBatch:
    ids = torch.tensor([(row.ids + [pad_id] * (width + 1))[: width + 1] for row in rows], device=device)
    mask_BT = predicting_mask(
        [row.counted for row in rows], [min(len(row.ids), width) for row in rows], width, offset=offset
    )
    return MicroBatch(
        ids_BT=ids[:, :width],
        mask_BK=mask_BT[:, first:].to(device),
        target_BK=ids[:, first + 1 :],
        rollout_B=torch.tensor([row.rollout for row in rows], device=device),
        weight_B=torch.tensor([float(row.weight) for row in rows], device=device),
        shared_prompt=shared_prompt,
    )
