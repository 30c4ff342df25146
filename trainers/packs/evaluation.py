"""Completions of a benchmark by one member: a functional forward with a key-value cache.

Rows are distinct prefixes, as in :mod:`trainers.decoding.cached`: those of one prompt start as one row, and a
draw that differs from its row's first gets a row of its own. Rows stay where they are until half of them have
ended, so that the cache is hardly ever copied. How many there are, and how long they are, follows from the
member alone. Members come one after the other: a benchmark's rows fill the machine already, and two
members' caches would not fit its own.

Shapes: R completions, N rows (distinct prefixes) in the cache, S tokens in it, D width of a head, V
vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainers.decoding import Completion, DecodeRequest
from trainers.packs.architecture import Shape
from trainers.packs.forward import Blocks, Rotation, Trace, forward, gated, num_keys, rotated
from trainers.packs.tokens import MemberRows, padded_length, tokens_of


@torch.inference_mode()
def decode_rows(
    weights: Blocks, rotation: Rotation, shape: Shape, request: DecodeRequest, pad_id: int
) -> list[Completion]:
    """Draw one completion per row of the request.

    Args:
        weights: One member's blocks.
    """
    rows = _Rows(weights, rotation, shape, request, pad_id)
    logits_NV = rows.prefill()
    row_R = request.prompt_of_row.copy()
    open_R = np.ones(len(row_R), dtype=bool)
    ends_V = np.isin(np.arange(request.vocab_size), request.eos_ids)
    tokens_SR = np.full((request.max_new_tokens, len(row_R)), -1)
    for position in range(request.max_new_tokens):
        going = np.flatnonzero(open_R)
        token = _drawn(logits_NV, request, row_R, going, position)
        tokens_SR[position, going] = token
        open_R[going] = ~ends_V[token]
        going, token = going[~ends_V[token]], token[~ends_V[token]]
        if not len(going) or position + 1 == request.max_new_tokens:
            break
        row_R[going], token_N = rows.part(row_R[going], token)
        row_R[going], token_N = rows.leave(row_R[going], token_N)
        logits_NV = rows.step(token_N)
    lengths = (tokens_SR >= 0).sum(0).tolist()
    return [tuple(column[:length]) for column, length in zip(tokens_SR.T.tolist(), lengths, strict=True)]


def _drawn(
    logits_NV: Tensor, request: DecodeRequest, row_R: np.ndarray, going: np.ndarray, position: int
) -> np.ndarray:
    """Tokens of the completions that go on."""
    token = np.empty(len(going), dtype=np.int64)
    uniform_R = None
    for k, sampler in enumerate(request.samplers):
        own = np.flatnonzero(request.sampler_of_row[going] == k)
        rows, of_own = np.unique(row_R[going[own]], return_inverse=True)
        if not len(rows):
            continue
        own_NV = logits_NV[torch.from_numpy(rows)]
        if sampler.greedy and sampler.sharpening is None and sampler.repetition_penalty == 1.0:
            token[own] = own_NV.argmax(-1).numpy()[of_own]
            continue
        if uniform_R is None:
            uniform_R = request.uniforms(position)
        cumulative = sampler.cumulative(own_NV, None).numpy()[of_own]
        threshold = uniform_R[going[own]] * cumulative[:, -1]
        token[own] = np.minimum((cumulative <= threshold[:, None]).sum(-1), request.vocab_size - 1)
    return token


class _Rows:
    """Distinct prefixes and their cache."""

    def __init__(
        self, weights: Blocks, rotation: Rotation, shape: Shape, request: DecodeRequest, pad_id: int
    ) -> None:
        self._weights = {name: own[0] for name, own in weights.items()}
        self._stacked, self._rotation, self._shape = weights, rotation, shape
        self._prompts, self._pad_id = request.prompts, pad_id
        longest = max(map(len, request.prompts))
        self._room = num_keys(longest + request.max_new_tokens)
        self._is_even = len({len(p) for p in request.prompts}) == 1
        self._length_N = torch.tensor([len(p) for p in request.prompts])
        self._num = len(request.prompts)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def prefill(self) -> Tensor:
        """Fill the cache with the prompts; logits after each."""
        rows = MemberRows(
            slot=0, rows=self._prompts, wanted=[(k, len(p) - 1) for k, p in enumerate(self._prompts)]
        )
        trace = Trace()
        tokens = tokens_of([rows], self._pad_id)
        logits_NV = forward(self._stacked, tokens, self._rotation, self._shape, trace)
        for layer in trace.layers:
            [part] = layer.attended
            self._keys.append(self._held(part.key_BUD))
            self._values.append(self._held(part.value_BUD))
        return logits_NV

    def _held(self, first: Tensor) -> Tensor:
        """A cache of whole tiles of rows whose first tokens are these."""
        shape = self._shape
        first = first.view(self._num, shape.kv_heads, -1, shape.head_dim)
        held = first.new_zeros(padded_length(self._num), shape.kv_heads, self._room, shape.head_dim)
        held[: self._num, :, : first.shape[2]] = first
        return held

    def part(self, row_R: np.ndarray, token_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give completions that draw another token than the first of their row a row of their own.

        Returns:
            Each one's row, and the token of each row; 0 where no completion goes on.
        """
        token_N = np.zeros(self._num, dtype=np.int64)
        rows, first = np.unique(row_R, return_index=True)
        token_N[rows] = token_R[first]
        apart = np.flatnonzero(token_R != token_N[row_R])
        if not len(apart):
            return row_R, token_N
        pairs, of_pair = np.unique(np.stack([row_R[apart], token_R[apart]]), axis=1, return_inverse=True)
        row_R = row_R.copy()
        row_R[apart] = self._num + of_pair
        self._append(torch.from_numpy(pairs[0]))
        return row_R, np.concatenate([token_N, pairs[1]])

    def leave(self, row_R: np.ndarray, token_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Drop rows that no completion goes on from, once that frees half of the tiles."""
        alive, of_alive = np.unique(row_R, return_inverse=True)
        if 2 * padded_length(len(alive)) > padded_length(self._num):
            return row_R, token_N
        self._num = len(alive)
        index = torch.from_numpy(alive)
        self._length_N = self._length_N[index]
        tiles = torch.zeros(padded_length(self._num), dtype=torch.long)
        tiles[: self._num] = index
        self._keys = [held[tiles] for held in self._keys]
        self._values = [held[tiles] for held in self._values]
        return of_alive, token_N[alive]

    def _append(self, parents: Tensor) -> None:
        total = self._num + len(parents)
        for caches in (self._keys, self._values):
            for k, held in enumerate(caches):
                if total > len(held):
                    more = held.new_zeros(padded_length(total + total // 2), *held.shape[1:])
                    more[: self._num] = held[: self._num]
                    caches[k] = held = more
                held[self._num : total] = held[parents]
        self._length_N = torch.cat([self._length_N, self._length_N[parents]])
        self._num = total

    def step(self, token_N: np.ndarray) -> Tensor:
        """Append a token to every row; logits after it, of whole tiles of rows."""
        shape, weights, num = self._shape, self._weights, padded_length(self._num)
        token = torch.zeros(num, dtype=torch.long)
        token[: self._num] = torch.from_numpy(token_N)
        at_N = torch.full((num,), int(self._length_N.max()))
        at_N[: self._num] = self._length_N
        seen = num_keys(int(at_N.max()) + 1)
        mask = self._mask(at_N, seen)
        cos_N1D, sin_N1D = self._rotation.cos[at_N].unsqueeze(1), self._rotation.sin[at_N].unsqueeze(1)
        x_NH = weights["embed"][token]
        for k in range(shape.layers):
            mixed = torch.mm(
                _norm(x_NH, weights[f"norm_attention_{k}"], shape.eps), weights[f"mixed_{k}"].t()
            )
            if shape.biased:
                mixed += weights[f"bias_{k}"]
            mixed = mixed.view(num, -1, shape.head_dim)
            turned = rotated(mixed[:, : shape.heads + shape.kv_heads], cos_N1D, sin_N1D)
            keys, values = self._keys[k][:num], self._values[k][:num]
            self._write(keys, turned[:, shape.heads :], at_N)
            self._write(values, mixed[:, shape.heads + shape.kv_heads :], at_N)
            query = turned[:, : shape.heads].reshape(num * shape.kv_heads, shape.group, -1)
            key = keys[:, :, :seen].reshape(num * shape.kv_heads, seen, -1)
            value = values[:, :, :seen].reshape(num * shape.kv_heads, seen, -1)
            score = torch.bmm(query, key.transpose(1, 2)).mul_(shape.head_dim**-0.5).add_(mask)
            attended = torch.bmm(torch.softmax(score, -1), value).view(num, -1)
            x_NH = x_NH + torch.mm(attended, weights[f"out_{k}"].t())
            both = torch.mm(_norm(x_NH, weights[f"norm_feed_{k}"], shape.eps), weights[f"gated_{k}"].t())
            x_NH = x_NH + torch.mm(gated(both)[0], weights[f"down_{k}"].t())
        self._length_N = self._length_N + 1
        last = _norm(x_NH, weights["norm_last"], shape.eps)
        return torch.mm(last, weights["embed" if shape.tied else "head"].t())

    def _write(self, held: Tensor, new_NHD: Tensor, at_N: Tensor) -> None:
        if self._is_even:
            held[:, :, int(at_N[0])] = new_NHD
        else:
            held[torch.arange(len(held)), :, at_N] = new_NHD

    def _mask(self, at_N: Tensor, seen: int) -> Tensor:
        """Added to scores: −inf where a row's cache holds nothing of its own; (N · key heads or 1, 1, S)."""
        if self._is_even:
            at_N = at_N[:1]
        mask_NS = torch.zeros(len(at_N), seen).masked_fill_(torch.arange(seen) > at_N[:, None], -torch.inf)
        return (
            mask_NS[:, None] if self._is_even else mask_NS.repeat_interleave(self._shape.kv_heads, 0)[:, None]
        )


def _norm(x_NH: Tensor, weight_H: Tensor, eps: float) -> Tensor:
    scale_N1 = x_NH.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    return x_NH.mul(scale_N1).mul_(weight_H)
