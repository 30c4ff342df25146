"""Whose turn it is in a mix of training sets, and which rows a step so takes: pure functions of weights and
position.

Turns are given by Tijdeman's rule for the chairman assignment problem (Discrete Mathematics 32, 1980,
323-330): of the sets that another prompt would not put ahead of their share by one, the one whose next prompt
is due first. After any number of turns each set has had its share to less than one prompt; after as many as
the weights add up to it has had it exactly, and the turns begin again. Every set is walked over in the order
that it has by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sweeps.sharing.row_schedule import RowSchedule
from sweeps.spec import DataSpec
from sweeps.spec.mix import parts_of

CHUNK = 4096
"""Turns that are worked out together; what is kept of earlier ones is their number per set."""


class Turns:
    """Which set has each turn.

    Args:
        weights: turns of each set in a cycle, whole numbers above 0 without a common factor.
    """

    def __init__(self, weights: tuple[int, ...]) -> None:
        self._weights, self._cycle = weights, sum(weights)
        self._begun = [(0,) * len(weights)]
        self._chunk = lru_cache(maxsize=4)(self._turns_of)

    def between(self, start: int, num: int) -> tuple[list[int], list[int]]:
        """The sets of the turns from ``start``, and how many turns each set has had before it."""
        cycles, place = divmod(start, self._cycle)
        number, within = divmod(place, CHUNK)
        chunk = self._chunk(number)
        had = np.bincount(chunk[:within], minlength=len(self._weights))
        before = [
            cycles * weight + begun + int(more)
            for weight, begun, more in zip(self._weights, self._begun[number], had, strict=True)
        ]
        turns: list[int] = chunk[within : within + num].tolist()
        while len(turns) < num:
            number, _ = divmod((start + len(turns)) % self._cycle, CHUNK)
            turns += self._chunk(number)[: num - len(turns)].tolist()
        return turns, before

    def _turns_of(self, number: int) -> np.ndarray:
        """The turns of chunk ``number`` of a cycle, int64; those before it are worked out on the way."""
        for earlier in range(len(self._begun) - 1, number):
            self._walk(earlier)
        return self._walk(number)

    def _walk(self, number: int) -> np.ndarray:
        weights, cycle = self._weights, self._cycle
        had = list(self._begun[number])
        begin = number * CHUNK
        turns = np.zeros(min(CHUNK, cycle - begin), dtype=np.int64)
        dues = [-(-(count + 1) * cycle // weight) for count, weight in zip(had, weights, strict=True)]
        for place in range(len(turns)):
            turn = begin + place + 1
            _, chosen = min(
                (dues[one], one) for one, weight in enumerate(weights) if had[one] * cycle < turn * weight
            )
            turns[place] = chosen
            had[chosen] += 1
            dues[chosen] = -(-(had[chosen] + 1) * cycle // weights[chosen])
        if number + 1 == len(self._begun) and begin + len(turns) < cycle:
            self._begun.append(tuple(had))
        return turns


turns_of = lru_cache(maxsize=16)(Turns)


class MixSchedule:
    """The rows of one run's steps over a mix; the arguments are those of :class:`RowSchedule`."""

    def __init__(self, data: DataSpec, seed: int, difficulty: np.ndarray | None = None) -> None:
        self._num, self._parts = data.prompts_per_step, parts_of(data)
        self._turns = turns_of(tuple(part.weight for part in self._parts))
        self._rows = [
            RowSchedule(part.data, seed, _of_part(difficulty, part.first_row, part.data))
            for part in self._parts
        ]

    def batch(self, number: int) -> list[int]:
        """Rows of the batch ``number``, from 0, in the order in which their prompts stand in it."""
        turns, before = self._turns.between(number * self._num, self._num)
        drawn = [
            iter([part.first_row + row for row in schedule.rows(begin, turns.count(which))])
            for which, (part, schedule, begin) in enumerate(zip(self._parts, self._rows, before, strict=True))
        ]
        return [next(drawn[which]) for which in turns]

    def prompts_of_sets(self, rows: Sequence[int]) -> dict[str, int]:
        """How many of a batch's rows are of each set."""
        counts = np.bincount(
            np.searchsorted([part.first_row for part in self._parts], rows, side="right") - 1,
            minlength=len(self._parts),
        )
        return {part.name: int(count) for part, count in zip(self._parts, counts, strict=True)}


def _of_part(difficulty: np.ndarray | None, first: int, data: DataSpec) -> np.ndarray | None:
    """How hard a set's rows are, where its order depends on it."""
    if difficulty is None or not data.reads_difficulty:
        return None
    return difficulty[first : first + data.num_rows]
