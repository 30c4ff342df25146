"""How the configurations of the families that packs know say what their models are.

Qwen2, Llama and Gemma: root mean square norms, positions over whole heads, a gated feed-forward. GPT-NeoX:
layer norms, positions over a part of each head, a plain feed-forward, mostly beside the attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import nn

from sweeps.sharing.packs import PACKED_FAMILIES
from trainers.packs.architecture import LANES, Names, NotPackable, Shape, pieces
from trainers.packs.feed import ACTIVATIONS

PLAIN_ROTATIONS = ("default", "linear", "llama3")
"""Kinds of rotary positions whose frequencies do not depend on the length of the text."""

LLAMA_NAMES = Names(
    body="model",
    embed="embed_tokens",
    last_norm="norm",
    mixed=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.o_proj",
    feed=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
)
NEOX_NAMES = Names(
    body="gpt_neox",
    embed="embed_in",
    last_norm="final_layer_norm",
    mixed=("attention.query_key_value",),
    out="attention.dense",
    feed=("mlp.dense_h_to_4h",),
    down="mlp.dense_4h_to_h",
)


def _like_llama(config: Any) -> dict[str, Any]:
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        raise NotPackable("the model attends to a window of tokens, which packs do not")
    if getattr(config, "use_bidirectional_attention", None):
        raise NotPackable("the model attends to later tokens, which packs do not")
    return {
        "names": LLAMA_NAMES,
        "kv_heads": config.num_key_value_heads,
        "head_dim": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        "eps": config.rms_norm_eps,
    }


def _gemma(config: Any) -> dict[str, Any]:
    return _like_llama(config) | {"norm_offset": 1.0, "embedding_scale": config.hidden_size**0.5}


def _gpt_neox(config: Any) -> dict[str, Any]:
    return {
        "names": NEOX_NAMES,
        "kv_heads": config.num_attention_heads,
        "head_dim": config.hidden_size // config.num_attention_heads,
        "eps": config.layer_norm_eps,
        "centred": True,
        "parallel": config.use_parallel_residual,
        "interleaved": True,
    }


_OWN: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "qwen2": _like_llama,
    "llama": _like_llama,
    "gemma": _gemma,
    "gpt_neox": _gpt_neox,
}
"""What is a family's own of a shape."""


def shape_of(module: nn.Module, *, fused: bool = True) -> Shape:
    """Read a model's shape.

    Args:
        fused: Whether what is read together is to be stored together.

    Raises:
        NotPackable: for a model that :mod:`trainers.packs.forward` does not compute.
    """
    model = cast(Any, module)
    config, family = model.config, model.config.model_type
    if family not in PACKED_FAMILIES:
        raise NotPackable(f"model_type={family!r}: packs compute {', '.join(PACKED_FAMILIES)} only")
    if config.hidden_act not in ACTIVATIONS:
        raise NotPackable(f"hidden_act={config.hidden_act!r}: packs compute {', '.join(ACTIVATIONS)} only")
    rotation = config.rope_parameters.get("rope_type", "default")
    if rotation not in PLAIN_ROTATIONS:
        raise NotPackable(f"rope_type={rotation!r}: packs compute {', '.join(PLAIN_ROTATIONS)} only")
    own = _OWN[family](config)
    held = {name for name, _ in module.named_parameters()}
    shape = Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        turned_dim=2 * len(model.base_model.rotary_emb.inv_freq),
        feed_forward=config.intermediate_size,
        vocabulary=config.vocab_size,
        tied=bool(config.tie_word_embeddings),
        biased=_biased(own["names"], held),
        activation=config.hidden_act,
        padding_id=model.get_input_embeddings().padding_idx,
        fused=fused,
        **own,
    )
    if shape.turned_dim != shape.head_dim and not shape.interleaved:
        raise NotPackable(f"partial_rotary_factor: packs of {family} turn whole heads only")
    for name in ("hidden", "feed_forward", "head_dim"):
        if getattr(shape, name) % LANES:
            raise NotPackable(f"{name}={getattr(shape, name)}: must be a multiple of {LANES} in a pack")
    known = set(dict(pieces(shape)))
    if odd := known ^ held:
        raise NotPackable(f"{min(odd)}: weights other than those of a plain {family}")
    return shape


def _biased(names: Names, held: set[str]) -> frozenset[str]:
    """Which layers have biases, as the first of the model shows."""
    first = {"mixed": names.mixed[0], "out": names.out, "feed": names.feed[0], "down": names.down}
    return frozenset(kind for kind, name in first.items() if f"{names.body}.layers.0.{name}.bias" in held)
