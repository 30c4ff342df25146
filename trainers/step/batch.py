"""From distinct rollouts, or given sequences, to the micro batches that one rank feeds its engine.

Shapes: B rows of a micro batch, T tokens, K last positions, whose logits are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sweeps.spec import ObjectiveSpec
from trainers.model.base_model import BaseModel
from trainers.model.target_encoding import GivenSequence
from trainers.step.compat import Dealing, masked_tokens, padding_ids, predicting_offset
from trainers.step.masks import predicting_mask
from trainers.step.rollout import Rollouts

_AS_IT_SHOULD = ObjectiveSpec()
"""An objective that reproduces no defect of the published trainer."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Rows of one forward, right-padded."""

    ids_BT: Tensor
    mask_BK: Tensor
    """True where the loss counts a position, over the last K positions."""
    target_BK: Tensor
    rollout_B: Tensor
    """Index of the distinct rollout or given sequence that each row is; a filler's
    weight is 0, whatever it points at.
    """
    weight_B: Tensor
    """Multiplicity of each row; 0 for a filler."""
    loss_weight_B: Tensor
    """Weight of each row's tokens in the loss, before that is divided by the number of tokens: the
    multiplicity, unless means of the published micro batches are reproduced.
    """
    shared_prompt: int
    """Leading tokens, the same in every row, whose forward is made once for all of them; 0 for none."""
    attended_BT: Tensor | None = None
    """1 where a token may be attended to; ``None`` for everywhere, padding being at the end."""
    logged_B: Tensor | None = None
    """Copies of each row in the micro batch whose loss is the recorded one; ``None`` records that of all."""

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
    logged_tokens: int | None = None
    """The same over the micro batch whose loss is the recorded one; ``None`` where that of all is."""


def step_batch(
    rollouts: Rollouts,
    prompts: Sequence[Sequence[int]],
    *,
    size: int,
    rank: int,
    world_size: int,
    base: BaseModel,
    device: torch.device,
    objective: ObjectiveSpec | None = None,
    dealt: Dealing | None = None,
    share_prompt: bool = False,
) -> StepBatch:
    """Deal the rows out to the ranks and cut this rank's share into micro batches.

    Every rank gets equally many, filled up with rows of weight 0, or ZeRO-3 would wait for ever.

    Args:
        size: Rows per micro batch; 0 puts the whole share into one.
        base: Gives the padding and EOS tokens.
        objective: Says which defects of the published trainer to reproduce.
        dealt: That trainer's micro batches, where the loss depends on them.
        share_prompt: Forward a single prompt once per micro batch instead of once per row.
    """
    objective = objective or _AS_IT_SHOULD
    rows = _rows(rollouts, prompts, objective, padding_ids(base, objective), dealt)
    shared_prompt = len(prompts[0]) if share_prompt and len(prompts) == 1 else 0
    ranks = _Ranks(size=size, rank=rank, world_size=world_size, pad_id=base.pad_id, device=device)
    return _dealt_out(rows, ranks, objective, dealt, shared_prompt)


def given_batch(
    sequences: Sequence[GivenSequence],
    *,
    size: int,
    rank: int,
    world_size: int,
    base: BaseModel,
    device: torch.device,
) -> StepBatch:
    """The same of given sequences, of which each is a row, in their order."""
    rows = [
        _Row(
            ids=list(sequence.ids),
            start=sequence.counted[0],
            counted=sequence.counted,
            num_counted=len(sequence.counted),
            weight=1,
            loss_weight=1.0,
            logged=0,
            hidden=(),
            rollout=number,
        )
        for number, sequence in enumerate(sequences)
    ]
    ranks = _Ranks(size=size, rank=rank, world_size=world_size, pad_id=base.pad_id, device=device)
    return _dealt_out(rows, ranks, _AS_IT_SHOULD, None, 0)


@dataclass(frozen=True, kw_only=True)
class _Ranks:
    """Who computes the rows, and how many at once."""

    size: int
    rank: int
    world_size: int
    pad_id: int
    device: torch.device


