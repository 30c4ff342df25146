"""The forward of all members at once, and its backward pass, written out.

Only :mod:`trainers.packs.layers` touches what belongs to several members. So a member's bits do not depend on
who else is in the pack, on how many they are, or on whether one of them is NaN. That a processor's matrix
products keep to it is tried out before a pack is used (:mod:`trainers.packs.trial`).

Shapes: N tokens of all members, K positions with logits, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from trainers.packs.architecture import Shape, bias_of
from trainers.packs.feed import Fed, fed, fed_backward
from trainers.packs.layers import (
    Attended,
    Normed,
    Rotation,
    attend,
    attend_backward,
    norm,
    norm_backward,
)
from trainers.packs.projection import Additions, Blocks, project, project_backward
from trainers.packs.tokens import Span, Tokens, slots_of


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What the backward pass needs of one layer; of the last one, the wanted positions from ``heads`` on.

    What a product was given is ``None`` where nobody trains its matrix or adds to it.
    """

    attention_norm: Normed
    mixed_of: Tensor | None
    attended: list[Attended]
    heads: Tensor | None
    """What its attention gives."""
    feed_norm: Normed
    feed_of: Tensor | None
    fed: Fed
    down_of: Tensor | None


@dataclass(kw_only=True)
class Trace:
    """What the backward pass needs of a forward."""

    layers: list[Layer] = field(default_factory=list)
    last: Normed | None = None
    head_of: Tensor | None = None


@torch.no_grad()
def forward(
    weights: Blocks,
    additions: Additions,
    tokens: Tokens,
    rotation: Rotation,
    shape: Shape,
    trace: Trace | None = None,
) -> Tensor:
    """Logits of the wanted positions, shape (K, V).

    What the last layer does after its attention is done for these positions alone.
    """
    spans, slots = tokens.spans, tokens.slot_N

    def projected(values: Tensor, *names: str) -> Tensor:
        return project(values, names, weights, additions, slots, spans)

    def kept(values: Tensor, *names: str) -> Tensor | None:
        return values if not additions or any(name in additions for name in names) else None

    def layer(x: Tensor, k: int) -> Tensor:
        """What is not kept goes at its end: a layer's numbers are a forward's memory."""
        nonlocal spans, slots
        mixed_of, first = norm(x, f"norm_attention_{k}", weights, slots, shape)
        heads, attended = attend(projected(mixed_of, *shape.mixed_blocks(k)), tokens, rotation, shape)
        if k == shape.layers - 1:
            x, heads = x[tokens.wanted_K], heads[tokens.wanted_K]
            spans, slots = tokens.wanted_spans, tokens.wanted_slot_K
        after = x + projected(heads, f"out_{k}")
        feed_of, second = norm(x if shape.parallel else after, f"norm_feed_{k}", weights, slots, shape)
        down_of, feed = fed(projected(feed_of, *shape.feed_blocks(k)), shape)
        if trace is not None:
            if kept(down_of, f"down_{k}") is None:
                feed = replace(feed, active=None)
            trace.layers.append(
                Layer(
                    attention_norm=first,
                    mixed_of=kept(mixed_of, *shape.mixed_blocks(k)),
                    attended=attended,
                    heads=kept(heads, f"out_{k}"),
                    feed_norm=second,
                    feed_of=kept(feed_of, *shape.feed_blocks(k)),
                    fed=feed,
                    down_of=kept(down_of, f"down_{k}"),
                )
            )
        return after + projected(down_of, f"down_{k}")

    x = weights["embed"][tokens.slot_N, tokens.ids_N]
    if shape.embedding_scale != 1.0:
        x *= shape.embedding_scale
    for k in range(shape.layers):
        x = layer(x, k)
    head_of, last = norm(x, "norm_last", weights, slots, shape)
    if trace is not None:
        trace.last, trace.head_of = last, kept(head_of, shape.head)
    return projected(head_of, shape.head)


