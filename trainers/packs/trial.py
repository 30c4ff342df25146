"""What is tried out before a pack is used: that its forward is the model's, and that members stay apart.

Both can fail: a model of a known family may have been changed, and a processor's matrix products may depend
on how many of them are asked for at once. Such models are trained run by run.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from trainers.packs.architecture import NotPackable
from trainers.packs.engine import PackEngine
from trainers.packs.loss import weighed
from trainers.packs.stack import Stack
from trainers.packs.tokens import MemberRows, tokens_of

TOLERANCE = 1e-4
"""Largest difference from the model's own logits, relative to the largest of them; 1e-6 is usual."""

LENGTHS = (13, 9)
"""Tokens of the rows that are tried."""

ROWS = (1, 1, 2)
"""Rows of the members that are tried together: two in a batched product, one of them NaN, and one alone."""

LAYERS = 2
"""Layers that members are tried in: the last one, parts of which compute the wanted positions alone, and one
of the others, which are all alike.
"""

TRIED_SLOTS = len(ROWS)
"""Fewest slots of a stack: even a run by itself is packed only where members stay apart."""


def _rows(num: int, vocabulary: int) -> list[list[int]]:
    return [
        [(7 * k + 3 * row + 1) % vocabulary for k in range(LENGTHS[row % len(LENGTHS)])] for row in range(num)
    ]


def _member(slot: int, num_rows: int, vocabulary: int) -> MemberRows:
    rows = _rows(num_rows, vocabulary)
    wanted = [(number, at) for number, row in enumerate(rows) for at in range(3, len(row))]
    return MemberRows(slot=slot, rows=rows, wanted=wanted)


def require_like_model(stack: Stack, model: nn.Module) -> None:
    """Hold the stack's logits against the model's own.

    Raises:
        NotPackable: if they differ by more than rounding.
    """
    member = _member(0, len(LENGTHS), stack.shape.vocabulary)
    tokens = tokens_of([member], 0, device=stack.device)
    packed_KV = stack.logits(tokens, of_base=True)[tokens.asked_K]
    of_row = [
        model(input_ids=torch.tensor([row], device=stack.device), use_cache=False).logits[0]
        for row in member.rows
    ]
    own_KV = torch.stack([of_row[number][at] for number, at in member.wanted]).float()
    apart = float((packed_KV - own_KV).abs().max()) / max(1.0, float(own_KV.abs().max()))
    if not apart <= TOLERANCE:
        raise NotPackable(f"the packed forward differs from the model's own by {apart:.1e} of its logits")


def require_members_apart(engine: PackEngine) -> None:
    """Compute members alone and beside others, one of them NaN, and hold their bits against each other.

    Raises:
        NotPackable: if a mate changes a bit.
    """
    stack, vocabulary = engine.stack, engine.stack.shape.vocabulary
    num, ill = len(ROWS), 1
    members = [_member(slot, ROWS[slot], vocabulary) for slot in range(num)]
    for slot in range(num):
        engine.reset(slot)
    if stack.additions:  # zeros at first, which would try nothing
        for own in stack.trained.values():
            own.view(-1).copy_(torch.linspace(-0.1, 0.1, own.numel(), device=own.device))
    for own in stack.trained.values():
        own[ill] = torch.nan
    with _of_few_layers(stack):
        together = _bits(engine, members)
        alone = [bits for member in members for bits in _bits(engine, [member])]
    stack.hold(0)
    if any(alone[slot] != together[slot] for slot in range(num) if slot != ill):
        raise NotPackable("this processor's matrix products have other bits when several are asked for")
    for slot in range(num):
        engine.reset(slot)


@contextmanager
def _of_few_layers(stack: Stack) -> Iterator[None]:
    """So that a pack takes no more memory before its first step than at its steps."""
    whole = stack.shape
    stack.shape = dataclasses.replace(whole, layers=min(LAYERS, whole.layers))
    try:
        yield
    finally:
        stack.shape = whole


def _bits(engine: PackEngine, members: list[MemberRows]) -> list[list[str]]:
    """Digests of each member's logits and gradients, computed as a pack does."""
    if len(members) > 1 and not engine.stack.at_once(1):
        return [bits for member in members for bits in _bits(engine, [member])]
    stack = engine.stack
    tokens = tokens_of(members, 0, device=stack.device)
    for adds in (False, True):  # a further micro batch is added to what is there
        stack.adds = adds
        logits_KV = stack(tokens)
        ones_K = logits_KV.new_ones(len(logits_KV))
        weighed(logits_KV, ones_K, ones_K).sum().backward()
        logits_KV = logits_KV.detach()  # lets go of what the backward pass needed
    told, first = [], 0
    for member in members:
        asked = tokens.asked_K[first : first + len(member.wanted)]
        first += len(member.wanted)
        of_member = [logits_KV[asked], *(g[member.slot] for g in stack.gradients.values())]
        told.append([hashlib.sha256(tensor.contiguous().cpu().numpy()).hexdigest() for tensor in of_member])
    return told
