"""Rollouts of one optimizer step: drawn once per rank's share, merged where identical, weighted by
multiplicity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sweeps.spec import RunSpec
from sweeps.spec.cross_checks import rollouts_per_prompt
from trainers.decoding import Completion, DecodeRequest, choose_decoder
from trainers.decoding.cached import decode_in_parts
from trainers.decoding.sampler import Sampler
from trainers.decoding.tree import decode_tree
from trainers.decoding.vllm import decode_vllm
from trainers.engine.gang import Gang
from trainers.model.base_model import BaseModel, vocabulary_size
from trainers.noise import Stream, shared_uniforms
from trainers.step.compat import dealing


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Distinct rollouts in the order of their first draw, the same on every rank."""

    prompt: Sequence[int]
    """Index of the prompt each one completes, D of them."""
    completion: Sequence[Completion]
    """Token ids, D of them."""
    count: Sequence[int]
    """Multiplicity, D of them; the sum R is the step's number of rollouts."""
    distinct: Sequence[int]
    """Index of the distinct rollout that each one equals, in the order drawn: prompt by prompt, R of them."""

    @property
    def mean_tokens(self) -> float:
        """Mean completion length over all rollouts, in tokens."""
        total = sum(len(c) * n for c, n in zip(self.completion, self.count, strict=True))
        return total / max(1, sum(self.count))


NO_ROLLOUTS = Rollouts(prompt=(), completion=(), count=(), distinct=())
"""Those of a step that draws none."""


def rollouts_from_json(data: Mapping[str, Any]) -> Rollouts:
    """Rollouts from their ``dataclasses.asdict`` form after a trip through JSON."""
    return Rollouts(**{**data, "completion": [tuple(c) for c in data["completion"]]})


def draw_rollouts(
    module: torch.nn.Module,
    spec: RunSpec,
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    *,
    step: int,
    gang: Gang,
    drafts: Rollouts | None,
    redraw: int = 0,
) -> Rollouts:
    """Draw the step's rollouts; each rank draws a contiguous share and all learn the whole.

    Args:
        redraw: How often the step's rollouts were drawn before; the noise is another each time.
    """
    vocab_size = vocabulary_size(module)
    request = rollout_request(spec, base, prompts, vocab_size, step=step, gang=gang, redraw=redraw)
    decoder = choose_decoder(
        spec.engine.decoder,
        prompt_tokens=max(map(len, prompts)),
        max_new_tokens=spec.sampling.max_new_tokens,
        vocab_size=vocab_size,
    )
    if decoder == "tree":
        known = list(zip(drafts.prompt, drafts.completion, strict=True)) if drafts else []
        completions = decode_tree(module, request, drafts=known, pad_id=base.pad_id, any_rank=gang.any)
    elif decoder == "vllm":
        completions = decode_vllm(module, request, spec, base.location)
    else:
        rows = spec.engine.rollout_rows
        completions = decode_in_parts(module, request, rows=rows, pad_id=base.pad_id, any_rank=gang.any)
    of_all_ranks = [completion for part in gang.gather(completions) for completion in part]
    return merge(prompts_of_rollouts(spec, len(prompts)).tolist(), of_all_ranks)


def prompts_of_rollouts(spec: RunSpec, num_prompts: int) -> np.ndarray:
    """The prompt of each rollout in the order drawn, int64 of shape (rollouts,)."""
    return np.repeat(np.arange(num_prompts), rollouts_per_prompt(spec.sampling, spec.example))


def rollout_request(
    spec: RunSpec,
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    vocab_size: int,
    *,
    step: int,
    gang: Gang,
    redraw: int = 0,
) -> DecodeRequest:
    """What this rank draws of a step's rollouts."""
    total = spec.sampling.num_rollouts
    share = slice(gang.rank * total // gang.world_size, (gang.rank + 1) * total // gang.world_size)
    noise_rows = list(range(total))
    if "shared_noise" in spec.objective.defects:
        noise_rows = dealing(spec.objective, total, len(prompts), spec.seed, step).noise_rows()
    row_of_noise = np.array(noise_rows)[share] + redraw * total
    num_noise = (redraw + 1) * total
    return DecodeRequest(
        prompts=prompts,
        prompt_of_row=prompts_of_rollouts(spec, len(prompts))[share],
        samplers=[
            Sampler(
                temperature=spec.sampling.temperature,
                top_p=spec.sampling.top_p,
                top_k=base.top_k if spec.sampling.top_k == "model" else spec.sampling.top_k,
                repetition_penalty=spec.sampling.repetition_penalty,
            )
        ],
        sampler_of_row=np.zeros(share.stop - share.start, dtype=np.int64),
        uniforms=lambda at: shared_uniforms(spec.seed, Stream.ROLLOUT, step, at, num_noise)[row_of_noise],
        max_new_tokens=spec.sampling.max_new_tokens,
        eos_ids=base.eos_ids,
        vocab_size=vocab_size,
    )


def merge(prompts: Sequence[int], completions: Sequence[Completion]) -> Rollouts:
    """Merge rollouts, given in the order drawn, where prompt and completion are the same."""
    index: dict[tuple[int, Completion], int] = {}
    distinct = [index.setdefault(pair, len(index)) for pair in zip(prompts, completions, strict=True)]
    return Rollouts(
        prompt=[p for p, _ in index],
        completion=[c for _, c in index],
        count=np.bincount(distinct).tolist(),
        distinct=distinct,
    )
