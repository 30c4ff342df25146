"""What a stack knows of a transformer: its shape, and where its weights lie among the stacked blocks.

Qwen2, Llama and Gemma: root mean square norms, rotary positions, grouped queries, gated feed-forward. What is
read together is stored together, queries, keys and values as one matrix, gate and up as one; matrices that
are not trained stay as they are. A model that is anything else is refused with the reason, and its runs are
trained one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from sweeps.sharing.packs import PACKED_FAMILIES

PLAIN_ROTATIONS = ("default", "linear", "llama3")
"""Kinds of rotary positions whose frequencies do not depend on the length of the text."""

ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu"}
"""What packs call the activations that they compute, by the name in a model's configuration."""

LANES = 8
"""Widths are multiples of it. With tokens in tiles of eight, no element of a member then falls into the rest
that vectorised kernels compute by scalar code, whose last bits are others (measured for SiLU).
"""


class NotPackable(Exception):
    """Why a model's runs are not packed."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A transformer's sizes."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    eps: float
    """Added to the mean square inside a norm."""
    tied: bool
    """Whether the embeddings also make the logits."""
    biased: bool
    """Whether queries, keys and values have biases."""
    activation: str
    """Of the feed-forward's gate: ``silu``, or ``gelu`` by its tanh."""
    norm_offset: float
    """Added to a norm's weight."""
    embedding_scale: float
    """Multiplies embeddings where they are read, not where they make logits."""
    padding_id: int | None
    """Token whose embedding is not trained by being read."""
    fused: bool = True
    """Whether what is read together is stored together."""

    @property
    def group(self) -> int:
        """Queries that share a key."""
        return self.heads // self.kv_heads

    def mixed_blocks(self, layer: int) -> tuple[str, ...]:
        """Blocks of queries, keys and values."""
        names = ("mixed",) if self.fused else ("query", "key", "value")
        return tuple(f"{name}_{layer}" for name in names)

    def gated_blocks(self, layer: int) -> tuple[str, ...]:
        """Blocks of the gate and of what it lets through."""
        names = ("gated",) if self.fused else ("gate", "up")
        return tuple(f"{name}_{layer}" for name in names)

    @property
    def layer_bytes(self) -> int:
        """What a layer computes of a token, scores of attention apart."""
        width = 6 * self.hidden + 4 * self.feed_forward + 2 * self.mixed + self.heads * self.head_dim
        return 4 * width

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


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Where a parameter of the model lies."""

    block: str
    first: int
    """Its first row of the block."""
    rows: int


def shape_of(module: nn.Module, *, fused: bool = True) -> Shape:
    """Read a model's shape.

    Args:
        fused: Whether what is read together is to be stored together.

    Raises:
        NotPackable: for a model that :mod:`trainers.packs.forward` does not compute.
    """
    config = cast(Any, module).config
    family = config.model_type
    if family not in PACKED_FAMILIES:
        raise NotPackable(f"model_type={family!r}: packs compute {' and '.join(PACKED_FAMILIES)} only")
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        raise NotPackable("the model attends to a window of tokens, which packs do not")
    if config.hidden_act not in ACTIVATIONS:
        raise NotPackable(f"hidden_act={config.hidden_act!r}: packs compute {', '.join(ACTIVATIONS)} only")
    if getattr(config, "use_bidirectional_attention", None):
        raise NotPackable("the model attends to later tokens, which packs do not")
    rotation = config.rope_parameters.get("rope_type", "default")
    if rotation not in PLAIN_ROTATIONS:
        raise NotPackable(f"rope_type={rotation!r}: packs compute {', '.join(PLAIN_ROTATIONS)} only")
    if config.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise NotPackable("partial_rotary_factor: packs turn whole heads only")
    shape = Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        feed_forward=config.intermediate_size,
        vocabulary=config.vocab_size,
        eps=config.rms_norm_eps,
        tied=bool(config.tie_word_embeddings),
        biased=family == "qwen2" or bool(getattr(config, "attention_bias", False)),
        activation=ACTIVATIONS[config.hidden_act],
        norm_offset=1.0 if family == "gemma" else 0.0,
        embedding_scale=config.hidden_size**0.5 if family == "gemma" else 1.0,
        padding_id=cast(Any, module).model.embed_tokens.padding_idx,
        fused=fused,
    )
    for name in ("hidden", "feed_forward", "head_dim"):
        if getattr(shape, name) % LANES:
            raise NotPackable(f"{name}={getattr(shape, name)}: must be a multiple of {LANES} in a pack")
    known, held = set(dict(pieces(shape))), {name for name, _ in module.named_parameters()}
    if odd := known ^ held:
        raise NotPackable(f"{min(odd)}: weights other than those of a plain {family}")
    return shape


def blocks(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each stacked block's name and the shape of one member's part."""
    yield "embed", (shape.vocabulary, shape.hidden)
    if not shape.tied:
        yield "head", (shape.vocabulary, shape.hidden)
    for k in range(shape.layers):
        yield f"norm_attention_{k}", (shape.hidden,)
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        widths = (shape.mixed,) if shape.fused else (queries, keys, keys)
        for name, width in zip(shape.mixed_blocks(k), widths, strict=True):
            yield name, (width, shape.hidden)
        if shape.biased:
            yield f"bias_{k}", (shape.mixed,)
        yield f"out_{k}", (shape.hidden, shape.heads * shape.head_dim)
        yield f"norm_feed_{k}", (shape.hidden,)
        names = shape.gated_blocks(k)
        for name in names:
            yield name, (2 // len(names) * shape.feed_forward, shape.hidden)
        yield f"down_{k}", (shape.hidden, shape.feed_forward)
    yield "norm_last", (shape.hidden,)


def pieces(shape: Shape) -> Iterator[tuple[str, Piece]]:
    """Yield each of the model's parameters by name and where it lies, in the order of the model."""
    yield "model.embed_tokens.weight", Piece(block="embed", first=0, rows=shape.vocabulary)
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    mixed = (("q", 0, queries), ("k", queries, keys), ("v", queries + keys, keys))
    for k in range(shape.layers):
        layer = f"model.layers.{k}"
        for (name, first, rows), block in zip(
            mixed, 3 // len(shape.mixed_blocks(k)) * shape.mixed_blocks(k), strict=True
        ):
            start = first if shape.fused else 0
            yield f"{layer}.self_attn.{name}_proj.weight", Piece(block=block, first=start, rows=rows)
            if shape.biased:
                yield f"{layer}.self_attn.{name}_proj.bias", Piece(block=f"bias_{k}", first=first, rows=rows)
        yield f"{layer}.self_attn.o_proj.weight", Piece(block=f"out_{k}", first=0, rows=shape.hidden)
        width = shape.feed_forward
        gate, up = 2 // len(shape.gated_blocks(k)) * shape.gated_blocks(k)
        yield f"{layer}.mlp.gate_proj.weight", Piece(block=gate, first=0, rows=width)
        yield f"{layer}.mlp.up_proj.weight", Piece(block=up, first=width if shape.fused else 0, rows=width)
        yield f"{layer}.mlp.down_proj.weight", Piece(block=f"down_{k}", first=0, rows=shape.hidden)
        for name, block in (("input_layernorm", "norm_attention"), ("post_attention_layernorm", "norm_feed")):
            yield f"{layer}.{name}.weight", Piece(block=f"{block}_{k}", first=0, rows=shape.hidden)
    yield "model.norm.weight", Piece(block="norm_last", first=0, rows=shape.hidden)
    if not shape.tied:
        yield "lm_head.weight", Piece(block="head", first=0, rows=shape.vocabulary)
