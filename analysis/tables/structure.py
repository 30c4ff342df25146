"""Which axes of a grid can be told apart, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.data.sweep import SweepData
from analysis.stats.aliasing import Factor, grid_factors
from sweeps.grid.axes import short_names


def grid_structure(sweep: SweepData) -> Structure:
    """Which axes of the grid as it was asked for can be told apart, whatever came of its runs."""
    columns = sweep.columns()
    cells = columns.frame(columns.group(sweep.cell_keys))
    axes = [key for key in sweep.cell_keys if cells[key].nunique(dropna=False) > 1]
    if not axes:
        return Structure(axes=(), factors=())
    levels_CA = np.stack([pd.factorize(cells[key])[0] for key in axes], axis=1)
    return Structure(axes=axes, factors=grid_factors(levels_CA))


class Structure:
    """What tables call the factors of a grid and their interactions, and what is said of them."""

    def __init__(self, *, axes: Sequence[str], factors: Sequence[Factor]) -> None:
        short = short_names(axes)
        self._factors = factors
        self._names = [" | ".join(short[axes[a]] for a in factor.axes) for factor in factors]
        self.pools = [tuple(axes[a] for a in factor.axes) for factor in factors]
        """Axes that cannot be told apart, set by set; most sets have one."""
        self.alone = [axes[factor.axes[0]] for factor in factors if len(factor.axes) == 1]
        """Axes that are confounded with no other."""

    def moves_with(self, by: Sequence[str]) -> list[str]:
        """A sentence for each axis that rows are split by, while another that moves with it is averaged."""
        sentences = []
        for pool in self.pools:
            shown, hidden = [key for key in pool if key in by], [key for key in pool if key not in by]
            if shown and hidden:
                sentences.append(
                    f"{' and '.join(shown)} cannot be told from {' and '.join(hidden)}: on this grid they "
                    "move together, so rows differ in all of them."
                )
        return sentences

    def pool_of(self, key: str) -> list[str]:
        """The axes that cannot be told from this one, itself among them."""
        return next((list(pool) for pool in self.pools if key in pool), [key])

    def effect(self, numbers: Sequence[int]) -> str:
        """``steps | lr``, ``model × (steps | lr)``, ``decay_shape within schedule``."""
        if len(numbers) == 1:
            parents = [self._names[p] for p in self._factors[numbers[0]].parents]
            within = f" within {' and '.join(parents)}" if parents else ""
            return self._names[numbers[0]] + within
        return " × ".join(f"({n})" if "|" in n else n for n in (self._names[number] for number in numbers))

    def confounded(self) -> list[str]:
        """A sentence for each set of axes that cannot be told apart."""
        return [
            f"{name.replace(' | ', ' and ')} cannot be told apart: they move together on this grid, and "
            "their line is what any or all of them explain. A grid that crosses them would tell."
            for name, factor in zip(self._names, self._factors, strict=True)
            if len(factor.axes) > 1
        ]

    def conditional(self) -> list[str]:
        """A sentence for each axis that exists under a condition."""
        return [
            f"{self._names[number]} exists only for some values of "
            f"{' and '.join(self._names[p] for p in factor.parents)}."
            for number, factor in enumerate(self._factors)
            if factor.parents
        ]
