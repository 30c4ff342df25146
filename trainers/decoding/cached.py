"""KV-cached decoding over distinct prefixes: one prefill per prompt, then one forward per token.

Rows that share a prefix share its forward: 64 rollouts of one prompt start as one row and split where their
draws differ. Finished rows leave the batch, and decoding ends with the last of them.

Shapes: R rows, N distinct prefixes of the current length, V vocabulary, S tokens in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from trainers.decoding import Completion, DecodeRequest
from trainers.decoding.kv import growing_cache
from trainers.decoding.sampler import draw, seen_tokens


def decode_cached(
    module: torch.nn.Module,
    request: DecodeRequest,
    *,
    pad_id: int = 0,
    any_rank: Callable[[bool], bool] = bool,
) -> list[Completion]:
    """Draw one completion per row.

    Args:
        pad_id: Filler before shorter prompts; it is masked out and takes no position.
        any_rank: Whether the answer is yes on any rank, so that all ranks make equally many forwards.

    Returns:
        R completions, in row order.
    """
    device = next(module.parameters()).device
    ids_NS, mask_NS = _left_padded(request.prompts, pad_id, device)
    padded = bool((mask_NS == 0).any())
    length_N = mask_NS.sum(-1)
    penalised = any(s.repetition_penalty != 1.0 for s in request.samplers)
    seen_NV = seen_tokens(ids_NS.flip(1), length_N, request.vocab_size) if penalised else None
    positions_NS = (mask_NS.cumsum(-1) - 1).clamp(min=0)
    out = module(
        input_ids=ids_NS,
        past_key_values=growing_cache(module, ids_NS.shape[1] + request.max_new_tokens),
        use_cache=True,
        logits_to_keep=1,
        **({"attention_mask": mask_NS, "position_ids": positions_NS} if padded else {}),
    )
    node_R = torch.from_numpy(request.prompt_of_row).to(device)
    sampler_R = torch.from_numpy(request.sampler_of_row).to(device)
    rows_R = torch.arange(len(node_R), device=device)
    eos = torch.tensor(list(request.eos_ids), device=device)
    drawn: list[tuple[Tensor, Tensor]] = []

    for position in range(request.max_new_tokens):
        logits_NV, cache = out.logits[:, -1], out.past_key_values
        uniform_R = torch.from_numpy(request.uniforms(position)).to(device)
        token_R = torch.zeros_like(rows_R)
        for k, sampler in enumerate(request.samplers):
            mine_R = sampler_R[rows_R] == k
            cumulative_NV = sampler.cumulative(logits_NV, seen_NV)
            token_R[mine_R] = draw(cumulative_NV[node_R[mine_R]], uniform_R[rows_R[mine_R]])
        drawn.append((rows_R, token_R))

        going_R = ~torch.isin(token_R, eos) & (position + 1 < request.max_new_tokens)
        rows_R = rows_R[going_R]
        if not any_rank(len(rows_R) > 0):
            break
        if not len(rows_R):  # this rank is done; it keeps the others company with one row nobody reads
            parent_N = token_N = torch.zeros(1, dtype=torch.long, device=device)
            node_R = node_R[:0]
        else:
            pair_R = node_R[going_R] * request.vocab_size + token_R[going_R]
            pair_N, node_R = torch.unique(pair_R, return_inverse=True)
            parent_N, token_N = pair_N // request.vocab_size, pair_N % request.vocab_size
        if len(parent_N) != len(logits_NV) or bool(
            (parent_N != torch.arange(len(logits_NV), device=device)).any()
        ):
            cache.batch_select_indices(parent_N)
        length_N = length_N[parent_N] + 1
        step = {}
        if padded:
            mask_NS = torch.cat([mask_NS[parent_N], mask_NS.new_ones(len(parent_N), 1)], dim=1)
            step = {"attention_mask": mask_NS, "position_ids": (length_N - 1)[:, None]}
        if seen_NV is not None:
            seen_NV = seen_NV[parent_N].scatter(1, token_N[:, None], True)
        out = module(input_ids=token_N[:, None], past_key_values=cache, use_cache=True, **step)
    return _collect(drawn, len(request.prompt_of_row))


def decode_in_parts(
    module: torch.nn.Module,
    request: DecodeRequest,
    *,
    rows: int,
    pad_id: int = 0,
    any_rank: Callable[[bool], bool] = bool,
) -> list[Completion]:
    """The same, a number of rows at a time.

    Args:
        rows: Most rows at once, the same on every rank; 0 takes all.
    """
    num_rows = len(request.prompt_of_row)
    if not rows:
        return decode_cached(module, request, pad_id=pad_id, any_rank=any_rank)
    completions: list[Completion] = []
    start = 0
    while any_rank(start < num_rows):  # a rank that is done keeps the others company with its first row
        part = slice(start, start + rows) if start < num_rows else slice(0, 1)
        own = part_of(request, part)
        completions += decode_cached(module, own, pad_id=pad_id, any_rank=any_rank)
        start += rows
    return completions[:num_rows]


def part_of(request: DecodeRequest, rows: slice) -> DecodeRequest:
    """Some rows of a request and the prompts that these complete; the request itself if that is all."""
    if rows.start == 0 and rows.stop >= len(request.prompt_of_row):
        return request
    used, prompt_of_row = np.unique(request.prompt_of_row[rows], return_inverse=True)
    return replace(
        request,
        prompts=[request.prompts[p] for p in used],
        prompt_of_row=prompt_of_row,
        sampler_of_row=request.sampler_of_row[rows],
        uniforms=lambda position: request.uniforms(position)[rows],
    )


def _left_padded(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = [[pad_id] * (width - len(p)) + list(p) for p in prompts]
    mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _collect(drawn: Sequence[tuple[Tensor, Tensor]], num_rows: int) -> list[Completion]:
    """Turn (rows, tokens) of each position into one tuple of ids per row."""
    table_DR = np.full((len(drawn), num_rows), -1)
    for position, (rows, tokens) in enumerate(drawn):
        table_DR[position, rows.cpu().numpy()] = tokens.cpu().numpy()
    lengths_R = (table_DR >= 0).sum(0)
    return [tuple(table_DR[:n, r].tolist()) for r, n in enumerate(lengths_R)]
