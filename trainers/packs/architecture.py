"""What a stack knows of a transformer: its shape, and where its weights lie among the stacked blocks.

Rotary positions, grouped queries, norms of the root mean square or layer norms, a feed-forward with a gate or
without one. What is read together is stored together, queries, keys and values as one matrix, gate and up as
one; matrices that are not trained stay as they are. How a model's configuration says all this is in
:mod:`trainers.packs.families`; a model that is anything else is refused with the reason, and its runs are
trained one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LANES = 8
"""Widths are multiples of it. With tokens in tiles of eight, no element of a member then falls into the rest
that vectorised kernels compute by scalar code, whose last bits are others (measured for SiLU).
"""


class NotPackable(Exception):
    """Why a model's runs are not packed."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """What a family calls the parts of its models."""

    body: str
    """The model without its head."""
    embed: str
    last_norm: str
    mixed: tuple[str, ...]
    """Queries, keys and values: three layers of a block, or one."""
    out: str
    feed: tuple[str, ...]
    """The feed-forward's first layers: its gate and what that lets through, or one without a gate."""
    down: str


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A transformer's sizes, and how its layers are wired."""

    names: Names
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    turned_dim: int
    """Numbers of a head that its position turns, the first ones."""
    feed_forward: int
    vocabulary: int
    eps: float
    """Added to the mean square inside a norm."""
    tied: bool
    """Whether the embeddings also make the logits."""
    biased: frozenset[str]
    """Which layers have biases: ``mixed`` for queries, keys and values, ``out``, ``feed``, ``down``."""
    activation: str
    """Of the feed-forward, as :data:`trainers.packs.feed.ACTIVATIONS` calls it."""
    centred: bool = False
    """Whether norms are layer norms: they take the mean away first and have biases."""
    parallel: bool = False
    """Whether the feed-forward reads what the attention beside it reads, and not what that gives."""
    interleaved: bool = False
    """Whether each head's query, key and value come one after the other, and not all queries first."""
    norm_offset: float = 0.0
    """Added to a norm's weight."""
    embedding_scale: float = 1.0
    """Multiplies embeddings where they are read, not where they make logits."""
    padding_id: int | None = None
    """Token whose embedding is not trained by being read."""
    fused: bool = True
    """Whether what is read together is stored together."""

    @property
    def group(self) -> int:
        """Queries that share a key."""
        return self.heads // self.kv_heads

    @property
    def gated(self) -> bool:
        return len(self.names.feed) == 2

    def mixed_blocks(self, layer: int) -> tuple[str, ...]:
        """Blocks of queries, keys and values."""
        names = ("mixed",) if self.fused or len(self.names.mixed) == 1 else ("query", "key", "value")
        return tuple(f"{name}_{layer}" for name in names)

    def feed_blocks(self, layer: int) -> tuple[str, ...]:
        """Blocks of the feed-forward's first layers."""
        return (f"gated_{layer}",) if self.gated and self.fused else self.feed_parts(layer)

    def feed_parts(self, layer: int) -> tuple[str, ...]:
        """Those layers, each by itself: the gate and what it lets through, or one without a gate."""
        return (f"gate_{layer}", f"up_{layer}") if self.gated else (f"up_{layer}",)

    @property
    def layer_bytes(self) -> int:
        """What a layer computes of a token, scores of attention apart."""
        feed = (4 if self.gated else 2) * self.feed_forward
        return 4 * (6 * self.hidden + feed + 2 * self.mixed + self.heads * self.head_dim)

    def trace_bytes(self, num_tokens: int, num_wanted: int) -> int:
        """What a forward keeps for its backward pass, and what the loss makes of its logits."""
        return self.layers * self.layer_bytes * num_tokens + 16 * self.vocabulary * num_wanted

    @property
    def head(self) -> str:
        """The block that makes logits."""
        return "embed" if self.tied else "head"

    @property
    def mixed(self) -> int:
        """Width of queries, keys and values side by side."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


def bias_of(block: str) -> str:
    """The block of what is added behind another block's product, or behind a norm; not every one has it."""
    return f"bias_{block}"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Where a parameter of the model lies."""

    block: str
    first: int
    """Its first row of the block."""
    rows: int


def blocks(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each stacked block's name and the shape of one member's part."""
    yield "embed", (shape.vocabulary, shape.hidden)
    if not shape.tied:
        yield "head", (shape.vocabulary, shape.hidden)
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    for k in range(shape.layers):
        yield from _norm_blocks(f"norm_attention_{k}", shape)
        mixed = shape.mixed_blocks(k)
        widths = (shape.mixed,) if len(mixed) == 1 else (queries, keys, keys)
        yield from _linear_blocks(mixed, widths, shape.hidden, biased="mixed" in shape.biased)
        yield from _linear_blocks((f"out_{k}",), (shape.hidden,), queries, biased="out" in shape.biased)
        yield from _norm_blocks(f"norm_feed_{k}", shape)
        feed = shape.feed_blocks(k)
        width = len(shape.names.feed) // len(feed) * shape.feed_forward
        yield from _linear_blocks(feed, [width] * len(feed), shape.hidden, biased="feed" in shape.biased)
        down = (f"down_{k}",)
        yield from _linear_blocks(down, (shape.hidden,), shape.feed_forward, biased="down" in shape.biased)
    yield from _norm_blocks("norm_last", shape)


