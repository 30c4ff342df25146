"""The weights of a pack's members, stacked: a tensor a block, a row of it a member's.

Slots are a member's place in the stack, from 0 to its width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainers.packs.architecture import blocks, pieces, shape_of
from trainers.packs.forward import Trace, backward, forward
from trainers.packs.layers import rotation_of
from trainers.packs.tokens import Tokens

USUAL_POSITIONS = 512
"""Positions whose rotations are computed at once; longer rows have them computed when they come."""


class Stack(nn.Module):
    """Members of one architecture, all untrained at first.

    The backward pass writes gradients into :attr:`gradients`, of the members alone that were in the forward;
    nothing is allocated, zeroed or added up for it.
    """

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.shape = shape_of(model)
        self.width = width
        rotary = cast(Any, model).model.rotary_emb
        self._turns = rotary.inv_freq.detach().float().clone(), float(rotary.attention_scaling)
        self.rotation = rotation_of(*self._turns, USUAL_POSITIONS)
        self._pieces = dict(pieces(self.shape))
        self.gradients: dict[str, Tensor] = {}
        self.base = {name: torch.zeros(1, *own) for name, own in blocks(self.shape)}
        self._write(self.base, 0, dict(model.named_parameters()))
        for name, own in self.base.items():
            self.register_parameter(name, nn.Parameter(own.repeat(width, *[1] * (own.dim() - 1))))
            self.gradients[name] = torch.zeros_like(self.weights[name])

    @property
    def weights(self) -> dict[str, Tensor]:
        return {name: p.data for name, p in self._parameters.items() if p is not None}

    def reach(self, num_positions: int) -> None:
        """Prepare for rows of so many tokens."""
        if num_positions > len(self.rotation.cos):
            self.rotation = rotation_of(*self._turns, 2 * num_positions)

    def of_slot(self, slot: int) -> dict[str, Tensor]:
        """One member's weights, as a stack of one."""
        return {name: own[slot : slot + 1] for name, own in self.weights.items()}

    def forward(self, tokens: Tokens) -> Tensor:
        """Logits of the tokens' wanted positions, shape (K, V), with gradients."""
        return cast(Tensor, _Forward.apply(self, tokens, *self._parameters.values()))

    def logits(self, tokens: Tokens, *, of_base: bool = False) -> Tensor:
        """The same without gradients, by the members or by the untrained model in the place of each."""
        weights = self.weights
        if of_base:
            weights = {name: own.expand(self.width, *own.shape[1:]) for name, own in self.base.items()}
        return forward(weights, tokens, self.rotation, self.shape)

    def reset(self, slot: int) -> None:
        """Put the untrained model's weights in a slot."""
        self._put({name: own[0] for name, own in self.base.items()}, slot)

    def copy(self, slot: int, to: int) -> None:
        self._put({name: own[slot] for name, own in self.weights.items()}, to)

    @torch.no_grad()
    def _put(self, own: Mapping[str, Tensor], slot: int) -> None:
        for name, weight in self.weights.items():
            weight[slot] = own[name]

    @torch.no_grad()
    def copy_gradients(self, slot: int, to: int) -> None:
        """Let a slot step by another's gradient."""
        for gradient in self.gradients.values():
            gradient[to] = gradient[slot]

    def load(self, slot: int, weights: Mapping[str, Tensor]) -> None:
        """Put a model's weights, under its own names, in a slot."""
        self._write(self.weights, slot, weights)

    def named(self, slot: int) -> dict[str, Tensor]:
        """Copies of a member's weights, under the model's names."""
        found = {}
        for name, piece in self._pieces.items():
            part = self.weights[piece.block][slot, piece.first : piece.first + piece.rows]
            found[name] = part.clone()
        return found

    @torch.no_grad()
    def _write(self, into: Mapping[str, Tensor], slot: int, weights: Mapping[str, Tensor]) -> None:
        for name, piece in self._pieces.items():
            into[piece.block][slot, piece.first : piece.first + piece.rows] = weights[name]

    def lend_gradients(self) -> None:
        """Let the parameters show :attr:`gradients` as theirs, until the next step takes them away."""
        for name, p in self._parameters.items():
            assert p is not None
            p.grad = self.gradients[name]


class _Forward(torch.autograd.Function):
    """:func:`trainers.packs.forward.forward` for autograd, to which gradients do not show."""

    @staticmethod
    def forward(ctx: Any, stack: Stack, tokens: Tokens, *parameters: Tensor) -> Tensor:
        ctx.stack, ctx.tokens, ctx.trace = stack, tokens, Trace()
        ctx.num = len(parameters)
        return forward(stack.weights, tokens, stack.rotation, stack.shape, ctx.trace)

    @staticmethod
    def backward(ctx: Any, *grads_KV: Tensor) -> tuple[None, ...]:
        stack: Stack = ctx.stack
        backward(
            grads_KV[0], stack.weights, stack.gradients, ctx.tokens, stack.rotation, stack.shape, ctx.trace
        )
        return (None,) * (2 + ctx.num)
