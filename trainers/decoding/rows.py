"""How many rows are decoded at once: as many as memory holds, known from the model before any forward. Pure.

A row is counted at its worst: the longest prompt, every new token that it may have, a prefix of its own. What
is counted is the cache, which is nearly all of it, what attention and a change of rows make of one layer's
beside it, the prompt's forward, and what drawing a token makes of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainers.decoding.kv import layer_windows, tokens_held

DRAW_BYTES = 64
"""Of one logit while a token is drawn: copies in float32, sorted and cumulated for the nucleus, in float64
for the draw.
"""

STATES = 8
"""Vectors of a model's width that one layer's forward makes of a token: residuals, norms, projections."""

GATED = 3
"""Vectors of the inner width of a layer's MLP that live at once."""


@dataclass(frozen=True, kw_only=True)
class ModelMemory:
    """What a model takes for each token it decodes."""

    windows: Sequence[int | None]
    """Tokens that each layer attends to; ``None`` for all of them."""
    cached_bytes: int
    """Keys and values of a token in one layer."""
    spread_bytes: int
    """The same with a copy for every query head, as attention over grouped heads makes it of one layer."""
    computed_bytes: int
    """What the forward of one layer makes of a prompt's token."""
    vocab_size: int


def model_memory(config: Any, item_bytes: int) -> ModelMemory:
    """Read a model's configuration.

    Args:
        config: That of a model of transformers.
        item_bytes: Of one number of its keys and values.
    """
    text = config.get_text_config()
    heads = text.num_attention_heads
    # Names of families whose keys and values differ in width, or whose layers do; the widest counts for all.
    kv_heads = _largest(text, "num_key_value_heads", "num_global_key_value_heads") or heads
    width = _largest(text, "head_dim", "global_head_dim", "qk_head_dim", "v_head_dim")
    width = width or text.hidden_size // heads
    inner = _largest(text, "intermediate_size") or 4 * text.hidden_size
    return ModelMemory(
        windows=layer_windows(config),
        cached_bytes=2 * kv_heads * width * item_bytes,
        spread_bytes=2 * heads * width * item_bytes,
        computed_bytes=(STATES * max(text.hidden_size, heads * width) + GATED * inner) * item_bytes,
        vocab_size=text.vocab_size,
    )


def _largest(config: Any, *names: str) -> int:
    values = [getattr(config, name, None) for name in names]
    return max((v for v in values if isinstance(v, int)), default=0)


def cache_bytes(model: ModelMemory, prompt_tokens: int, new_tokens: int) -> int:
    """Bytes of a row's cache at its longest."""
    tokens = sum(tokens_held(prompt_tokens, new_tokens, window) for window in model.windows)
    return tokens * model.cached_bytes


def row_bytes(model: ModelMemory, prompt_tokens: int, new_tokens: int) -> int:
    """Bytes that a row takes at most while it is decoded."""
    tokens = tokens_held(prompt_tokens, new_tokens, None)
    drawing = model.vocab_size * DRAW_BYTES
    growing = tokens * (model.cached_bytes + model.spread_bytes)
    prefill = prompt_tokens * (model.computed_bytes + model.spread_bytes)
    return cache_bytes(model, prompt_tokens, new_tokens) + max(growing, prefill) + drawing


def rows_that_fit(asked: int, row_bytes: int, budget_bytes: int) -> int:
    """Rows to decode at once: ``asked``, or the largest power of two that fits.

    A power of two, since the bits of logits depend on it: what is free differs a little from worker to worker
    and hardly ever changes it.

    Raises:
        MemoryError: if not even one row fits.
    """
    fitting = budget_bytes // row_bytes
    if fitting >= asked:
        return asked
    if fitting < 1:
        raise MemoryError(
            f"a row takes up to {_gib(row_bytes)} while it is decoded, and {_gib(budget_bytes)} are free "
            "for it; ask for fewer new tokens or shorter prompts, or use a machine with more memory"
        )
    return 1 << (fitting.bit_length() - 1)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.3g} GiB"
