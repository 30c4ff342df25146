"""Logits of a micro batch, the prompt's part computed once where that pays.

Shapes: B rows, T tokens, P prompt tokens, C = T − P completion tokens, K = C + 1 positions with logits,
    V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from sweeps.spec import RunSpec
from trainers.step.batch import MicroBatch

SHARED_PROMPT_MIN_TOKENS = 64
"""Shortest prompt worth a forward of its own: below it, on the tiny models, the second call costs more."""


def sharing_pays(spec: RunSpec, prompts: Sequence[Sequence[int]]) -> bool:
    """Whether the run's training forward computes its prompt once: a single long prompt, activations kept."""
    return (
        len(prompts) == 1
        and len(prompts[0]) >= SHARED_PROMPT_MIN_TOKENS
        and not spec.engine.gradient_checkpointing
    )


def policy_logits(forward: Callable[..., Any], batch: MicroBatch) -> Tensor:
    """Logits of the batch's last K positions, shape (B, K, V), with gradients if they are enabled.

    Args:
        forward: The model, called with keyword inputs of transformers.
        batch: Rows; with a shared prompt, its keys and values are computed once and read by every row.
    """
    prompt = batch.shared_prompt
    if not prompt:
        masked = {} if batch.attended_BT is None else {"attention_mask": batch.attended_BT}
        return forward(
            input_ids=batch.ids_BT, use_cache=False, logits_to_keep=batch.num_logits, **masked
        ).logits
    # All but the prompt's last token: that one is fed with each completion, so that every logit comes out of
    # one forward, and joining two pieces would hold the logits twice.
    out = forward(input_ids=batch.ids_BT[:1, : prompt - 1], use_cache=True, logits_to_keep=1)
    out.past_key_values.batch_repeat_interleave(len(batch.ids_BT))
    return forward(
        input_ids=batch.ids_BT[:, prompt - 1 :], past_key_values=out.past_key_values, use_cache=True
    ).logits


def without_gradients(spec: RunSpec) -> AbstractContextManager:
    """The context of forwards whose result is only read."""
    # ZeRO-3 gathers parameters inside the forward; inference tensors among them could not be trained later.
    return torch.no_grad() if spec.engine.zero_stage == 3 else torch.inference_mode()
