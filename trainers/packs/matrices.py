"""One member's matrices as evaluation reads them: transposed, and its low-rank additions beside them.

A member that trains every weight has copies for the time of an evaluation, those behind a norm scaled by its
weight. Of weights that members share there is no copy: they are read where they lie.

Shapes: N tokens, I and O widths of a matrix, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainers.packs.architecture import Shape
from trainers.packs.projection import Additions, Blocks


@dataclass(frozen=True, kw_only=True)
class Matrices:
    """What tokens are multiplied with, by the names of blocks, but for ``gate_k``, ``up_k`` and ``head``; and
    biases.
    """

    own: Mapping[str, Tensor]
    embed: Tensor
    eps: float
    norms: Mapping[str, Tensor] = field(default_factory=dict)
    """Weight of the norm before each matrix that is not scaled by it."""
    additions: Additions = field(default_factory=dict)
    slot: int = 0
    """The member's among those of the additions."""

    def of_normed(self, x_NH: Tensor, *names: str) -> list[Tensor]:
        """Products of tokens, normed, with the matrices of one norm."""
        length_N1 = torch.linalg.vector_norm(x_NH, dim=-1, keepdim=True)
        x_NH = x_NH * length_N1.square_().div_(x_NH.shape[1]).add_(self.eps).rsqrt_()
        if self.norms:
            x_NH *= self.norms[names[0]]
        return [self._with_added(torch.mm(x_NH, self.own[name]), x_NH, name) for name in names]

    def plus(self, x_NO: Tensor, y_NI: Tensor, name: str) -> Tensor:
        """``x`` and the product of ``y`` with a matrix."""
        return self._with_added(torch.addmm(x_NO, y_NI, self.own[name]), y_NI, name)

    def _with_added(self, out_NO: Tensor, x_NI: Tensor, name: str) -> Tensor:
        if (addition := self.additions.get(name)) is None:
            return out_NO
        down_RI, up_OR = addition.down[self.slot], addition.up[self.slot]
        inner_NR = torch.mm(x_NI, down_RI.t()).mul_(addition.scale[self.slot])
        return out_NO.addmm_(inner_NR, up_OR.t())


def own_matrices(weights: Blocks, shape: Shape) -> Matrices:
    """Of a member that trains every weight, from its blocks as a stack of one."""
    own = {name: block[0] for name, block in weights.items()}
    found = {"head": (own[shape.head] * (own["norm_last"] + shape.norm_offset)).t()}
    for k in range(shape.layers):
        found[f"mixed_{k}"] = (own[f"mixed_{k}"] * (own[f"norm_attention_{k}"] + shape.norm_offset)).t()
        gated = own[f"gated_{k}"] * (own[f"norm_feed_{k}"] + shape.norm_offset)
        found[f"gate_{k}"], found[f"up_{k}"] = (half.t() for half in gated.chunk(2))
        found |= _plain(own, k, shape)
    return Matrices(own=found, embed=own["embed"], eps=shape.eps)


def shared_matrices(weights: Blocks, additions: Additions, slot: int, shape: Shape) -> Matrices:
    """Of a member that adds to shared weights, which are a stack of one; without additions, of the untrained
    model.
    """
    own = {name: block[0] for name, block in weights.items()}
    found, norms = {"head": own[shape.head].t()}, {"head": own["norm_last"] + shape.norm_offset}
    for k in range(shape.layers):
        mixed, gated = shape.mixed_blocks(k), shape.gated_blocks(k)
        found |= {name: own[name].t() for name in (*mixed, *gated)} | _plain(own, k, shape)
        norms |= dict.fromkeys(mixed[:1], own[f"norm_attention_{k}"] + shape.norm_offset)
        norms |= dict.fromkeys(gated[:1], own[f"norm_feed_{k}"] + shape.norm_offset)
    return Matrices(own=found, embed=own["embed"], eps=shape.eps, norms=norms, additions=additions, slot=slot)


def _plain(own: Blocks, k: int, shape: Shape) -> dict[str, Tensor]:
    """A layer's matrices that no norm is before, and its bias."""
    found = {name: own[name].t() for name in (f"out_{k}", f"down_{k}")}
    return found | ({f"bias_{k}": own[f"bias_{k}"]} if shape.biased else {})
