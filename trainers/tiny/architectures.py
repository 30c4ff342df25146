"""Which transformer a tiny model is: one small table, one function an architecture.

All have the same depth, width, heads and feed-forward ratio, so that two models of one size differ in their
family alone: its normalisation, where that sits, its activation, biases, positions and embeddings.
"""

from collections.abc import Callable
from typing import Any

from transformers import GemmaConfig, GPTNeoXConfig, LlamaConfig, PretrainedConfig, Qwen2Config

from trainers.tiny.tokenizer import MAX_POSITIONS

NUM_LAYERS, NUM_HEADS, NUM_KV_HEADS = 2, 4, 2

FEED_FORWARD_RATIO = 2.75
"""Feed-forward width per hidden width where a gate doubles the first matrix."""

PLAIN_FEED_FORWARD_RATIO = 4.0
"""The same without a gate: about as many parameters."""

SIZE_STEP = 2 * NUM_HEADS
"""A head's width must be even, because rotary positions turn pairs of coordinates."""


def qwen2(*, hidden: int, vocab_size: int, pad_id: int, end_id: int) -> PretrainedConfig:
    """Qwen2, as Qwen2.5-Math is: biases on queries, keys and values; embeddings tied."""
    return Qwen2Config(**_common(hidden, vocab_size, pad_id, end_id), **_gated(hidden))


def llama(*, hidden: int, vocab_size: int, pad_id: int, end_id: int) -> PretrainedConfig:
    """Llama, as Llama 3.2 is: no biases at all; embeddings tied."""
    return LlamaConfig(**_common(hidden, vocab_size, pad_id, end_id), **_gated(hidden))


def gemma(*, hidden: int, vocab_size: int, pad_id: int, end_id: int) -> PretrainedConfig:
    """Gemma: GELU gates, norms that scale by one plus their weight, tied and scaled embeddings."""
    return GemmaConfig(
        **_common(hidden, vocab_size, pad_id, end_id), **_gated(hidden), head_dim=hidden // NUM_HEADS
    )


def gpt_neox(*, hidden: int, vocab_size: int, pad_id: int, end_id: int) -> PretrainedConfig:
    """GPT-NeoX, as Pythia is: layer norms, attention beside the feed-forward, rotary positions on a quarter
    of a head, biases, one key per query, embeddings apart.
    """
    return GPTNeoXConfig(
        **_common(hidden, vocab_size, pad_id, end_id) | {"tie_word_embeddings": False},
        intermediate_size=int(PLAIN_FEED_FORWARD_RATIO * hidden),
    )


def _common(hidden: int, vocab_size: int, pad_id: int, end_id: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": NUM_HEADS,
        "max_position_embeddings": MAX_POSITIONS,
        "tie_word_embeddings": True,
        "pad_token_id": pad_id,
        "bos_token_id": None,
        "eos_token_id": end_id,
        "dtype": "float32",
    }


def _gated(hidden: int) -> dict[str, Any]:
    return {"intermediate_size": int(FEED_FORWARD_RATIO * hidden), "num_key_value_heads": NUM_KV_HEADS}


ARCHITECTURES: dict[str, Callable[..., PretrainedConfig]] = {
    "qwen2": qwen2,
    "llama": llama,
    "gemma": gemma,
    "gpt-neox": gpt_neox,
}
"""Name on the command line to what builds the configuration from a width and the tokenizer's ids."""