def _norm_blocks(name: str, shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield name, (shape.hidden,)
    if shape.centred:
        yield bias_of(name), (shape.hidden,)


def _linear_blocks(
    names: Sequence[str], outputs: Sequence[int], inputs: int, *, biased: bool
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, width in zip(names, outputs, strict=True):
        yield name, (width, inputs)
    if biased:
        for name, width in zip(names, outputs, strict=True):
            yield bias_of(name), (width,)


def pieces(shape: Shape) -> Iterator[tuple[str, Piece]]:
    """Yield each of the model's parameters by name and where it lies, in the order of the model."""
    names = shape.names
    yield f"{names.body}.{names.embed}.weight", Piece(block="embed", first=0, rows=shape.vocabulary)
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    widths = (queries, keys, keys) if len(names.mixed) == 3 else (shape.mixed,)
    feed_widths = (shape.feed_forward,) * len(names.feed)
    for k in range(shape.layers):
        layer = f"{names.body}.layers.{k}"
        for kind, own, rows, held in (
            ("mixed", names.mixed, widths, shape.mixed_blocks(k)),
            ("out", (names.out,), (shape.hidden,), (f"out_{k}",)),
            ("feed", names.feed, feed_widths, shape.feed_blocks(k)),
            ("down", (names.down,), (shape.hidden,), (f"down_{k}",)),
        ):
            for name, piece in zip(own, _laid(rows, held), strict=True):
                yield f"{layer}.{name}.weight", piece
                if kind in shape.biased:
                    yield (
                        f"{layer}.{name}.bias",
                        Piece(block=bias_of(piece.block), first=piece.first, rows=piece.rows),
                    )
        for name, block in (("input_layernorm", "norm_attention"), ("post_attention_layernorm", "norm_feed")):
            yield from _norm_pieces(f"{layer}.{name}", f"{block}_{k}", shape)
    yield from _norm_pieces(f"{names.body}.{names.last_norm}", "norm_last", shape)
    if not shape.tied:
        yield "lm_head.weight", Piece(block="head", first=0, rows=shape.vocabulary)


def _laid(rows: Sequence[int], held: Sequence[str]) -> Iterator[Piece]:
    """Layers in a block each, or one after the other in a single one."""
    for number, own in enumerate(rows):
        if len(held) == 1:
            yield Piece(block=held[0], first=sum(rows[:number]), rows=own)
        else:
            yield Piece(block=held[number], first=0, rows=own)


def _norm_pieces(name: str, block: str, shape: Shape) -> Iterator[tuple[str, Piece]]:
    yield f"{name}.weight", Piece(block=block, first=0, rows=shape.hidden)
    if shape.centred:
        yield f"{name}.bias", Piece(block=bias_of(block), first=0, rows=shape.hidden)
