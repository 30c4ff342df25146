"""Drawing completions: one request, three ways to fill it.

``tree``    for short completions over a small vocabulary: rollouts walk a tree of distinct prefixes, and
            last step's rollouts are verified in one forward as drafts, so a step costs one or two forwards
            instead of one per token.
``cached``  for everything else: one prefill per distinct prompt, then a KV-cached forward per token over
            distinct prefixes.
``vllm``    on request, for large models on a GPU: vLLM's engine and its noise.

The first two invert the same cumulative distributions with the same counter-based noise: they differ in the
bits of the logits only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainers.decoding.sampler import Sampler

TREE_MAX_TOKENS = 64
"""Longest prompt and longest completion the tree decoder takes: without a KV cache its cost grows with the
square of the length.
"""

TREE_MAX_VOCABULARY = 4096
"""Largest vocabulary the tree decoder takes: it keeps one cumulative distribution per distinct prefix on
the host.
"""


@dataclass(frozen=True, kw_only=True)
class DecodeRequest:
    """Completions wanted: R rows over a few prompts."""

    prompts: Sequence[Sequence[int]]
    prompt_of_row: np.ndarray
    """Index into ``prompts`` of each row, int64 of shape (R,)."""
    samplers: Sequence[Sampler]
    sampler_of_row: np.ndarray
    """Index into ``samplers`` of each row, int64 of shape (R,)."""
    uniforms: Callable[[int], np.ndarray]
    """Noise of a completion position for every row: position -> float64 of shape (R,)."""
    max_new_tokens: int
    eos_ids: Sequence[int]
    """Tokens that end a completion; the one drawn is kept."""
    vocab_size: int


Completion = tuple[int, ...]
"""Token ids of one completion, its EOS included unless the limit cut it off."""


def choose_decoder(decoder: str, *, prompt_tokens: int, max_new_tokens: int, vocab_size: int) -> str:
    """Resolve ``engine.decoder``: ``auto`` takes the tree where it is the faster one."""
    if decoder != "auto":
        return decoder
    short = max(prompt_tokens, max_new_tokens) <= TREE_MAX_TOKENS and vocab_size <= TREE_MAX_VOCABULARY
    return "tree" if short else "cached"
