"""The parts of a transformer's layer over the tokens of many members, each with its backward pass.

A product of a member's tokens with its weights has the shape that it has without mates, whether it is one of
a batched product or by itself; everything else is computed token by token or row by row.

Shapes: N tokens of all members, I and O widths of a matrix, H hidden, D width of a head, B rows of one length
T, S queries that share a key times T, U keys, fillers among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from trainers.packs.architecture import Shape, bias_of
from trainers.packs.tokens import Span, Tokens


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Rotary positions: a head turned by one is ``x · cos + (its halves swapped) · sin``.

    Float32 of shape (positions, D).
    """

    cos: Tensor
    sin: Tensor
    """Signed: negative in the first half."""


@torch.no_grad()
def rotation_of(frequencies: Tensor, scaling: float, num_positions: int, shape: Shape) -> Rotation:
    """The rotations of a model's ``rotary_emb``; what it does not turn turns at frequency zero."""
    frequencies = functional.pad(frequencies, (0, shape.head_dim // 2 - len(frequencies)))
    positions = torch.arange(num_positions, dtype=torch.float32, device=frequencies.device)
    angles = positions[:, None] * frequencies[None, :]
    cos, sin = angles.cos() * scaling, angles.sin() * scaling
    return Rotation(cos=torch.cat([cos, cos], -1).contiguous(), sin=torch.cat([-sin, sin], -1).contiguous())


def times(x_NI: Tensor, weight: Tensor, spans: Sequence[Span]) -> Tensor:
    """Each token times its member's matrix, transposed: ``x Wᵀ`` for a weight of shape (P, out, in)."""
    out = x_NI.new_empty(len(x_NI), weight.shape[1])
    for span in spans:
        x, y = x_NI[span.start : span.stop], out[span.start : span.stop]
        if span.num == 1:
            torch.mm(x, weight[span.slot].t(), out=y)
        else:
            batched = (span.num, span.each, -1)
            torch.bmm(x.view(batched), weight[span.slots].transpose(1, 2), out=y.view(batched))
    return out


def times_transposed(grad_NO: Tensor, weight: Tensor, spans: Sequence[Span]) -> Tensor:
    """The gradient of :func:`times` by its input."""
    out = grad_NO.new_empty(len(grad_NO), weight.shape[2])
    for span in spans:
        g, y = grad_NO[span.start : span.stop], out[span.start : span.stop]
        if span.num == 1:
            torch.mm(g, weight[span.slot], out=y)
        else:
            batched = (span.num, span.each, -1)
            torch.bmm(g.view(batched), weight[span.slots], out=y.view(batched))
    return out


def weight_gradient(grad_NO: Tensor, x_NI: Tensor, spans: Sequence[Span], into: Tensor, *, add: bool) -> None:
    """The gradient of :func:`times` by the weight, written where those members' is held, or added to it."""
    for span in spans:
        g, x = grad_NO[span.start : span.stop], x_NI[span.start : span.stop]
        if span.num == 1:
            own = into[span.row]
            own.addmm_(g.t(), x) if add else torch.mm(g.t(), x, out=own)
        else:
            batched, own = (span.num, span.each, -1), into[span.held]
            g, x = g.view(batched).transpose(1, 2), x.view(batched)
            own.baddbmm_(g, x) if add else torch.bmm(g, x, out=own)


@dataclass(frozen=True, kw_only=True)
class Normed:
    """What the backward pass needs of a norm of the root mean square, or of a layer norm."""

    unit: Tensor
    """The input over its root mean square, its mean taken away first in a layer norm."""
    scale: Tensor
    weight: Tensor
    """Of each token, or one for all."""


def _of_tokens(vector_PH: Tensor, slot_N: Tensor) -> Tensor:
    """Each token's member's vector; where members share it, copied for none."""
    return vector_PH[:1] if vector_PH.stride(0) == 0 else vector_PH[slot_N]


def norm(
    x_NH: Tensor, name: str, weights: Mapping[str, Tensor], slot_N: Tensor, shape: Shape
) -> tuple[Tensor, Normed]:
    """The norm's output, and what its backward pass needs."""
    if shape.centred:
        x_NH = x_NH - x_NH.mean(-1, keepdim=True)
    scale_N1 = x_NH.square().mean(-1, keepdim=True).add_(shape.eps).rsqrt_()
    unit_NH, weight_NH = x_NH * scale_N1, _of_tokens(weights[name], slot_N)
    if shape.norm_offset:
        weight_NH = weight_NH + shape.norm_offset
    out_NH = unit_NH * weight_NH
    if shape.centred:
        out_NH += _of_tokens(weights[bias_of(name)], slot_N)
    return out_NH, Normed(unit=unit_NH, scale=scale_N1, weight=weight_NH)


def norm_backward(grad_NH: Tensor, normed: Normed, shape: Shape) -> tuple[Tensor, Tensor]:
    """Gradients by the input and, token by token, by the weight."""
    by_weight_NH = grad_NH * normed.unit
    mean_N1 = (by_weight_NH * normed.weight).mean(-1, keepdim=True)
    by_unit_NH = grad_NH * normed.weight
    by_input_NH = by_unit_NH.addcmul_(normed.unit, mean_N1, value=-1).mul_(normed.scale)
    if shape.centred:
        by_input_NH -= by_input_NH.mean(-1, keepdim=True)
    return by_input_NH, by_weight_NH


def rotated(x_NHD: Tensor, cos_N1D: Tensor, sin_N1D: Tensor) -> Tensor:
    """Heads turned by their positions."""
    return (x_NHD * cos_N1D).addcmul_(x_NHD.roll(x_NHD.shape[-1] // 2, -1), sin_N1D)


def rotated_back(grad_NHD: Tensor, cos_N1D: Tensor, sin_N1D: Tensor) -> Tensor:
    """The gradient of :func:`rotated`."""
    return torch.addcmul((grad_NHD * sin_N1D).roll(grad_NHD.shape[-1] // 2, -1), grad_NHD, cos_N1D)


@lru_cache(maxsize=64)
def order_of(shape: Shape, device: torch.device) -> Tensor | None:
    """Where in the model's order of queries, keys and values each number of ours lies: all queries, then all
    keys, then all values, and what is turned together half a head apart; ``None`` if the model has it so.
    """
    if not shape.interleaved:
        return None
    numbers = torch.arange(shape.head_dim)
    turned, still = numbers[: shape.turned_dim].view(2, -1), numbers[shape.turned_dim :].view(2, -1)
    apart = torch.cat([turned, still], 1).flatten()
    queries, keys, values = torch.arange(shape.mixed).view(shape.heads, 3, -1).unbind(1)
    return torch.cat([queries[:, apart], keys[:, apart], values]).flatten().to(device)


@lru_cache(maxsize=64)
def _order_back(shape: Shape, device: torch.device) -> Tensor | None:
    order = order_of(shape, device)
    return None if order is None else order.argsort()


def ordered(mixed_NM: Tensor, order: Tensor | None) -> Tensor:
    return mixed_NM if order is None else mixed_NM.index_select(1, order)


KEY_TILE = 16
"""Keys of a row are filled up to a multiple of it: torch's softmax takes 12 times as long over 13 as over 16
numbers (measured, float32 and AVX512).
"""


def num_keys(length: int) -> int:
    """Keys that rows of this length attend to, fillers among them."""
    return -(-length // KEY_TILE) * KEY_TILE


LONGEST_MASK_KEPT = 256
"""Tokens of a row whose mask is kept for the rows to come: masks grow with the square, and making one is then
little beside the attention that it is for.
"""


def causal_mask(length: int, group: int, device: torch.device) -> Tensor:
    """Added to scores of shape (group · T, keys): 0 where a key is no later than a query, else −inf."""
    if length <= LONGEST_MASK_KEPT:
        return _kept_mask(length, group, device)
    return _new_mask(length, group, device)


def _new_mask(length: int, group: int, device: torch.device) -> Tensor:
    return torch.full((length, num_keys(length)), -torch.inf, device=device).triu_(1).repeat(group, 1)


_kept_mask = lru_cache(maxsize=64)(_new_mask)


def masked(score: Tensor, mask: Tensor, shape: Shape) -> Tensor:
    """Products of queries and keys, scaled and with a mask of 0 and −inf added, in place: one operation has
    the bits of two.
    """
    return torch.add(mask, score, alpha=shape.head_dim**-0.5, out=score)


@dataclass(frozen=True, kw_only=True)
class Attended:
    """Attention of rows of one length, and what its backward pass needs; U keys, fillers among them."""

    query_BSD: Tensor
    key_BUD: Tensor
    value_BUD: Tensor
    share_BSU: Tensor
    """How a query spreads over the keys."""


def attend(
    mixed_NM: Tensor, tokens: Tokens, rotation: Rotation, shape: Shape
) -> tuple[Tensor, list[Attended]]:
    """Attention from queries, keys and values side by side; returns its output, shape (N, heads · D)."""
    cos_N1D = rotation.cos[tokens.position_N].unsqueeze(1)
    sin_N1D = rotation.sin[tokens.position_N].unsqueeze(1)
    mixed = ordered(mixed_NM, order_of(shape, mixed_NM.device)).view(len(mixed_NM), -1, shape.head_dim)
    turned = rotated(mixed[:, : shape.heads + shape.kv_heads], cos_N1D, sin_N1D)
    out_NA = mixed_NM.new_empty(len(mixed_NM), shape.heads * shape.head_dim)
    parts = []
    for start, stop, length in tokens.rows:
        query = _by_head(turned[start:stop, : shape.heads], length, shape)
        key = _keys_by_head(turned[start:stop, shape.heads :], length, shape)
        value = _keys_by_head(mixed[start:stop, shape.heads + shape.kv_heads :], length, shape)
        mask = causal_mask(length, shape.group, mixed_NM.device)
        share = torch.softmax(masked(torch.bmm(query, key.transpose(1, 2)), mask, shape), -1)
        _from_heads(torch.bmm(share, value), length, shape, out_NA[start:stop])
        parts.append(Attended(query_BSD=query, key_BUD=key, value_BUD=value, share_BSU=share))
    return out_NA, parts


def attend_backward(
    grad_NA: Tensor, parts: Sequence[Attended], tokens: Tokens, rotation: Rotation, shape: Shape
) -> Tensor:
    """The gradient of :func:`attend` by queries, keys and values side by side, shape (N, mixed)."""
    grad = grad_NA.view(len(grad_NA), -1, shape.head_dim)
    turned = grad_NA.new_empty(len(grad_NA), shape.heads + shape.kv_heads, shape.head_dim)
    mixed = grad_NA.new_empty(len(grad_NA), shape.heads + 2 * shape.kv_heads, shape.head_dim)
    scale = shape.head_dim**-0.5
    for (start, stop, length), part in zip(tokens.rows, parts, strict=True):
        out = _by_head(grad[start:stop], length, shape)
        by_share = torch.bmm(out, part.value_BUD.transpose(1, 2))
        by_score = torch.ops.aten._softmax_backward_data(by_share, part.share_BSU, -1, torch.float32).mul_(
            scale
        )
        by_query, by_key = (
            torch.bmm(by_score, part.key_BUD),
            torch.bmm(by_score.transpose(1, 2), part.query_BSD),
        )
        by_value = torch.bmm(part.share_BSU.transpose(1, 2), out)
        heads = shape.heads
        _from_heads(by_query, length, shape, turned[start:stop, :heads])
        _from_heads(by_key[:, :length], length, shape, turned[start:stop, heads:])
        _from_heads(by_value[:, :length], length, shape, mixed[start:stop, heads + shape.kv_heads :])
    cos_N1D = rotation.cos[tokens.position_N].unsqueeze(1)
    sin_N1D = rotation.sin[tokens.position_N].unsqueeze(1)
    mixed[:, : shape.heads + shape.kv_heads] = rotated_back(turned, cos_N1D, sin_N1D)
    return ordered(mixed.view(len(grad_NA), -1), _order_back(shape, grad_NA.device))


def _by_head(x_NHD: Tensor, length: int, shape: Shape) -> Tensor:
    """Tokens of rows as (rows · key heads, heads of each · T, D)."""
    x = x_NHD.view(-1, length, x_NHD.shape[1], shape.head_dim).transpose(1, 2)
    return x.reshape(len(x) * shape.kv_heads, -1, shape.head_dim)


def _keys_by_head(x_NHD: Tensor, length: int, shape: Shape) -> Tensor:
    """The same for keys or values, filled up with zeros."""
    x = x_NHD.view(-1, length, shape.kv_heads, shape.head_dim).transpose(1, 2)
    filled = x_NHD.new_zeros(len(x), shape.kv_heads, num_keys(length), shape.head_dim)
    filled[:, :, :length] = x
    return filled.view(len(x) * shape.kv_heads, -1, shape.head_dim)


def _from_heads(x: Tensor, length: int, shape: Shape, into: Tensor) -> None:
    """The inverse of :func:`_by_head`, written where it belongs."""
    rows = len(x) // shape.kv_heads
    into.view(rows, length, -1, shape.head_dim).copy_(
        x.reshape(rows, -1, length, shape.head_dim).transpose(1, 2)
    )
