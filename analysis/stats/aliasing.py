"""Which axes of a grid can be told apart, which exist under another, and which cannot be separated.

Three things keep an axis of an incomplete grid from having an effect of its own:

- it exists for some runs only (``when:``): it is *nested* in the axes whose values decide that, and its
  effect is what it explains among the runs that have it;
- it moves in step with others (zipped, or laid end to end): the columns of the two span a common space, and
  nothing in the data tells one from the other. They are *pooled* into one factor;
- all of it is spanned by several others together: all axes that lose a degree of freedom are pooled.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

ABSENT = -1
"""Level of an axis that does not exist for a cell."""

MAX_PARENTS = 3
"""Axes that may decide together whether another exists."""

RANK_TOLERANCE = 1e-9
"""Eigenvalues of a Gram matrix below this share of its largest are zero."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One axis, or several that cannot be told apart."""

    axes: tuple[int, ...]
    """Positions of the axes."""
    level_C: np.ndarray
    """Level of each cell, from 0; with parents it counts from 1, and 0 is where the factor does not exist."""
    parents: tuple[int, ...] = ()
    """Positions of the factors whose values decide whether this one exists."""

    @property
    def size(self) -> int:
        return int(self.level_C.max(initial=0)) + 1


def factors_of(levels_CA: np.ndarray) -> tuple[Factor, ...]:
    """Sort the axes of a grid into factors that can be told apart.

    Args:
        levels_CA: shape (cells, axes), the level of each axis as an integer from 0; :data:`ABSENT` where it
            does not exist.
    """
    pools: list[tuple[int, ...]] = [(axis,) for axis in range(levels_CA.shape[1])]
    while True:
        factors = _factors(levels_CA, pools)
        merged = _inseparable(factors)
        if merged is None:
            return factors
        together = tuple(sorted(axis for number in merged for axis in factors[number].axes))
        pools = [factor.axes for number, factor in enumerate(factors) if number not in merged]
        pools = sorted([*pools, together])


def grid_factors(levels_CA: np.ndarray) -> tuple[Factor, ...]:
    """As :func:`factors_of`, at once where all combinations are there: nothing is to be told apart then."""
    sizes = [len(np.unique(column)) for column in levels_CA.T]
    if (levels_CA == ABSENT).any() or len(levels_CA) < np.prod(sizes):
        return factors_of(levels_CA)
    codes = [np.unique(column, return_inverse=True)[1].ravel() for column in levels_CA.T]
    return tuple(Factor(axes=(axis,), level_C=code) for axis, code in enumerate(codes))


def ancestors(factors: Sequence[Factor], number: int) -> frozenset[int]:
    """The factors that a factor is nested in, to any depth."""
    found: set[int] = set()
    waiting = list(factors[number].parents)
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting += factors[parent].parents
    return frozenset(found - {number})


def _factors(levels_CA: np.ndarray, pools: Sequence[tuple[int, ...]]) -> tuple[Factor, ...]:
    codes, there = [], []
    for pool in pools:
        _, code = np.unique(levels_CA[:, list(pool)], axis=0, return_inverse=True)
        codes.append(code.ravel())
        there.append((levels_CA[:, list(pool)] != ABSENT).any(axis=1))
    factors = []
    for number, pool in enumerate(pools):
        parents = _parents(number, codes, there)
        level_C = codes[number]
        if parents:
            _, level_C = np.unique(np.where(there[number], level_C, -1), return_inverse=True)
        factors.append(Factor(axes=pool, level_C=level_C, parents=parents))
    return tuple(factors)


def _parents(number: int, codes: Sequence[np.ndarray], there: Sequence[np.ndarray]) -> tuple[int, ...]:
    """The fewest factors that decide whether this one exists; none where it always does, or nothing decides.

    Of several that do, the coarsest. A factor that exists under a condition itself must exist more often.
    """
    present = there[number]
    if present.all():
        return ()
    able = [
        other
        for other in range(len(codes))
        if other != number
        and len(np.unique(codes[other])) > 1
        and (there[other].all() or (there[other].sum() > present.sum() and there[other][present].all()))
    ]
    able.sort(key=lambda other: len(np.unique(codes[other])))
    for count in range(1, MAX_PARENTS + 1):
        for chosen in itertools.combinations(able, count):
            _, joint = np.unique(np.stack([codes[c] for c in chosen]), axis=1, return_inverse=True)
            joint = joint.ravel()
            share = np.bincount(joint, weights=present) / np.bincount(joint)
            if np.isin(share, (0.0, 1.0)).all():
                return chosen
    return ()


def _inseparable(factors: Sequence[Factor]) -> tuple[int, ...] | None:
    """Factors that must be pooled next: two that share columns, else all that lose any; ``None`` for none."""
    design = _Design(factors)
    numbers = range(len(factors))
    above = [ancestors(factors, number) for number in numbers]
    freedom = [design.rank({n} | above[n]) - design.rank(above[n]) for n in numbers]
    for a, b in itertools.combinations(numbers, 2):
        if a in above[b] or b in above[a]:
            continue
        shared = above[a] | above[b]
        if design.rank({a, b} | shared) - design.rank(shared) < freedom[a] + freedom[b]:
            return (a, b)
    lost = []
    for n in numbers:
        others = {m for m in numbers if m != n and n not in above[m]}
        if design.rank(others | {n}) - design.rank(others) < freedom[n]:
            lost.append(n)
    lowest = [n for n in lost if not any(n in above[m] for m in lost)]
    return tuple(lowest) if len(lowest) > 1 else None


class _Design:
    """An intercept and the dummies of every factor, as the Gram matrix over cells."""

    def __init__(self, factors: Sequence[Factor]) -> None:
        columns = [np.ones((len(factors[0].level_C), 1))]
        columns += [(f.level_C[:, None] == np.arange(1, f.size)).astype(float) for f in factors]
        ends = np.cumsum([part.shape[1] for part in columns])
        self._spans = [np.arange(end - part.shape[1], end) for part, end in zip(columns, ends, strict=True)]
        design = np.hstack(columns)
        self._gram = design.T @ design

    def rank(self, chosen: Collection[int]) -> int:
        """Rank of an intercept and some factors."""
        pick = np.concatenate([self._spans[0], *(self._spans[1 + number] for number in sorted(chosen))])
        values = np.linalg.eigvalsh(self._gram[np.ix_(pick, pick)])
        return int((values > RANK_TOLERANCE * max(float(values[-1]), 1.0)).sum())
