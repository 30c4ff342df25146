"""Runs sorted into groups: what a table has one row for each of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Runs sorted into groups, the groups in the order of the axes' values."""

    number: np.ndarray
    """Group of each run, shape (R,)."""
    levels: dict[str, np.ndarray]
    """Per axis the number of each group's level, shape (G,)."""
    size: int

    def of(self, rows: np.ndarray) -> Groups:
        """The groups of some of the runs, given by their places; groups that have none of them are gone."""
        number = self.number[rows]
        used = np.zeros(self.size, dtype=bool)
        used[number] = True
        if not used.all():
            number = (np.cumsum(used) - 1)[number]
        levels = {key: level[used] for key, level in self.levels.items()}
        return Groups(number=number, levels=levels, size=int(np.count_nonzero(used)))

    def count(self, mask: np.ndarray | None = None) -> np.ndarray:
        """Number of runs per group, of all or of those that ``mask`` picks."""
        return np.bincount(self.number if mask is None else self.number[mask], minlength=self.size)

    def members(self) -> np.ndarray:
        """Place of one run of each group among those that were sorted, shape (G,)."""
        member = np.empty(self.size, dtype=np.int64)
        member[self.number] = np.arange(len(self.number))
        return member
