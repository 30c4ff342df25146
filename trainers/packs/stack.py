"""The weights of a pack's members, stacked: a tensor a block, a row of it a member's.

Slots are a member's place in the stack, from 0 to its width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from sweeps.spec import RunSpec
from trainers.packs.architecture import Piece, blocks, pieces
from trainers.packs.families import shape_of
from trainers.packs.forward import Trace, backward, forward
from trainers.packs.layers import rotation_of
from trainers.packs.matrices import Matrices, own_matrices
from trainers.packs.projection import Additions, Blocks
from trainers.packs.sharded import ShardedBlocks, Shown, Walk
from trainers.packs.tokens import Tokens

USUAL_POSITIONS = 512
"""Positions whose rotations are computed at once; longer rows have them computed when they come."""


class Stack(nn.Module):
    """Members of one architecture that train every weight, all untrained at first.

    The backward pass writes gradients into :attr:`gradients`, of the members alone that were in the forward.
    There is room for as many as a forward ever held (:attr:`~trainers.packs.tokens.MemberRows.held`), and not
    for every slot: what a forward holds is stepped by before the next.
    """

    targets: frozenset[str] = frozenset()
    """Layers that members may add to, where they share the model's weights."""
    fused = True
    """Whether weights that are read together are stored together."""

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.shape = shape_of(model, fused=self.fused)
        self.width = width
        rotary = cast(Any, model).base_model.rotary_emb
        self._turns = rotary.inv_freq.detach().float().clone(), float(rotary.attention_scaling)
        self.rotation = rotation_of(*self._turns, USUAL_POSITIONS, self.shape)
        self._pieces = dict(pieces(self.shape))
        self.gradients: dict[str, Tensor] = {}
        self._held: dict[int, dict[str, Tensor]] = {}
        self.adds = False
        """Whether backward passes add to the gradients instead of writing them."""
        self.base: Blocks = self._taken_over(model)
        """The untrained model's blocks, as a stack of one."""
        self.base_bytes = sum(own.nbytes for own in self.base.values())
        self._begin()

    def _taken_over(self, model: nn.Module) -> dict[str, Tensor]:
        """A model's weights as blocks; from now on the model reads them there, none is held twice."""
        parameters = dict(model.named_parameters())
        parts: dict[str, list[tuple[nn.Parameter, Piece]]] = {name: [] for name, _ in blocks(self.shape)}
        for name, piece in self._pieces.items():
            parts[piece.block].append((parameters[name], piece))
        found = {}
        for block, own in parts.items():
            whole = own[0][0].data if len(own) == 1 else torch.cat([p.data for p, _ in own])
            for p, piece in own:
                p.data = whole[piece.first : piece.first + piece.rows]
            found[block] = whole[None]
        return found

    def _begin(self) -> None:
        """Lay out what is trained."""
        for name, own in self.base.items():
            self._train(name, own.repeat(self.width, *[1] * (own.dim() - 1)))

    def _train(self, name: str, values: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(values))
        self.gradients[name] = values.new_empty(0, *values.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.base["norm_last"].device

    def wait_for_others(self, while_waiting: Callable[[], None]) -> None:
        """Gather along with ranks whose members are still at work."""
        if isinstance(self.base, ShardedBlocks):
            self.base.finish(while_waiting)

    def at_once(self, limit: int) -> int:
        """A limit on what members are given to one forward together; 0, a member at a time, on a GPU.

        There a kernel may add up in another order when it is given more, and how it does is not to be tried
        out for every shape.
        """
        return limit if self.device.type == "cpu" else 0

    @property
    def trained(self) -> dict[str, Tensor]:
        """What training changes, by name; a row a slot."""
        return {name: p.data for name, p in self._parameters.items() if p is not None}

    def trained_by(self, slot: int) -> list[str]:
        """Names of what the slot's run trains."""
        return list(self._parameters)

    @property
    def addable(self) -> frozenset[str]:
        """Layers of the model that members could add to."""
        return frozenset()

    @property
    def layout(self) -> dict[str, int]:
        """What a member's bits depend on beside the pack's own layout."""
        return {}

    @property
    def weights(self) -> Blocks:
        """Every block, a row a slot."""
        return self.trained

    @property
    def additions(self) -> Additions:
        return {}

    def reach(self, num_positions: int) -> None:
        """Prepare for rows of so many tokens."""
        if num_positions > len(self.rotation.cos):
            self.rotation = rotation_of(*self._turns, 2 * num_positions, self.shape)

    def forward(self, tokens: Tokens) -> Tensor:
        """Logits of the tokens' wanted positions, shape (K, V), with gradients."""
        return cast(Tensor, _Forward.apply(self, tokens, *self._parameters.values()))

    def logits(self, tokens: Tokens, *, of_base: bool = False) -> Tensor:
        """The same without gradients, by the members or by the untrained model in the place of each."""
        weights, additions = (self._base_of_all(), {}) if of_base else (self.weights, self.additions)
        with self.walk(Walk.FORWARD):
            return forward(weights, additions, tokens, self.rotation, self.shape)

    def _base_of_all(self) -> Blocks:
        """The untrained model's blocks, shown to every slot as its own."""
        return Shown(self.base, self.width)

    def walk(self, wanted: Walk) -> AbstractContextManager[None]:
        """Have the base's matrices in an order, where ranks hold parts of them."""
        return self.base.walk(wanted) if isinstance(self.base, ShardedBlocks) else nullcontext()

    def start(self, slot: int, spec: RunSpec) -> None:
        """Put in a slot what a run starts from."""
        self.reset(slot)

    def reset(self, slot: int) -> None:
        """Put the untrained model in a slot."""
        self._put({name: own[0] for name, own in self.base.items()}, slot)

    def matrices(self, slot: int | None) -> Matrices:
        """A member's matrices for evaluation, or those of the untrained model."""
        if slot is None:
            return own_matrices(self.base, self.shape)
        return own_matrices({name: own[slot : slot + 1] for name, own in self.weights.items()}, self.shape)

    def copy(self, slot: int, to: int) -> None:
        self._put({name: own[slot] for name, own in self.trained.items()}, to)

    @torch.no_grad()
    def _put(self, own: Mapping[str, Tensor], slot: int) -> None:
        for name, weight in self.trained.items():
            weight[slot] = own[name]

    def hold(self, num: int) -> None:
        """Have room for the gradients of so many members; what was held is lost."""
        self._held.clear()
        for gradient in self.gradients.values():
            of_member = gradient.shape[1:]
            gradient.data = gradient.new_empty(0)  # never both at once
            gradient.data = gradient.new_zeros(num, *of_member)

    @property
    def num_held(self) -> int:
        """Members that there is room for."""
        return len(next(iter(self.gradients.values())))

    def held(self, row: int) -> dict[str, Tensor]:
        """The gradients of one member."""
        if row not in self._held:
            self._held[row] = {name: own[row] for name, own in self.gradients.items()}
        return self._held[row]

    @torch.no_grad()
    def load(self, slot: int, weights: Mapping[str, Tensor]) -> None:
        """Put a model's weights, under its own names, in a slot."""
        for name, part in self._parts(self.weights, slot).items():
            part.copy_(weights[name])

    def named(self, slot: int) -> dict[str, Tensor]:
        """Copies of a member's weights, under the model's names."""
        return {name: part.clone() for name, part in self._parts(self.weights, slot).items()}

    def _parts(self, weights: Blocks, slot: int) -> dict[str, Tensor]:
        """A slot's weights under the model's names, where they lie."""
        return {
            name: weights[piece.block][slot, piece.first : piece.first + piece.rows]
            for name, piece in self._pieces.items()
        }


class _Forward(torch.autograd.Function):
    """:func:`trainers.packs.forward.forward` for autograd, to which gradients do not show."""

    @staticmethod
    def forward(ctx: Any, stack: Stack, tokens: Tokens, *parameters: Tensor) -> Tensor:
        ctx.stack, ctx.tokens, ctx.trace = stack, tokens, Trace()
        ctx.num = len(parameters)
        turn, shape = stack.rotation, stack.shape
        with stack.walk(Walk.FORWARD):
            return forward(stack.weights, stack.additions, tokens, turn, shape, ctx.trace)

    @staticmethod
    def backward(ctx: Any, *grads_KV: Tensor) -> tuple[None, ...]:
        stack: Stack = ctx.stack
        weights, additions, gradients = stack.weights, stack.additions, stack.gradients
        turn, shape = stack.rotation, stack.shape
        if (num := max(span.held.stop for span in ctx.tokens.spans)) > stack.num_held:
            stack.hold(num)
        with stack.walk(Walk.BACKWARD):
            backward(
                grads_KV[0], weights, additions, gradients, ctx.tokens, turn, shape, ctx.trace, add=stack.adds
            )
        return (None,) * (2 + ctx.num)
