"""The dummy-coded design of an incomplete grid: terms, cross products, and the spread within cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

MAX_COLUMNS = 800
"""Widest least-squares design; with more columns, interactions are left out."""

MAX_WORK = 2e11
"""Runs × columns² that a least-squares design may cost (about 10 s on one core)."""

_CHUNK_RUNS = 50_000
"""Rows of the design held at once."""


def within_cells(cell: np.ndarray, seed: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Sum of squares within cells beyond the seed's main effect, and its degrees of freedom."""
    if not len(y):
        return 0.0, 0.0
    _, cell = np.unique(cell, return_inverse=True)
    _, seed = np.unique(seed, return_inverse=True)
    count = np.bincount(cell)
    centred = y - (np.bincount(cell, weights=y) / count)[cell]
    table = np.zeros((len(count), seed.max() + 1))
    table[cell, seed] = 1
    # Dummies of the seed, centred within cells: their Gram matrix and their products with y.
    gram = np.diag(table.sum(axis=0)) - table.T @ (table / count[:, None])
    right = np.bincount(seed, weights=centred)
    inverse = np.linalg.pinv(gram, rcond=1e-10, hermitian=True)
    freedom = len(y) - len(count) - round(float(np.trace(inverse @ gram)))
    return max(0.0, float(centred @ centred - right @ inverse @ right)), float(max(0, freedom))


def terms_of(
    sizes: Sequence[int], above: Sequence[frozenset[int]], max_order: int, num_runs: int
) -> tuple[list[tuple[int, ...]], int]:
    """Terms of the design (the last of ``sizes`` is the seed) and the largest order that is affordable."""
    axes = range(len(sizes) - 1)
    terms: list[tuple[int, ...]] = [(), (len(sizes) - 1,), *((a,) for a in axes)]
    for order in range(2, max_order + 1):
        # With what it is nested in, a factor has no interaction: it is one.
        apart = (
            t for t in itertools.combinations(axes, order) if not any(a in above[b] for a in t for b in t)
        )
        more = [*terms, *apart]
        width = sum(int(np.prod([sizes[a] - 1 for a in term])) for term in more)
        if width > MAX_COLUMNS or width >= num_runs or num_runs * width**2 > MAX_WORK:
            return terms, order - 1
        terms = more
    return terms, max_order


def cross_products(
    codes: Sequence[np.ndarray], terms: Sequence[tuple[int, ...]], y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, ...], np.ndarray]]:
    """Design'Design and Design'y, summed over chunks of runs, and which columns belong to which term."""
    sizes = [int(c.max(initial=0)) + 1 for c in codes]
    widths = [int(np.prod([sizes[a] - 1 for a in term])) for term in terms]
    ends = np.cumsum(widths)
    spans = {t: np.arange(e - w, e) for t, w, e in zip(terms, widths, ends, strict=True)}
    gram, right = np.zeros((ends[-1], ends[-1])), np.zeros(ends[-1])
    for start in range(0, len(y), _CHUNK_RUNS):
        rows = slice(start, start + _CHUNK_RUNS)
        dummies = [
            (c[rows, None] == np.arange(1, n)).astype(float) for c, n in zip(codes, sizes, strict=True)
        ]
        columns = []
        for term in terms:
            block = np.ones((len(y[rows]), 1))
            for a in term:
                block = (block[:, :, None] * dummies[a][:, None, :]).reshape(len(block), -1)
            columns.append(block)
        design = np.hstack(columns)
        gram += design.T @ design
        right += design.T @ y[rows]
    return gram, right, spans
