"""Completions by one member: a functional forward with a key-value cache, for benchmarks and long rollouts.

Rows are distinct prefixes, as in :mod:`trainers.decoding.cached`: those of one prompt start as one row, and a
draw that differs from its row's first gets a row of its own. Rows stay where they are until half of them have
ended, so that the cache is hardly ever copied. How many there are, and how long they are, follows from the
member alone. Members come one after the other: such rows fill the machine already, and two members' caches
would not fit its own.

Shapes: R completions, N rows (distinct prefixes) in the cache, S tokens in it, H hidden, D width of a head, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from trainers.decoding import Completion, DecodeRequest
from trainers.decoding.cached import part_of
from trainers.packs.architecture import Shape
from trainers.packs.feed import ACTIVATIONS
from trainers.packs.layers import Rotation, masked, num_keys, ordered, rotated
from trainers.packs.matrices import Matrices

PREFILLED_ROWS = 64
"""Prompts of one forward: beyond it what it computes no longer fits a core's cache, and memory is given back
and fetched again at every evaluation (measured at a width of 96: 12 instead of 6 ms for 200 prompts).
"""


@torch.inference_mode()
def decode_rows(
    matrices: Matrices, rotation: Rotation, shape: Shape, request: DecodeRequest, pad_id: int
) -> list[Completion]:
    """Draw one completion per row of the request."""
    rows = _Rows(matrices, rotation, shape, request, pad_id)
    logits_NV = rows.prefill()
    seen = _Seen(request, rows.device) if any(s.repetition_penalty != 1.0 for s in request.samplers) else None
    row_R = request.prompt_of_row.copy()
    open_R = np.ones(len(row_R), dtype=bool)
    ends_V = np.isin(np.arange(request.vocab_size), request.eos_ids)
    tokens_SR = np.full((request.max_new_tokens, len(row_R)), -1)
    for position in range(request.max_new_tokens):
        going = np.flatnonzero(open_R)
        token = _drawn(logits_NV, request, row_R, going, position, seen)
        tokens_SR[position, going] = token
        open_R[going] = ~ends_V[token]
        going, token = going[~ends_V[token]], token[~ends_V[token]]
        if not len(going) or position + 1 == request.max_new_tokens:
            break
        if seen is not None:
            seen.add(going, token)
        row_R[going], token_N = rows.part(row_R[going], token)
        row_R[going], token_N = rows.leave(row_R[going], token_N)
        logits_NV = rows.step(token_N)
    lengths = (tokens_SR >= 0).sum(0).tolist()
    return [tuple(column[:length]) for column, length in zip(tokens_SR.T.tolist(), lengths, strict=True)]


def decode_in_parts(
    decode: Callable[[DecodeRequest], list[Completion]], request: DecodeRequest, rows: int
) -> list[Completion]:
    """Draw a number of completions at a time; 0 takes all."""
    total = len(request.prompt_of_row)
    size = rows or total
    parts = (part_of(request, slice(start, start + size)) for start in range(0, total, size))
    return [completion for part in parts for completion in decode(part)]


class _Seen:
    """The tokens that each completion and its prompt hold, for samplers with a penalty on them."""

    def __init__(self, request: DecodeRequest, device: torch.device) -> None:
        size = len(request.prompt_of_row), request.vocab_size
        self._seen_RV = torch.zeros(size, dtype=torch.bool, device=device)
        for row, prompt in enumerate(request.prompt_of_row.tolist()):
            self._seen_RV[row, request.prompts[prompt]] = True

    def add(self, going: np.ndarray, token: np.ndarray) -> None:
        self._seen_RV[torch.from_numpy(going), torch.from_numpy(token)] = True

    def of_rows(self, row_R: np.ndarray, going: np.ndarray, num: int) -> Tensor:
        """Those of each distinct prefix, shape (num, V)."""
        seen_NV = self._seen_RV.new_zeros(num, self._seen_RV.shape[1])
        seen_NV[torch.from_numpy(row_R[going])] = self._seen_RV[torch.from_numpy(going)]
        return seen_NV


def _drawn(
    logits_NV: Tensor,
    request: DecodeRequest,
    row_R: np.ndarray,
    going: np.ndarray,
    position: int,
    seen: _Seen | None,
) -> np.ndarray:
    """Tokens of the completions that go on."""
    seen_NV = None if seen is None else seen.of_rows(row_R, going, len(logits_NV))
    token = np.empty(len(going), dtype=np.int64)
    uniform_R = None
    for k, sampler in enumerate(request.samplers):
        own = np.flatnonzero(request.sampler_of_row[going] == k)
        rows = row_R[going[own]]
        if not len(rows):
            continue
        if sampler.greedy and sampler.sharpening is None and sampler.repetition_penalty == 1.0:
            token[own] = logits_NV.argmax(-1).cpu().numpy()[rows]
            continue
        if uniform_R is None:
            uniform_R = request.uniforms(position)
        cumulative = sampler.cumulative(logits_NV, seen_NV).cpu().numpy()[rows]
        threshold = uniform_R[going[own]] * cumulative[:, -1]
        token[own] = np.minimum((cumulative <= threshold[:, None]).sum(-1), request.vocab_size - 1)
    return token


class _Rows:
    """Distinct prefixes and their cache."""

    def __init__(
        self, matrices: Matrices, rotation: Rotation, shape: Shape, request: DecodeRequest, pad_id: int
    ) -> None:
        self._matrices, self._rotation, self._shape = matrices, rotation, shape
        self.device = rotation.cos.device
        self._prompts, self._pad_id, self._vocab_size = request.prompts, pad_id, request.vocab_size
        self._is_even = len({len(p) for p in request.prompts}) == 1
        self._length_N = torch.tensor([len(p) for p in request.prompts], device=self.device)
        self._num, self._most = len(request.prompts), len(request.prompt_of_row)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def prefill(self) -> Tensor:
        """Fill the cache with the prompts; logits after each."""
        shape, longest = self._shape, max(map(len, self._prompts))
        room = (self._room(self._num), shape.kv_heads, num_keys(longest), shape.head_dim)
        self._keys, self._values = (
            [torch.empty(room, device=self.device) for _ in range(shape.layers)] for _ in range(2)
        )
        for held in (*self._keys, *self._values):
            held[: self._num, :, longest:] = 0.0  # what is masked must be finite; rows to come are copies
        ids = np.array([[*prompt, *[self._pad_id] * (longest - len(prompt))] for prompt in self._prompts])
        ids_NT, last_N = torch.from_numpy(ids).to(self.device), self._length_N - 1
        mask = torch.full((1, longest, room[2]), -torch.inf, device=self.device).triu_(1)
        rows = [slice(k, k + PREFILLED_ROWS) for k in range(0, self._num, PREFILLED_ROWS)]
        at_T = torch.arange(longest, device=self.device)
        return torch.cat([self._forward(ids_NT[own], own, at_T, mask, last_N[own]) for own in rows])

    def part(self, row_R: np.ndarray, token_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give completions that draw another token than the first of their row a row of their own.

        Returns:
            Each one's row, and the token of each row; 0 where no completion goes on.
        """
        token_N = np.zeros(self._num, dtype=np.int64)
        token_N[row_R[::-1]] = token_R[::-1]  # the first of a row is written last
        apart = np.flatnonzero(token_R != token_N[row_R])
        if not len(apart):
            return row_R, token_N
        pairs, of_pair = np.unique(row_R[apart] * self._vocab_size + token_R[apart], return_inverse=True)
        parents, tokens = np.divmod(pairs, self._vocab_size)
        row_R = row_R.copy()
        row_R[apart] = self._num + of_pair
        self._append(torch.from_numpy(parents).to(self.device))
        return row_R, np.concatenate([token_N, tokens])

    def leave(self, row_R: np.ndarray, token_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Drop rows that no completion goes on from, once they are half of all."""
        is_alive_N = np.zeros(self._num, dtype=bool)
        is_alive_N[row_R] = True
        alive = np.flatnonzero(is_alive_N)
        if 2 * len(alive) > self._num:
            return row_R, token_N
        of_row_N = np.cumsum(is_alive_N) - 1
        self._num = len(alive)
        index = torch.from_numpy(alive).to(self.device)
        self._length_N = self._length_N[index]
        self._keys = [held[index] for held in self._keys]
        self._values = [held[index] for held in self._values]
        return of_row_N[row_R], token_N[alive]

    def _room(self, num: int) -> int:
        """Rows to have room for: half as many again, if there may be more."""
        return max(num, min(num + num // 2, self._most))

    def _append(self, parents: Tensor) -> None:
        """Copies of rows, behind all others; room is left for as many again."""
        total = self._num + len(parents)
        for caches in (self._keys, self._values):
            for k, held in enumerate(caches):
                if total > len(held):
                    caches[k] = more = held.new_empty(self._room(total), *held.shape[1:])
                    more[: self._num] = held[: self._num]
                    held = more
                held[self._num : total] = held[parents]
        self._length_N = torch.cat([self._length_N, self._length_N[parents]])
        self._num = total

    def step(self, token_N: np.ndarray) -> Tensor:
        """Append a token to every row; logits after it."""
        at_N = self._length_N[:1] if self._is_even else self._length_N
        seen = num_keys(int(at_N.max()) + 1)
        later_NS = torch.arange(seen, device=self.device) > at_N[:, None]
        mask_NS = torch.zeros(len(at_N), seen, device=self.device).masked_fill_(later_NS, -torch.inf)
        if not self._is_even:
            mask_NS = mask_NS.repeat_interleave(self._shape.kv_heads, 0)
        ids_N1 = torch.from_numpy(token_N).to(self.device)[:, None]
        self._length_N = self._length_N + 1
        return self._forward(ids_N1, slice(0, self._num), at_N, mask_NS[:, None], None)

    def _forward(
        self, ids_NT: Tensor, rows: slice, at: Tensor, mask: Tensor, last_N: Tensor | None
    ) -> Tensor:
        with self._matrices.walk():
            return self._walked(ids_NT, rows, at, mask, last_N)

    def _walked(self, ids_NT: Tensor, rows: slice, at: Tensor, mask: Tensor, last_N: Tensor | None) -> Tensor:
        """Logits after the last of new tokens, which the cache then holds.

        Args:
            ids_NT: The new tokens of each row.
            rows: The rows.
            at: Position of each token, all rows' alike; or of each row, for one new token.
            mask: Added to scores, shape (rows · key heads or 1, new tokens, S).
            last_N: Which of a row's new tokens is its last; ``None`` for the only one.
        """
        shape, matrices, (num, length) = self._shape, self._matrices, ids_NT.shape
        heads, kv, activation = shape.heads, shape.kv_heads, ACTIVATIONS[shape.activation]
        alike = len(at) == length
        place = slice(int(at[0]), int(at[-1]) + 1) if alike else at
        turn = (1, length, 1, -1) if alike else (num, 1, 1, -1)
        cos, sin = self._rotation.cos[place].view(turn), self._rotation.sin[place].view(turn)
        x_NH = matrices.embed[ids_NT.flatten()]
        if shape.embedding_scale != 1.0:
            x_NH *= shape.embedding_scale
        for k in range(shape.layers):
            mixed = ordered(_beside(matrices.of_normed(x_NH, *shape.mixed_blocks(k))), matrices.order)
            mixed = mixed.view(num, length, -1, shape.head_dim)
            turned = rotated(mixed[:, :, : heads + kv], cos, sin)
            keys = self._written(self._keys, k, turned[:, :, heads:], rows, place, mask.shape[-1])
            values = self._written(self._values, k, mixed[:, :, heads + kv :], rows, place, mask.shape[-1])
            query = turned[:, :, :heads]
            if last_N is not None and k == shape.layers - 1:  # nothing else is asked of the other tokens
                own_N, length = torch.arange(num, device=self.device), 1
                query, mask = query[own_N, last_N, None], mask[0, last_N].repeat_interleave(kv, 0)[:, None]
                x_NH = x_NH.view(num, -1, shape.hidden)[own_N, last_N]
            query = query.reshape(num, length, kv, shape.group, -1).permute(0, 2, 3, 1, 4)
            score = torch.bmm(query.reshape(num * kv, shape.group * length, -1), keys.transpose(1, 2))
            score = masked(score.view(num * kv, shape.group, length, -1), mask[:, None], shape)
            share = torch.softmax(score, -1).view(num * kv, shape.group * length, -1)
            attended = torch.bmm(share, values).view(num, kv, shape.group, length, -1)
            attended = attended.permute(0, 3, 1, 2, 4).reshape(num * length, -1)
            after_NH = matrices.plus(x_NH, attended, f"out_{k}")
            parts = matrices.of_normed(x_NH if shape.parallel else after_NH, *shape.feed_parts(k))
            product = activation.of(parts[0])
            if shape.gated:
                product.mul_(parts[1])
            x_NH = matrices.plus(after_NH, product, f"down_{k}")
        [logits] = matrices.of_normed(x_NH, "head")
        return logits

    def _written(
        self, caches: list[Tensor], layer: int, new: Tensor, rows: slice, place: slice | Tensor, seen: int
    ) -> Tensor:
        """A layer's keys or values of some rows with the new tokens', shape (N · key heads, S, D).

        Args:
            place: Where they go in every row, or the place of each row's one.
        """
        held = caches[layer]
        if seen > held.shape[2]:
            # No further: a cache as long as what is seen is read where it lies, a longer one is copied.
            caches[layer] = held = torch.nn.functional.pad(held, (0, 0, 0, seen - held.shape[2]))
        own = held[rows][: len(new)]
        if isinstance(place, slice):
            own[:, :, place] = new.transpose(1, 2)
        else:
            own[torch.arange(len(own), device=self.device), :, place] = new[:, 0]
        return own[:, :, :seen].reshape(len(own) * self._shape.kv_heads, seen, -1)


def _beside(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
