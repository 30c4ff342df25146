"""How much of a metric's variance each axis, each pair of axes and the seed explain.

On a full factorial the functional ANOVA is exact: the cell means split into orthogonal parts, one for every
set of axes, by averaging over the others. Where cells are missing, type-II sums of squares by least squares:
each effect after all others that do not contain it (Langsrud 2003).

The seed is a crossed block: its own main effect is one line, what is left is noise. Shares are ω² (Hays):
(SS − df·MSE) / (SS_total + MSE), which is unbiased where the plain share SS/SS_total grows with the number of
levels; a small negative ω² is what no effect looks like. On a full factorial the shares sum to one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

MAX_COLUMNS = 800
"""Widest least-squares design; with more columns, interactions are left out."""

MAX_WORK = 2e11
"""Runs × columns² that a least-squares design may cost (about 10 s on one core)."""

_CHUNK_RUNS = 50_000
"""Rows of the design held at once."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One line of the decomposition."""

    axes: tuple[int, ...]
    """Positions of the axes; one for a main effect, several for an interaction."""
    sum_squares: float
    freedom: float
    share: float
    """ω²: share of the variance of runs, corrected for noise."""
    p: float
    """p of the F test against noise; NaN without replication."""


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """Where the variance of runs comes from."""

    effects: tuple[Effect, ...]
    """Main effects first, then interactions, in the order of the axes."""
    seed_share: float
    """ω² of the seed's main effect: what a lucky seed moves in all cells at once."""
    higher_share: float
    """ω² of all interactions of a higher order than listed; 0 where they are part of the noise."""
    noise_share: float
    """What differs between seeds within a cell, beyond the seed's main effect; NaN without replication."""
    num_runs: int
    balanced: bool
    """Whether the exact decomposition was used."""
    max_order: int
    """Largest number of axes in an interaction that was looked at."""


def decompose(values_CS: np.ndarray, levels_CA: np.ndarray, max_order: int = 2) -> Decomposition:
    """Decompose a metric over cells and seeds.

    Args:
        values_CS: shape (cells, seeds); NaN where a run is missing.
        levels_CA: shape (cells, axes), the level of each axis as an integer from 0.
        max_order: largest interaction listed on its own. Higher ones are summed up on a full factorial, and
            are
            part of the noise on an unbalanced grid.
    """
    values_CS = np.asarray(values_CS, dtype=float)
    levels_CA = np.asarray(levels_CA, dtype=int)
    sizes = [int(n) + 1 for n in levels_CA.max(axis=0)] if levels_CA.size else []
    full = len(levels_CA) == np.prod(sizes) and not np.isnan(values_CS).any()
    return (
        _exact(values_CS, levels_CA, sizes, max_order)
        if full
        else _least_squares(values_CS, levels_CA, max_order)
    )


def _exact(
    values_CS: np.ndarray, levels_CA: np.ndarray, sizes: Sequence[int], max_order: int
) -> Decomposition:
    cells, seeds = values_CS.shape
    means = np.empty(sizes)
    means[tuple(levels_CA.T)] = values_CS.mean(axis=1)
    grand = values_CS.mean()
    total = float(((values_CS - grand) ** 2).sum())
    seed_ss = float(cells * ((values_CS.mean(axis=0) - grand) ** 2).sum())
    between = float(seeds * ((means - grand) ** 2).sum())
    error_ss, error_df = total - seed_ss - between, (cells - 1) * (seeds - 1)
    error = max(0.0, error_ss) / error_df if error_df else 0.0
    raw = []
    for order in range(1, min(max_order, len(sizes)) + 1):
        for axes in itertools.combinations(range(len(sizes)), order):
            part = means
            for axis in range(len(sizes)):
                average = part.mean(axis=axis, keepdims=True)
                part = part - average if axis in axes else np.broadcast_to(average, part.shape)
            freedom = float(np.prod([sizes[a] - 1 for a in axes]))
            if freedom:
                raw.append((axes, float(seeds * (part**2).sum()), freedom))
    higher = between - sum(ss for _, ss, _ in raw) - (cells - 1 - sum(df for *_, df in raw)) * error
    return _finish(
        raw,
        total,
        higher,
        error,
        error_df,
        seed_ss,
        seeds - 1,
        values_CS.size,
        balanced=True,
        max_order=max_order,
    )


