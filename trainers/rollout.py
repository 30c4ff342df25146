"""Rollouts of one optimizer step: drawn once per rank's share, merged where identical, weighted by
multiplicity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sweeps.spec import RunSpec, SpecError
from trainers.compat import defects_of, noise_row
from trainers.decoding import Completion, DecodeRequest, choose_decoder
from trainers.decoding.cached import decode_cached
from trainers.decoding.tree import decode_tree
from trainers.decoding.vllm import decode_vllm
from trainers.gang import Gang
from trainers.model import BaseModel, vocabulary_size
from trainers.noise import Stream, uniforms
from trainers.sampler import Sampler


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Distinct rollouts in the order of their first draw, the same on every rank."""

    prompt: Sequence[int]
    """Index of the prompt each one completes, D of them."""
    completion: Sequence[Completion]
    """Token ids, D of them."""
    count: Sequence[int]
    """Multiplicity, D of them; the sum is the step's number of rollouts."""

    @property
    def mean_tokens(self) -> float:
        """Mean completion length over all rollouts, in tokens."""
        total = sum(len(c) * n for c, n in zip(self.completion, self.count, strict=True))
        return total / max(1, sum(self.count))


def rollouts_from_json(data: Mapping[str, Any]) -> Rollouts:
    """Rollouts from their ``dataclasses.asdict`` form after a trip through JSON."""
    return Rollouts(
        prompt=data["prompt"], completion=[tuple(c) for c in data["completion"]], count=data["count"]
    )


def rollouts_per_prompt(spec: RunSpec) -> int:
    """Rollouts of each prompt.

    Raises:
        SpecError: if the prompts do not share the rollouts evenly.
    """
    each, rest = divmod(spec.sampling.num_rollouts, len(spec.example.prompts))
    if rest:
        raise SpecError(
            f"sampling.num_rollouts={spec.sampling.num_rollouts}: must be a multiple of the "
            f"{len(spec.example.prompts)} prompts of example {spec.example.name!r}"
        )
    return each


def draw_rollouts(
    module: torch.nn.Module,
    spec: RunSpec,
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    *,
    step: int,
    gang: Gang,
    drafts: Rollouts | None,
) -> Rollouts:
    """Draw the step's rollouts; each rank draws a contiguous share and all learn the whole.

    Args:
        module: The policy.
        spec: The run.
        base: Its tokenizer facts.
        prompts: Encoded prompts.
        step: Optimizer steps taken so far.
        gang: The ranks.
        drafts: The previous step's rollouts, if any.
    """
    prompt_of_row = np.repeat(np.arange(len(prompts)), rollouts_per_prompt(spec))
    return _merge(prompt_of_row, draw_rows(module, spec, base, prompts, step=step, gang=gang, drafts=drafts))


def draw_rows(
    module: torch.nn.Module,
    spec: RunSpec,
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    *,
    step: int,
    gang: Gang,
    drafts: Rollouts | None,
) -> list[Completion]:
    """Draw the step's rollouts as :func:`draw_rollouts` does, every one on its own, prompt by prompt."""
    total = spec.sampling.num_rollouts
    prompt_of_row = np.repeat(np.arange(len(prompts)), rollouts_per_prompt(spec))
    share = slice(gang.rank * total // gang.world_size, (gang.rank + 1) * total // gang.world_size)
    defects = defects_of(spec.objective)
    noise_of_row = np.array([noise_row(row, total, defects) for row in range(total)])[share]
    vocab_size = vocabulary_size(module)
    request = DecodeRequest(
        prompts=prompts,
        prompt_of_row=prompt_of_row[share],
        samplers=[
            Sampler(
                temperature=spec.sampling.temperature,
                top_p=spec.sampling.top_p,
                top_k=spec.sampling.top_k,
                repetition_penalty=spec.sampling.repetition_penalty,
            )
        ],
        sampler_of_row=np.zeros(share.stop - share.start, dtype=np.int64),
        uniforms=lambda position: uniforms(spec.seed, Stream.ROLLOUT, step, position, total)[noise_of_row],
        max_new_tokens=spec.sampling.max_new_tokens,
        eos_ids=base.eos_ids,
        vocab_size=vocab_size,
    )
    decoder = choose_decoder(
        spec.engine.decoder,
        prompt_tokens=max(map(len, prompts)),
        max_new_tokens=spec.sampling.max_new_tokens,
        vocab_size=vocab_size,
    )
    if decoder == "tree":
        known = list(zip(drafts.prompt, drafts.completion, strict=True)) if drafts else []
        mine = decode_tree(module, request, drafts=known, pad_id=base.pad_id, any_rank=gang.any)
    elif decoder == "vllm":
        mine = decode_vllm(module, request, spec, base.location)
    else:
        mine = decode_cached(module, request, pad_id=base.pad_id, any_rank=gang.any)
    return [completion for part in gang.gather(mine) for completion in part]


def _merge(prompt_of_row: np.ndarray, completions: Sequence[Completion]) -> Rollouts:
    counts: dict[tuple[int, Completion], int] = {}
    for key in zip(prompt_of_row.tolist(), completions, strict=True):
        counts[key] = counts.get(key, 0) + 1
    return Rollouts(
        prompt=[p for p, _ in counts], completion=[c for _, c in counts], count=list(counts.values())
    )
