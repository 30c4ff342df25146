"""A KV cache with room to grow: a token is appended in place.

The library's own cache is copied once per token. Over a thousand tokens these copies take two fifths of the
decoding time, and their slowly growing sizes leave holes in the heap: 2.8 GB resident after three decodings
of 20 rows by 1,200 tokens, against 0.5 GB.

All that emsweep uses of the inside of transformers' caches is here: a test holds it against
:data:`CHECKED_VERSION`.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

CHECKED_VERSION = "5.23.0"
"""The version of transformers whose caches were read."""

ROOM = 256
"""Most tokens by which a full cache grows."""


def growing_cache(module: nn.Module, max_tokens: int) -> DynamicCache:
    """Return an empty cache for a model of transformers; layers that attend to a window of tokens keep the
    library's form.

    Args:
        max_tokens: tokens expected at most. A cache for 20 tokens with room for 256 would touch new memory
            at each selection of rows, which took a quarter of the time of short completions.
    """
    room = _room_of(max_tokens)
    cache = DynamicCache(config=cast(Any, module).config)
    cache.layers = [_GrowingLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def layer_windows(config: Any) -> list[int | None]:
    """Tokens that each layer of a model attends to; ``None`` for all of them."""
    return [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=config).layers]


def tokens_held(prompt_tokens: int, new_tokens: int, window: int | None) -> int:
    """Tokens for which a layer of :func:`growing_cache` has memory at most; the last one drawn is not fed."""
    room = _room_of(prompt_tokens + new_tokens)
    fed = prompt_tokens + new_tokens - 1
    grown = -(-fed // room) * room
    # A layer with a window keeps what it shows of the prompt as a view of the whole until the next token.
    return grown if window is None else min(fed, max(prompt_tokens, window))


def _room_of(max_tokens: int) -> int:
    return min(ROOM, max_tokens)


class _GrowingLayer(DynamicLayer):
    """Keys and values as views of larger tensors."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._grows_by = room
        self._rooms: dict[str, Tensor] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append tokens; return all keys and values so far, shape (rows, heads, tokens, width)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._appended("keys", self.keys, key_states)
        self.values = self._appended("values", self.values, value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows ``indices``, some of them repeatedly, and their room with them."""
        if self.keys is not None and self.values is not None and self.get_seq_length() > 0:
            self.keys = self._selected("keys", self.keys, indices)
            self.values = self._selected("values", self.values, indices)

    def _selected(self, name: str, held: Tensor, indices: Tensor) -> Tensor:
        room = self._room(name, held)
        self._rooms[name] = room = (held if room is None else room)[indices]
        return room[..., : held.shape[-2], :]

    def _appended(self, name: str, held: Tensor | None, new: Tensor) -> Tensor:
        length = held.shape[-2] if held is not None and held.numel() else 0
        total = length + new.shape[-2]
        room = self._room(name, held)
        if room is None or total > room.shape[-2]:
            rows, heads, _, width = new.shape
            room = new.new_empty(rows, heads, -(-total // self._grows_by) * self._grows_by, width)
            if held is not None and length:
                room[..., :length, :] = held
            self._rooms[name] = room
        room[..., length:total, :] = new
        return room[..., :total, :]

    def _room(self, name: str, held: Tensor | None) -> Tensor | None:
        """The larger tensor that ``held`` is a view of, if it is; rows that were repeated are not."""
        room = self._rooms.get(name)
        return room if held is not None and room is not None and room.data_ptr() == held.data_ptr() else None