@torch.no_grad()
def backward(
    grad_KV: Tensor,
    weights: Blocks,
    additions: Additions,
    gradients: Blocks,
    tokens: Tokens,
    rotation: Rotation,
    shape: Shape,
    trace: Trace,
    *,
    add: bool = False,
) -> None:
    """Write the gradients of the members that the tokens are of; others keep what they hold.

    Args:
        gradients: Of the blocks that are trained: all or none; rows as the tokens' spans say.
        add: Whether to add to what those members' gradients hold, a further micro batch's.
    """
    spans, slots = tokens.wanted_spans, tokens.wanted_slot_K
    vectors: list[tuple[str, Tensor]] = []
    assert trace.last is not None

    def to_sum(name: str, grad: Tensor) -> None:
        if name in gradients:
            vectors.append((name, grad))

    def projected_back(grad: Tensor, values: Tensor | None, *names: str) -> Tensor:
        to_sum(bias_of(names[0]), grad)  # where biases are trained, all names are of one block
        return project_backward(grad, values, names, weights, gradients, additions, slots, spans, add=add)

    def normed_back(grad: Tensor, normed: Normed, name: str) -> Tensor:
        by_input, by_weight = norm_backward(grad, normed, shape)
        to_sum(name, by_weight)
        to_sum(bias_of(name), grad)
        return by_input

    by_normed = projected_back(grad_KV, trace.head_of, shape.head)
    grad = normed_back(by_normed, trace.last, "norm_last")
    for k in reversed(range(shape.layers)):
        layer = trace.layers[k]
        by_product = projected_back(grad, layer.down_of, f"down_{k}")
        by_given = fed_backward(by_product, layer.fed, shape)
        by_normed = projected_back(by_given, layer.feed_of, *shape.feed_blocks(k))
        by_after, grad = grad, grad + normed_back(by_normed, layer.feed_norm, f"norm_feed_{k}")
        by_heads = projected_back(by_after if shape.parallel else grad, layer.heads, f"out_{k}")
        if k == shape.layers - 1:
            add_up(vectors, spans, gradients, add=add)
            spans, slots, vectors = tokens.spans, tokens.slot_N, []
            grad, by_heads = _of_all(grad, tokens), _of_all(by_heads, tokens)
        by_mixed = attend_backward(by_heads, layer.attended, tokens, rotation, shape)
        by_normed = projected_back(by_mixed, layer.mixed_of, *shape.mixed_blocks(k))
        grad = grad + normed_back(by_normed, layer.attention_norm, f"norm_attention_{k}")
    add_up(vectors, spans, gradients, add=add)
    if "embed" in gradients:
        _embedding_gradient(grad, gradients["embed"], tokens, shape, add=add)


def _embedding_gradient(grad_NH: Tensor, into: Tensor, tokens: Tokens, shape: Shape, *, add: bool) -> None:
    if not (shape.tied or add):
        for span in tokens.spans:
            into[span.held] = 0.0
    if shape.padding_id is not None:
        grad_NH = grad_NH.masked_fill((tokens.ids_N == shape.padding_id)[:, None], 0.0)
    if shape.embedding_scale != 1.0:
        grad_NH = grad_NH * shape.embedding_scale
    held_N = slots_of([(span.row + k, span.each) for span in tokens.spans for k in range(span.num)])
    rows_N = held_N.to(into.device) * shape.vocabulary + tokens.ids_N
    into.view(-1, shape.hidden).index_add_(0, rows_N, grad_NH)


def _of_all(values: Tensor, tokens: Tokens) -> Tensor:
    """Values of the wanted positions among zeros of the others."""
    return values.new_zeros(len(tokens.ids_N), values.shape[1]).index_copy_(0, tokens.wanted_K, values)


def add_up(
    of_tokens: Sequence[tuple[str, Tensor]], spans: Sequence[Span], gradients: Blocks, *, add: bool
) -> None:
    """Sum vectors over each member's tokens, as products with ones, into the gradients of these names."""
    if not of_tokens:
        return
    all_NW = torch.cat([values for _, values in of_tokens], 1) if len(of_tokens) > 1 else of_tokens[0][1]
    for span in spans:
        values = all_NW[span.start : span.stop].view(span.num, span.each, -1)
        sums = torch.bmm(values.new_ones(span.num, 1, span.each), values)[:, 0]
        widths = [part.shape[1] for _, part in of_tokens]
        for (name, _), part in zip(of_tokens, sums.split(widths, 1), strict=True):
            own = gradients[name][span.held]
            own.add_(part) if add else own.copy_(part)
