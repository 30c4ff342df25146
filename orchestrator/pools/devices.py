"""The GPUs of this machine, found without torch, and who uses which."""

from __future__ import annotations

import os
import re
from pathlib import Path

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
"""Names of the GPUs that a process sees, an empty text for none: those that its runs ask for."""

_DEVICE = re.compile(r"nvidia\d+")


def visible_gpus() -> list[str]:
    """Names of the GPUs this process may use: ``CUDA_VISIBLE_DEVICES`` where set, else the driver's device
    files.
    """
    listed = os.environ.get(VISIBLE_GPUS)
    if listed is not None:
        return [name for name in listed.split(",") if name.strip() not in ("", "-1")]
    return [str(n) for n in range(sum(bool(_DEVICE.fullmatch(p.name)) for p in Path("/dev").iterdir()))]


class GpuLedger:
    """Hands out whole GPUs, or fractions that together fill one."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        """What ``CUDA_VISIBLE_DEVICES`` calls each GPU."""
        self._free = [1.0] * len(names)

    @property
    def total(self) -> int:
        return len(self.names)

    def take(self, amount: float) -> list[tuple[int, float]]:
        """Reserve ``amount`` of a GPU (at most 1: the fullest that has room) or a whole number of free ones.

        Returns:
            Pairs of a GPU's position in ``names`` and the share taken.

        Raises:
            ValueError: when that much is not free, or ``amount`` above 1 is not whole.
        """
        if amount <= 1:
            room = [(free, i) for i, free in enumerate(self._free) if free >= amount - 1e-9]
            if not room:
                raise ValueError(f"no GPU has {amount:g} free of {self.total}")
            taken = [(min(room)[1], amount)]
        else:
            idle = [i for i, free in enumerate(self._free) if free > 1 - 1e-9]
            if amount != int(amount) or len(idle) < amount:
                raise ValueError(f"{amount:g} GPUs asked for, {len(idle)} of {self.total} free")
            taken = [(i, 1.0) for i in idle[: int(amount)]]
        for i, share in taken:
            self._free[i] -= share
        return taken

    def give_back(self, taken: list[tuple[int, float]]) -> None:
        for i, share in taken:
            self._free[i] = min(1.0, self._free[i] + share)
