"""What a design of seeds and items can see, and how many more of which it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.stats.crossed import residual_variance

WANTED_POWER = 0.8
"""Chance of seeing an effect that planning asks for."""

_MOST = 10**7
"""Seeds or items beyond which a number is called infinite."""


def student_power(effect: float, error: float, freedom: float, level: float = 0.05) -> float:
    """Chance that a two-sided t-test sees a true ``effect``, given the standard error of its estimate."""
    if not (np.isfinite(error) and np.isfinite(effect) and freedom > 0):
        return float("nan")
    if error == 0:
        return 1.0 if effect else level
    shift, bar = abs(effect) / error, special.stdtrit(freedom, 1 - level / 2)
    above, below = special.nctdtr(freedom, shift, bar), special.nctdtr(freedom, shift, -bar)
    # scipy's series gives NaN far out: below where nothing is left, above where the normal limit is exact to
    # many digits.
    return float(1 - above + np.nan_to_num(below)) if np.isfinite(above) else float(special.ndtr(shift - bar))


@dataclass(frozen=True, kw_only=True)
class Variances:
    """Variance of a single value (one seed, one item) by where it comes from."""

    seeds: float
    items: float
    """NaN where the items are fixed: a test over seeds."""
    rest: float
    """Of seed and item together; with fixed items 0, and part of ``seeds``."""

    @property
    def over_items(self) -> bool:
        return bool(np.isfinite(self.items))

    def error(self, seeds: float, items: float = 1.0) -> float:
        """Standard error of the mean over this many seeds and items."""
        by_item = self.items / items if self.over_items else 0.0
        return float(np.sqrt(self.seeds / seeds + by_item + self.rest / (seeds * items)))

    def freedom(self, seeds: float, items: float = 1.0) -> float:
        """Satterthwaite's degrees of freedom of :meth:`error`."""
        if not self.over_items:
            return seeds - 1.0
        by_seed = (self.seeds + self.rest / items) / seeds
        by_item = (self.items + self.rest / seeds) / items
        total = self.seeds / seeds + self.items / items + self.rest / (seeds * items)
        parts = by_seed**2 / max(seeds - 1, 1e-9) + by_item**2 / max(items - 1, 1e-9)
        return total**2 / parts if parts > 0 else min(seeds, items) - 1.0

    def power(self, effect: float, seeds: float, items: float = 1.0, level: float = 0.05) -> float:
        """Chance of seeing a true ``effect``; NaN where no variance could be estimated."""
        too_few = (seeds < 2 and self.seeds + self.rest > 0) or (self.over_items and items < 2)
        if too_few or not self.error(seeds, items) > 0:
            return float("nan")
        return student_power(effect, self.error(seeds, items), self.freedom(seeds, items), level)

    def seeds_needed(
        self, effect: float, items: float = 1.0, level: float = 0.05, power: float = WANTED_POWER
    ) -> float:
        """Fewest seeds that see ``effect`` on so many items; infinite where the items alone forbid it."""
        return _fewest(lambda seeds: self.power(effect, seeds, items, level), power)

    def items_needed(
        self, effect: float, seeds: float, level: float = 0.05, power: float = WANTED_POWER
    ) -> float:
        """Fewest items that see ``effect`` with so many seeds; infinite where the seeds alone forbid it."""
        if not self.over_items:
            return float("nan")
        return _fewest(lambda items: self.power(effect, seeds, items, level), power)


def variances_over_seeds(deviation: float) -> Variances:
    """Of a test over seeds whose values have this standard deviation."""
    return Variances(seeds=deviation**2, items=float("nan"), rest=0.0)


def variances_over_both(values_SI: np.ndarray) -> Variances | None:
    """By the method of moments, negative ones set to 0; ``None`` with fewer than two seeds or items.

    Args:
        values_SI: one value per seed and item, without a hole.
    """
    seeds, items = values_SI.shape
    if seeds < 2 or items < 2:
        return None
    mean_S, mean_I = values_SI.mean(axis=1), values_SI.mean(axis=0)
    rest = float(residual_variance(values_SI[None], mean_S[None], mean_I[None])[0])
    return Variances(
        seeds=max(0.0, float(mean_S.var(ddof=1)) - rest / items),
        items=max(0.0, float(mean_I.var(ddof=1)) - rest / seeds),
        rest=rest,
    )


def _fewest(power_of: Callable[[float], float], wanted: float) -> float:
    """Smallest whole number from 2 with the power; NaN if it cannot be told, infinite if none has it."""
    low, high = 1, 2
    while not power_of(high) >= wanted:
        if np.isnan(power_of(high)):
            return float("nan")
        low, high = high, high * 2
        if high > _MOST:
            return float("inf")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= wanted else (middle, high)
    return float(high)
