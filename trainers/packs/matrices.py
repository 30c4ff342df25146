"""One member's matrices as evaluation reads them: transposed, and its low-rank additions beside them.

A member that trains every weight has copies for the time of an evaluation: those behind a norm are scaled by
its weight, and its bias is drawn into theirs. Of weights that members share there is no copy: they are read
where they lie.

Shapes: N tokens, I and O widths of a matrix, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainers.packs.architecture import Shape, bias_of
from trainers.packs.layers import order_of
from trainers.packs.projection import Additions, Blocks
from trainers.packs.sharded import Transposed


@dataclass(frozen=True, kw_only=True)
class Norm:
    """What a norm does to tokens of length one in the root mean square."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Matrices:
    """What tokens are multiplied with, by the names of blocks, but for the parts of the feed-forward
    (:meth:`~trainers.packs.architecture.Shape.feed_parts`) and ``head``; biases, by the same names; and
    ``embed``.
    """

    own: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]
    eps: float
    centred: bool
    """Whether norms take the mean away first."""
    order: Tensor | None = None
    """That queries, keys and values are yet to be brought into (:func:`~trainers.packs.layers.order_of`)."""
    norms: Mapping[str, Norm] = field(default_factory=dict)
    """The norm before each matrix that does not hold it."""
    additions: Additions = field(default_factory=dict)
    slot: int = 0
    """The member's among those of the additions."""
    walk: Callable[[], AbstractContextManager[None]] = nullcontext
    """Within it, matrices that ranks hold parts of are there."""

    @property
    def embed(self) -> Tensor:
        return self.own["embed"]

    def of_normed(self, x_NH: Tensor, *names: str) -> list[Tensor]:
        """Products of tokens, normed, with the matrices of one norm."""
        if self.centred:
            x_NH = x_NH - x_NH.mean(-1, keepdim=True)
        length_N1 = torch.linalg.vector_norm(x_NH, dim=-1, keepdim=True)
        x_NH = x_NH * length_N1.square_().div_(x_NH.shape[1]).add_(self.eps).rsqrt_()
        if (norm := self.norms.get(names[0])) is not None:
            x_NH *= norm.weight
            if norm.bias is not None:
                x_NH += norm.bias
        return [self._with_added(torch.mm(x_NH, self.own[name]), x_NH, name) for name in names]

    def plus(self, x_NO: Tensor, y_NI: Tensor, name: str) -> Tensor:
        """``x`` and the product of ``y`` with a matrix."""
        return self._with_added(torch.addmm(x_NO, y_NI, self.own[name]), y_NI, name)

    def _with_added(self, out_NO: Tensor, x_NI: Tensor, name: str) -> Tensor:
        if (addition := self.additions.get(name)) is not None:
            down_RI, up_OR = addition.down[self.slot], addition.up[self.slot]
            inner_NR = torch.mm(x_NI, down_RI.t()).mul_(addition.scale[self.slot])
            out_NO.addmm_(inner_NR, up_OR.t())
        if (bias := self.biases.get(name)) is not None:
            out_NO += bias
        return out_NO


def own_matrices(weights: Blocks, shape: Shape) -> Matrices:
    """Of a member that trains every weight, from its blocks as a stack of one."""
    own = {name: block[0] for name, block in weights.items()}
    found: dict[str, Tensor] = {"embed": own["embed"]}
    biases: dict[str, Tensor] = {}

    def behind(norm: str, block: str, names: Sequence[str], order: Tensor | None = None) -> None:
        """The parts of a block, with the norm before it."""
        matrix, bias = own[block] * (own[norm] + shape.norm_offset), own.get(bias_of(block))
        if (of_norm := own.get(bias_of(norm))) is not None:
            moved = torch.mv(own[block], of_norm)
            bias = moved if bias is None else moved.add_(bias)
        if order is not None:
            matrix, bias = matrix[order], None if bias is None else bias[order]
        found.update(zip(names, (part.t() for part in matrix.chunk(len(names))), strict=True))
        if bias is not None:
            biases.update(zip(names, bias.chunk(len(names)), strict=True))

    behind("norm_last", shape.head, ("head",))
    for k in range(shape.layers):
        order = order_of(shape, weights["embed"].device)
        behind(f"norm_attention_{k}", f"mixed_{k}", shape.mixed_blocks(k), order)
        [feed] = shape.feed_blocks(k)
        behind(f"norm_feed_{k}", feed, shape.feed_parts(k))
        for name in (f"out_{k}", f"down_{k}"):
            found[name] = own[name].t()
            if (bias := own.get(bias_of(name))) is not None:
                biases[name] = bias
    return Matrices(own=found, biases=biases, eps=shape.eps, centred=shape.centred)


def shared_matrices(
    weights: Blocks,
    additions: Additions,
    slot: int,
    shape: Shape,
    walk: Callable[[], AbstractContextManager[None]],
) -> Matrices:
    """Of a member that adds to shared weights, which are a stack of one; without additions, of the untrained
    model.

    Args:
        walk: See :class:`Matrices`.
    """

    def vector(name: str) -> Tensor | None:
        return weights[name][0] if name in weights else None

    def norm(name: str) -> Norm:
        return Norm(weight=weights[name][0] + shape.norm_offset, bias=vector(bias_of(name)))

    norms, names = {"head": norm("norm_last")}, list[str]()
    for k in range(shape.layers):
        mixed, feed = shape.mixed_blocks(k), shape.feed_blocks(k)
        norms |= {mixed[0]: norm(f"norm_attention_{k}"), feed[0]: norm(f"norm_feed_{k}")}
        names += [*mixed, f"out_{k}", *feed, f"down_{k}"]
    biases = {name: own for name in names if (own := vector(bias_of(name))) is not None}
    return Matrices(
        own=Transposed(weights, shape.head),
        biases=biases,
        eps=shape.eps,
        centred=shape.centred,
        order=order_of(shape, weights["norm_last"].device),
        norms=norms,
        additions=additions,
        slot=slot,
        walk=walk,
    )
