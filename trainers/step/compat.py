"""Defects of the published one-shot EM trainer, reproduced on request to trace a published number.

``objective.compat`` is ``exact`` (none of them), ``upstream`` (all), or names joined by ``+``. Each was read
in the published code of arXiv 2505.20282:

``micro_steps``     A "step" counts micro batches of 2 rollouts a GPU: by step s only floor(s·2·world/64)
                    optimizer updates were made. On the eight GPUs assumed here, step 10 is 2 updates.
``shared_noise``    All ranks share one seed, so with identical prompts every rank draws the same rollouts: 64
                    rollouts are eight copies of eight.
``padded_lengths``  With left padding, a prompt's token count is used as an absolute index: in a batch of
                    unequal prompts, positions inside the shorter ones count as completion.
``unshifted_mask``  The mask is not shifted against the logits: it omits the position that predicts the first
                    completion token and includes the one after the last.
``eos_as_padding``  With pad == EOS, the EOS of a completion is taken for padding and drops out of the loss.
"""

from __future__ import annotations

from sweeps.spec import COMPAT_DEFECTS, ObjectiveSpec

UPSTREAM_WORLD = 8
"""GPUs of the published setup."""

UPSTREAM_MICRO_BATCH = 2
"""Rollouts per GPU and micro batch of the published setup."""


def defects_of(objective: ObjectiveSpec) -> frozenset[str]:
    if objective.compat == "exact":
        return frozenset()
    if objective.compat == "upstream":
        return frozenset(COMPAT_DEFECTS)
    return frozenset(objective.compat.split("+"))


def updates_by(step: int, num_rollouts: int, defects: frozenset[str]) -> int:
    """Optimizer updates made by the end of ``step``: ``step``, unless ``micro_steps`` is reproduced."""
    if "micro_steps" not in defects:
        return step
    return step * UPSTREAM_MICRO_BATCH * UPSTREAM_WORLD // num_rollouts


def noise_row(row: int, num_rollouts: int, defects: frozenset[str]) -> int:
    """Row of the noise table that a rollout reads: its own, unless ``shared_noise`` is reproduced."""
    if "shared_noise" not in defects:
        return row
    return row % max(1, num_rollouts // UPSTREAM_WORLD)


def masked_tokens(prompt: int, completion: int, widest: int, ended: bool, defects: frozenset[str]) -> range:
    """Tokens of one row, counted from its first real one, whose entropy enters the loss.

    Args:
        prompt: Tokens of the row's prompt.
        completion: Tokens of its completion, EOS included.
        widest: Tokens of the longest prompt in the batch.
        ended: Whether the completion ends with EOS.
        defects: From :func:`defects_of`.
    """
    start, stop = prompt, prompt + completion
    if "padded_lengths" in defects:
        # Index `prompt` of a row padded to `widest` is token `prompt − (widest − prompt)` of the row itself.
        start = max(2 * prompt - widest, 0)
    if "eos_as_padding" in defects and ended:
        stop -= 1
    return range(start, stop)


def predicting_offset(defects: frozenset[str]) -> int:
    """Logits at position t + offset stand for token t: −1, or 0 where ``unshifted_mask`` is reproduced."""
    return 0 if "unshifted_mask" in defects else -1
