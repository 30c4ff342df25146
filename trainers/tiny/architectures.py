"""Which transformer a tiny model is: one small table, one function an architecture."""

from collections.abc import Callable

from transformers import PretrainedConfig, Qwen2Config

from trainers.tiny.tokenizer import MAX_POSITIONS

NUM_LAYERS, NUM_HEADS, NUM_KV_HEADS = 2, 4, 2

FEED_FORWARD_RATIO = 2.75
"""Feed-forward width per hidden width."""

SIZE_STEP = 2 * NUM_HEADS
"""A head's width must be even, because rotary positions turn pairs of coordinates."""


def qwen2(*, hidden: int, vocab_size: int, pad_id: int, end_id: int) -> PretrainedConfig:
    """Qwen2, as Qwen2.5-Math is, with input and output embeddings tied."""
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=int(FEED_FORWARD_RATIO * hidden),
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS,
        num_key_value_heads=NUM_KV_HEADS,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=end_id,
        dtype="float32",
    )


ARCHITECTURES: dict[str, Callable[..., PretrainedConfig]] = {"qwen2": qwen2}
"""Name on the command line to what builds the configuration from a width and the tokenizer's ids."""