def _dealt_out(
    rows: Sequence[_Row],
    ranks: _Ranks,
    objective: ObjectiveSpec,
    dealt: Dealing | None,
    shared_prompt: int,
) -> StepBatch:
    offset = predicting_offset(objective.defects)
    num_tokens = max(1, sum(row.num_counted * row.weight for row in rows))
    logged_tokens = None
    if dealt is not None and "rank0_loss" in objective.defects:
        logged_tokens = max(1, sum(row.num_counted * row.logged for row in rows))
    # The longest row's last token is fed only where its own position counts, as in the unshifted mask.
    width = max(len(row.ids) for row in rows) + offset
    first = max(0, min(row.start for row in rows) + offset)
    masks_attention = any(row.hidden for row in rows)
    if masks_attention:
        shared_prompt = 0
    if shared_prompt:
        first = shared_prompt - 1
    share = -(-len(rows) // ranks.world_size)
    size = min(ranks.size or share, share)
    own_rows = list(rows[ranks.rank :: ranks.world_size])
    if missing := -(-share // size) * size - len(own_rows):
        own_rows += [replace(rows[0], weight=0, loss_weight=0.0, logged=0)] * missing
    shape = _Shape(
        width=width,
        first=first,
        offset=offset,
        shared_prompt=shared_prompt,
        masks_attention=masks_attention,
        is_logged=logged_tokens is not None,
        scale=num_tokens if "micro_batch_means" in objective.defects else 1,
    )
    starts = range(0, len(own_rows), size)
    return StepBatch(
        micro_batches=[
            _micro_batch(own_rows[k : k + size], shape, ranks.pad_id, ranks.device) for k in starts
        ],
        num_tokens=num_tokens,
        logged_tokens=logged_tokens,
    )


@dataclass(frozen=True, kw_only=True)
class _Row:
    ids: list[int]
    start: int
    """First token that may count."""
    counted: Sequence[int]
    num_counted: int
    """Those of them that some position predicts."""
    weight: int
    loss_weight: float
    logged: int
    hidden: tuple[int, ...]
    """Tokens before the last one that are not attended to."""
    rollout: int


def _rows(
    rollouts: Rollouts,
    prompts: Sequence[Sequence[int]],
    objective: ObjectiveSpec,
    padding: frozenset[int],
    dealt: Dealing | None,
) -> list[_Row]:
    """One row a distinct rollout; several where it is padded to several widths."""
    widest, offset = max(map(len, prompts)), predicting_offset(objective.defects)

    def row(rollout: int, width: int, weight: int) -> _Row:
        prompt, completion = prompts[rollouts.prompt[rollout]], rollouts.completion[rollout]
        ids = [*prompt, *completion]
        counted = masked_tokens(ids, len(prompt), width, padding, objective.defects)
        return _Row(
            ids=ids,
            start=min(counted, default=len(prompt)),
            counted=counted,
            num_counted=sum(token + offset >= 0 for token in counted),
            weight=weight,
            loss_weight=weight,
            logged=0,
            hidden=tuple(t for t, token in enumerate(ids[:-1]) if token in padding),
            rollout=rollout,
        )

    if dealt is None:
        return [row(number, widest, count) for number, count in enumerate(rollouts.count)]
    rows: dict[tuple[int, int], _Row] = {}
    num_micro_batches = len(dealt.micro_batches)
    for number, drawn in enumerate(dealt.micro_batches):
        members = [rollouts.distinct[k] for k in drawn]
        width = widest
        if "padded_lengths" in objective.defects:
            width = max(len(prompts[rollouts.prompt[rollout]]) for rollout in members)
        for rollout in members:
            rows.setdefault((rollout, width), row(rollout, width, 0))
        num_counted = max(1, sum(rows[rollout, width].num_counted for rollout in members))
        for rollout in members:
            old = rows[rollout, width]
            rows[rollout, width] = replace(
                old,
                weight=old.weight + 1,
                loss_weight=old.loss_weight + _share(objective, num_micro_batches * num_counted),
                logged=old.logged + int(number == dealt.logged),
            )
    return [rows[key] for key in sorted(rows)]


def _share(objective: ObjectiveSpec, tokens: int) -> float:
    """What a copy of a row adds to the weight of its tokens."""
    return 1 / tokens if "micro_batch_means" in objective.defects else 1.0


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What all micro batches of a step have in common."""

    width: int
    first: int
    """First position whose logits are needed."""
    offset: int
    shared_prompt: int
    masks_attention: bool
    is_logged: bool
    scale: int
    """Turns rows' weights in the loss into those before the division by the number of tokens."""


def _micro_batch(rows: Sequence[_Row], shape: _Shape, pad_id: int, device: torch.device) -> MicroBatch:
    width, first = shape.width, shape.first
    padding = [pad_id] * (width + 1)
    ids = torch.from_numpy(np.array([(row.ids + padding)[: width + 1] for row in rows])).to(device)
    mask_BT = predicting_mask(
        [row.counted for row in rows],
        [min(len(row.ids), width) for row in rows],
        width,
        offset=shape.offset,
    )
    attended_BT = None
    if shape.masks_attention:
        attended_BT = torch.ones(len(rows), width, dtype=torch.long)
        for number, row in enumerate(rows):
            attended_BT[number, [t for t in row.hidden if t < width]] = 0
        attended_BT = attended_BT.to(device)
    return MicroBatch(
        ids_BT=ids[:, :width],
        mask_BK=mask_BT[:, first:].to(device),
        target_BK=ids[:, first + 1 :],
        rollout_B=torch.tensor([row.rollout for row in rows], device=device),
        weight_B=torch.tensor([float(row.weight) for row in rows], device=device),
        loss_weight_B=torch.tensor([row.loss_weight * shape.scale for row in rows], device=device),
        shared_prompt=shape.shared_prompt,
        attended_BT=attended_BT,
        logged_B=torch.tensor([float(row.logged) for row in rows], device=device)
        if shape.is_logged
        else None,
    )
