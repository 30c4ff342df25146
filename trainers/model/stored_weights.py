"""A model's weights where they lie on disk, read again when they are wanted instead of being kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from trainers.model.weight_files import weight_files

KEPT_MIB = 64
"""Models below this size are kept in memory: putting a tiny model back takes less than opening its file. From
the system's cache of files, larger ones come as fast as from a copy.
"""


class StoredWeights:
    """Tensors of a model folder by the model's own names, mapped into memory while they are used."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        """Look up what the folder holds.

        Args:
            prefix: what a wrapper put before every key.
        """
        self._places: dict[str, tuple[Path, str]] = {}
        for file in weight_files(folder):
            with safe_open(file, framework="pt") as opened:
                self._places |= {key.removeprefix(prefix): (file, key) for key in opened.keys()}  # noqa: SIM118

    def are(self, named: Mapping[str, Tensor]) -> bool:
        """Whether these are large enough to be read again, and the folder holds the same, bit for bit."""
        size = sum(tensor.nbytes for tensor in named.values())
        if size < KEPT_MIB * 2**20 or not named.keys() <= self._places.keys():
            return False
        return all(_same(self._read(name), tensor) for name, tensor in named.items())

    def read(self, names: Iterable[str]) -> Iterator[Tensor]:
        """One tensor after the other, each mapped for as long as it is held."""
        return map(self._read, names)

    def _read(self, name: str) -> Tensor:
        file, key = self._places[name]
        with safe_open(file, framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(key)
        return tensor


def _same(stored: Tensor, held: Tensor) -> bool:
    is_alike = stored.dtype == held.dtype and stored.shape == held.shape
    return is_alike and torch.equal(stored, held.detach().cpu())