def _least_squares(values_CS: np.ndarray, levels_CA: np.ndarray, max_order: int) -> Decomposition:
    """Type-II sums of squares from the cross products of a dummy-coded design, one row per run."""
    cell, seed = np.nonzero(~np.isnan(values_CS))
    y = values_CS[cell, seed]
    y = y - y.mean() if len(y) else y
    codes = [np.unique(column, return_inverse=True)[1] for column in (*levels_CA[cell].T, seed)]
    terms, order_used = _terms([int(c.max(initial=0)) + 1 for c in codes], max_order, len(y))
    gram, right, spans = _cross_products(codes, terms, y)
    total = float(y @ y)

    def explained(keys: Sequence[tuple[int, ...]]) -> tuple[float, int]:
        pick = np.concatenate([spans[k] for k in keys])
        inverse = np.linalg.pinv(gram[np.ix_(pick, pick)], rcond=1e-10, hermitian=True)
        rank = float(np.trace(inverse @ gram[np.ix_(pick, pick)]))
        return float(right[pick] @ inverse @ right[pick]), round(rank)

    everything, rank = explained(terms)
    error_df = max(0, len(y) - rank)
    error = max(0.0, total - everything) / error_df if error_df else 0.0
    seed_key = (len(codes) - 1,)
    raw = []
    for key in (k for k in terms if k not in ((), seed_key)):
        others = [k for k in terms if not set(key) <= set(k)]
        without, rank_without = explained(others)
        with_it, rank_with = explained([*others, key])
        if rank_with > rank_without:
            raw.append((key, max(0.0, with_it - without), rank_with - rank_without))
    no_seed, no_seed_rank = explained([k for k in terms if k != seed_key])
    seed_ss, seed_df = max(0.0, everything - no_seed), rank - no_seed_rank
    return _finish(
        raw, total, 0.0, error, error_df, seed_ss, seed_df, len(y), balanced=False, max_order=order_used
    )


def _terms(sizes: Sequence[int], max_order: int, num_runs: int) -> tuple[list[tuple[int, ...]], int]:
    """Terms of the design (the last of ``sizes`` is the seed) and the largest order that is affordable."""
    axes = range(len(sizes) - 1)
    terms: list[tuple[int, ...]] = [(), (len(sizes) - 1,), *((a,) for a in axes)]
    for order in range(2, max_order + 1):
        more = [*terms, *itertools.combinations(axes, order)]
        width = sum(int(np.prod([sizes[a] - 1 for a in term])) for term in more)
        if width > MAX_COLUMNS or width >= num_runs or num_runs * width**2 > MAX_WORK:
            return terms, order - 1
        terms = more
    return terms, max_order


def _cross_products(
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


def _finish(
    raw: Sequence[tuple[tuple[int, ...], float, float]],
    total: float,
    higher: float,
    error: float,
    error_df: float,
    seed_ss: float,
    seed_df: float,
    num_runs: int,
    *,
    balanced: bool,
    max_order: int,
) -> Decomposition:
    scale = total + error
    effects = tuple(
        Effect(
            axes=axes,
            sum_squares=ss,
            freedom=df,
            share=(ss - df * error) / scale if scale > 0 else 0.0,
            p=_f_test(ss / df, error, df, error_df),
        )
        for axes, ss, df in raw
    )
    seed_share = (seed_ss - seed_df * error) / scale if scale > 0 and seed_df else 0.0
    noise = error * num_runs / scale if scale > 0 else 0.0
    return Decomposition(
        effects=effects,
        seed_share=seed_share,
        higher_share=higher / scale if scale > 0 else 0.0,
        noise_share=noise if error_df else float("nan"),
        num_runs=num_runs,
        balanced=balanced,
        max_order=max_order,
    )


def _f_test(mean_square: float, error: float, df: float, error_df: float) -> float:
    if not error_df:
        return float("nan")
    if error <= 0:
        return 0.0 if mean_square > 0 else 1.0
    return float(special.fdtrc(df, error_df, mean_square / error))
