"""Which rows of a training set each optimizer step takes: a pure function of set, order, seed and step.

An epoch is a permutation of the rows, made of the counter-based noise whose key is (seed, ``ROW_STREAM``) and
whose counter holds the epoch and the walk, so that no step needs those before it, and neither world size nor
micro batch nor the place where a run was resumed can change a batch. Epochs follow each other without a gap:
a step may hold rows of two, and each epoch has every row once.

``cyclic`` is the curriculum of arXiv 2202.05531: passes over a quarter, a half, all, a half of the rows, and
again; a pass draws its rows without replacement with probability ∝ 1/difficulty (the paper's difficulty is
the loss of a model trained without a curriculum) and goes through them in a random order.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sweeps.spec import DataSpec

ROW_STREAM = 6
"""Separates these draws from others that share the seed (:class:`trainers.noise.Stream`)."""

CYCLE = (0.25, 0.5, 1.0, 0.5)
"""Shares of the rows in the passes of one cycle: from 0.25, doubled up to all, halved down again."""

_TO_UNIT = 2.0**-53


class RowSchedule:
    """The rows of one run's steps.

    Args:
        data: the training set.
        seed: of the run.
        difficulty: how hard each row is, float64 of shape (rows,), where the order depends on it.
        walk: which walk of the seed's it is; another one goes through the rows in another order.
    """

    def __init__(
        self, data: DataSpec, seed: int, difficulty: np.ndarray | None = None, walk: int = 0
    ) -> None:
        self._data, self._seed, self._difficulty, self._walk = data, seed, difficulty, walk
        shares = CYCLE if data.order == "cyclic" else (1.0,)
        lengths = [max(1, round(share * data.num_rows)) for share in shares]
        self._ends = np.cumsum(lengths)
        self._pass = lru_cache(maxsize=2)(self._rows_of_pass)  # a step holds rows of two at most, mostly

    def batch(self, number: int) -> list[int]:
        """Rows of the batch ``number``, from 0, in the order in which their prompts stand in it."""
        num = self._data.prompts_per_step
        return self.rows(number * num, num)

    def rows(self, start: int, num: int) -> list[int]:
        """So many rows of the whole walk, from position ``start``."""
        rows: list[int] = []
        while len(rows) < num:
            which, place = self._locate(start + len(rows))
            rows += self._pass(which)[place : place + num - len(rows)].tolist()
        return rows

    def _locate(self, position: int) -> tuple[int, int]:
        """The pass in which a position of the whole walk lies, and its place there."""
        cycle, place = divmod(position, int(self._ends[-1]))
        within = int(np.searchsorted(self._ends, place, side="right"))
        begin = int(self._ends[within - 1]) if within else 0
        return cycle * len(self._ends) + within, place - begin

    def _rows_of_pass(self, which: int) -> np.ndarray:
        """The rows of a pass in their order, int64."""
        num, order = self._data.num_rows, self._data.order
        if order == "file":
            return np.arange(num)
        if order == "shuffle":
            return np.argsort(self._words(which, num), kind="stable")
        if order == "cyclic":
            within = which % len(self._ends)
            length = int(self._ends[within] - (self._ends[within - 1] if within else 0))
            drawn, shuffled = self._words(which, 2 * num).reshape(2, num)
            # The smallest of exponential times at rates 1/difficulty are a draw without replacement.
            waits = -np.log1p(-((drawn >> np.uint64(11)) * _TO_UNIT))
            if self._difficulty is not None:
                waits = waits * self._difficulty
            chosen = np.argsort(waits, kind="stable")[:length]
            return chosen[np.argsort(shuffled[chosen], kind="stable")]
        assert self._difficulty is not None
        sign = -1 if order == "hard_to_easy" else 1
        return np.argsort(sign * self._difficulty, kind="stable")

    def _words(self, which: int, num: int) -> np.ndarray:
        """64 random bits for each of ``num`` places, the same wherever they are drawn."""
        bits = np.random.Philox(key=[self._seed, ROW_STREAM], counter=[0, 0, which, self._walk])
        return bits.random_raw(num)
