"""Token rows of a pack's members, laid end to end for one forward.

A member's rows are padded to a length that follows from its own longest row, a multiple of :data:`TILE`; how
many there are, and where, never depends on another member.

Shapes: N tokens of all members, K positions with logits, T tokens of one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from trainers.packs.architecture import LANES

TILE = LANES
"""Rows are padded to a multiple of so many tokens, and a member's rows to as many in evaluation."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Neighbouring slots with equally many tokens each: one batched product serves them."""

    slot: int
    """The first slot."""
    row: int
    """Where the gradients of the first slot are held."""
    num: int
    start: int
    """Its first token."""
    each: int
    """Tokens of each slot."""

    @property
    def stop(self) -> int:
        return self.start + self.num * self.each

    @property
    def slots(self) -> slice:
        return slice(self.slot, self.slot + self.num)

    @property
    def held(self) -> slice:
        """Where the slots' gradients are held."""
        return slice(self.row, self.row + self.num)

    @property
    def tokens(self) -> slice:
        return slice(self.start, self.stop)


@dataclass(frozen=True, kw_only=True)
class MemberRows:
    """What one member has in a forward."""

    slot: int
    rows: Sequence[Sequence[int]]
    """Token ids, unpadded."""
    wanted: Sequence[tuple[int, int]]
    """(row, position) of each position whose logits are needed, at least one."""
    held: int | None = None
    """The row that its gradients are held in, ``None`` for its slot's; neighbouring slots have neighbours."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """One forward's input."""

    ids_N: Tensor
    slot_N: Tensor
    position_N: Tensor
    spans: Sequence[Span]
    rows: Sequence[tuple[int, int, int]]
    """(first token, token after the last, T) of neighbouring rows of one length."""
    wanted_K: Tensor
    """Token at each position with logits, each once; a member's are filled up to a multiple of
    :data:`TILE`.
    """
    asked_K: Sequence[int]
    """Which of them were asked for, in the order they were."""
    wanted_slot_K: Tensor
    wanted_spans: Sequence[Span]


def spans_of(counts: Sequence[tuple[int, int]], held: Sequence[int]) -> list[Span]:
    """Spans of neighbours.

    Args:
        counts: (slot, number of tokens) in ascending order of slots, none of them twice.
        held: The row that the gradients of each are held in.
    """
    spans: list[Span] = []
    start = 0
    for (slot, each), row in zip(counts, held, strict=True):
        last = spans[-1] if spans else None
        if last is not None and last.each == each and last.slot + last.num == slot:
            spans[-1] = replace(last, num=last.num + 1)
        else:
            spans.append(Span(slot=slot, row=row, num=1, start=start, each=each))
        start += each
    return spans


def padded(num: int, tile: int) -> int:
    """The next multiple of a tile."""
    return -(-num // tile) * tile


def num_tokens(rows: Sequence[Sequence[int]], tile: int = TILE) -> int:
    """Tokens that a member's rows are in a forward."""
    return len(rows) * padded(max(map(len, rows)), tile)


def in_parts(sizes: Sequence[int], limit: int) -> Iterator[slice]:
    """Part what has these sizes, in order; no part is above a limit but one of a single member."""
    start, total = 0, 0
    for k, size in enumerate(sizes):
        if k > start and total + size > limit:
            yield slice(start, k)
            start, total = k, 0
        total += size
    if sizes:
        yield slice(start, len(sizes))


def tokens_of(
    members: Sequence[MemberRows], pad_id: int, tile: int = TILE, device: torch.device | None = None
) -> Tokens:
    """Lay members' rows end to end, in ascending order of their slots.

    Args:
        pad_id: Filler after a row's end; causal attention never looks at it.
        tile: Rows are padded to a multiple of it; 1 serves a member that is the only one.
        device: Where the forward is computed; ``None`` for the processor.
    """
    ids: list[int] = []
    wanted: list[int] = []
    asked: list[int] = []
    position: list[Tensor] = []
    counts, wanted_counts = [], []
    rows: list[tuple[int, int, int]] = []
    for member in members:
        first, width = len(ids), padded(max(map(len, member.rows)), tile)
        for row in member.rows:
            ids.extend(row)
            ids.extend([pad_id] * (width - len(row)))
        own = [first + row * width + at for row, at in member.wanted]
        asked.extend(range(len(wanted), len(wanted) + len(own)))
        if fill := -len(own) % tile:
            held = set(own)
            own.extend(islice((token for token in range(first, len(ids)) if token not in held), fill))
        wanted.extend(own)
        counts.append((member.slot, len(ids) - first))
        wanted_counts.append((member.slot, len(own)))
        position.append(torch.arange(width).repeat(len(member.rows)))
        if rows and rows[-1][2] == width:
            rows[-1] = (rows[-1][0], len(ids), width)
        else:
            rows.append((first, len(ids), width))
    rows_held = [member.slot if member.held is None else member.held for member in members]
    return Tokens(
        ids_N=torch.tensor(ids, device=device),
        slot_N=slots_of(counts).to(device),
        position_N=torch.cat(position).to(device),
        spans=spans_of(counts, rows_held),
        rows=rows,
        wanted_K=torch.tensor(wanted, device=device),
        asked_K=asked,
        wanted_slot_K=slots_of(wanted_counts).to(device),
        wanted_spans=spans_of(wanted_counts, rows_held),
    )


def slots_of(counts: Sequence[tuple[int, int]]) -> Tensor:
    """The slot of each token, from (slot, number of tokens)."""
    slots, each = torch.tensor(counts, dtype=torch.long).unbind(1)
    return slots.repeat_interleave(each)
