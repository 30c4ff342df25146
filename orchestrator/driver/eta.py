"""How fast a sweep goes and how long it will take. Pure."""

from __future__ import annotations

import math
from collections import deque

WINDOW_S = 30.0
"""The rate is that of the last half minute: long enough to be steady, short enough to follow a change."""

WINDOW_RUNS = 5
"""The window grows until this many runs ended in it, so that slow sweeps have a rate too."""

Z95 = 1.96
"""Normal quantile of a two-sided 95 % interval."""


class Rate:
    """Results per second over a sliding window."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._now_s = 0.0

    def update(self, now_s: float, num_over: int) -> None:
        """Take note that ``num_over`` runs are over by ``now_s``."""
        self._now_s = now_s
        if not self._samples or num_over != self._samples[-1][1]:
            self._samples.append((now_s, num_over))
        while len(self._samples) > 2:
            next_s, next_over = self._samples[1]
            if now_s - next_s < WINDOW_S or num_over - next_over < WINDOW_RUNS:
                break
            self._samples.popleft()

    @property
    def runs_per_s(self) -> float:
        """Results per second; 0 before the first."""
        if len(self._samples) < 2:
            return 0.0
        (first_s, first), (_, last) = self._samples[0], self._samples[-1]
        return (last - first) / max(self._now_s - first_s, 1e-9)

    def eta_s(self, num_left: int) -> tuple[float, float, float] | None:
        """Seconds until ``num_left`` more runs are over: the estimate, and an interval around it.

        The interval takes completions for a Poisson process: it covers 95 % while the rate stays what it is.
        ``None`` before the first result.
        """
        rate = self.runs_per_s
        if rate <= 0:
            return None
        seen = self._samples[-1][1] - self._samples[0][1]
        spread = Z95 * math.sqrt(1 / seen + 1 / max(1, num_left))
        middle = num_left / rate
        return middle, middle / (1 + spread), middle * (1 + spread)
