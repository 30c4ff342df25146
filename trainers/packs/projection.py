"""Products of tokens with their members' matrices, to which low-rank additions may belong (LoRA).

Members that train additions share the matrices: those lie in memory once, shown to each member as its own.
Their gradients are not asked for, and those of the additions are written where the additions keep them.

Shapes: N tokens of all members, I and O widths of a block, R rank of an addition, P members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.packs.architecture import bias_of
from trainers.packs.layers import times, times_transposed, weight_gradient
from trainers.packs.tokens import Span

Blocks = Mapping[str, Tensor]
"""Stacked weights or gradients, by the names of :func:`trainers.packs.architecture.blocks`."""


@dataclass(frozen=True, kw_only=True)
class Addition:
    """What members add to a block: scale · up · down."""

    down: Tensor
    """Shape (P, R, I)."""
    up: Tensor
    """Shape (P, O, R)."""
    scale: Tensor
    """Of each member, shape (P,)."""
    by_down: Tensor
    """The gradients, of the same shapes."""
    by_up: Tensor


Additions = Mapping[str, Addition]
"""By the block that they add to."""


def project(
    x_NI: Tensor,
    names: Sequence[str],
    weights: Blocks,
    additions: Additions,
    slot_N: Tensor,
    spans: Sequence[Span],
) -> Tensor:
    """Each token times its member's blocks, with their biases, one beside the other, shape (N, O)."""
    parts = []
    for name in names:
        out_NO = times(x_NI, weights[name], spans)
        if (addition := additions.get(name)) is not None:
            inner_NR = times(x_NI, addition.down, spans).mul_(addition.scale[slot_N, None])
            out_NO += times(inner_NR, addition.up, spans)
        if (bias := weights.get(bias_of(name))) is not None:
            for span in spans:
                own = out_NO[span.start : span.stop]
                own.view(span.num, span.each, -1).add_(bias[span.slots, None])
        parts.append(out_NO)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def project_backward(
    grad_NO: Tensor,
    x_NI: Tensor | None,
    names: Sequence[str],
    weights: Blocks,
    gradients: Blocks,
    additions: Additions,
    slot_N: Tensor,
    spans: Sequence[Span],
    *,
    add: bool,
) -> Tensor:
    """Write the gradients of :func:`project` by what is trained, biases apart; return that by the tokens.

    Args:
        x_NI: ``None`` where none of the blocks is trained or added to.
        add: Whether to add them to what the gradients hold.
    """
    parts = []
    for name, grad in zip(names, grad_NO.split([weights[name].shape[1] for name in names], 1), strict=True):
        if name in gradients:
            assert x_NI is not None
            weight_gradient(grad, x_NI, spans, gradients[name], add=add)
        by_x_NI = times_transposed(grad, weights[name], spans)
        if (addition := additions.get(name)) is not None:
            assert x_NI is not None
            scale_N1 = addition.scale[slot_N, None]
            inner_NR = times(x_NI, addition.down, spans).mul_(scale_N1)
            weight_gradient(grad, inner_NR, spans, addition.by_up, add=add)
            by_inner_NR = times_transposed(grad, addition.up, spans).mul_(scale_N1)
            weight_gradient(by_inner_NR, x_NI, spans, addition.by_down, add=add)
            by_x_NI += times_transposed(by_inner_NR, addition.down, spans)
        parts.append(by_x_NI)
    for other in parts[1:]:
        parts[0] += other
    return parts[0]
