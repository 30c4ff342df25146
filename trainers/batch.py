"""From distinct rollouts to the micro batches that one rank feeds its engine.

Shapes: B rows of a micro batch, T tokens, K = T − (shortest prompt) + 1 positions whose logits are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.masks import completion_mask
from trainers.rollout import Rollouts


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Rows of one forward, right-padded."""

    ids_BT: Tensor
    """Token ids; the last token of the longest row is left out, since nothing is predicted from it."""
    mask_BK: Tensor
    """True where a completion token is predicted, over the last K positions."""
    weight_B: Tensor
    """Multiplicity of each row; 0 for a filler."""

    @property
    def num_logits(self) -> int:
        """K, for ``logits_to_keep``."""
        return self.mask_BK.shape[1]


def micro_batches(
    rollouts: Rollouts,
    prompts: Sequence[Sequence[int]],
    *,
    size: int,
    rank: int,
    world_size: int,
    pad_id: int,
    device: torch.device,
) -> Iterator[MicroBatch]:
    """Deal the rows out to the ranks and cut this rank's share into micro batches of equal shape.

    Every rank yields equally many, filled up with rows of weight 0, or ZeRO-3 would wait for ever.

    Args:
        rollouts: The step's distinct rollouts.
        prompts: Encoded prompts.
        size: Rows per micro batch; 0 puts the whole share into one.
        rank: This rank.
        world_size: Ranks.
        pad_id: Filler token.
        device: Where the tensors go.
    """
    rows = [
        (len(prompts[p]), [*prompts[p], *c], n)
        for p, c, n in zip(rollouts.prompt, rollouts.completion, rollouts.count, strict=True)
    ]
    width = max(len(ids) for _, ids, _ in rows)
    shortest = min(length for length, _, _ in rows)
    share = -(-len(rows) // world_size)
    size = min(size or share, share)
    length, ids, _ = rows[0]
    mine = rows[rank::world_size]
    mine += [(length, ids, 0)] * (-(-share // size) * size - len(mine))
    for start in range(0, len(mine), size):
        some = mine[start : start + size]
        prompt_B = torch.tensor([length for length, _, _ in some])
        total_B = torch.tensor([len(ids) for _, ids, _ in some])
        mask_BT = completion_mask(prompt_B, total_B - prompt_B, width)
        yield MicroBatch(
            ids_BT=torch.tensor([ids + [pad_id] * (width - len(ids)) for _, ids, _ in some])[:, :-1].to(
                device
            ),
            mask_BK=mask_BT[:, shortest - 1 : -1].to(device),
            weight_B=torch.tensor([float(n) for _, _, n in some], device=device),
        )
