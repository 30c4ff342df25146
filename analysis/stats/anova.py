"""How much of a metric's variance each axis, each pair of axes and the seed explain.

On a full factorial the functional ANOVA is exact: the cell means split into orthogonal parts, one for every
set of axes, by averaging over the others. Where cells are missing, type-II sums of squares by least squares:
each effect after all others that do not contain it (Langsrud 2003). An axis that exists under a condition is
contained in the axis that decides it, and axes that cannot be told apart are one
(:mod:`analysis.stats.aliasing`). What the model explains and no single effect can claim has its own line.

The seed is a crossed block: its own main effect is one line, what is left within cells is noise. Shares are
ω² (Hays): (SS − df·MSE) / (SS_total + MSE), MSE from within cells, which is unbiased where the plain share
SS/SS_total grows with the number of levels; a small negative ω² is what no effect looks like. All lines sum
to one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.stats.aliasing import Factor, ancestors, grid_factors
from analysis.stats.design import cross_products, terms_of, within_cells


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One line of the decomposition."""

    axes: tuple[int, ...]
    """Positions of the factors; one for a main effect, several for an interaction."""
    sum_squares: float
    freedom: float
    share: float
    """ω²: share of the variance of runs, corrected for noise."""
    p: float
    """p of the F test against what the model leaves; NaN without replication."""


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """Where the variance of runs comes from."""

    effects: tuple[Effect, ...]
    """Main effects first, then interactions, in the order of the axes."""
    factors: tuple[Factor, ...]
    """The axes, those pooled that cannot be told apart."""
    seed_share: float
    """ω² of the seed's main effect: what a lucky seed moves in all cells at once; NaN with one seed."""
    higher_share: float
    """ω² of all interactions of a higher order than listed; with one seed the noise is in it."""
    unattributed_share: float
    """ω² of what several effects explain together and none can claim; 0 on a full factorial."""
    noise_share: float
    """What differs between seeds within a cell, beyond the seed's main effect; NaN without replication."""
    num_runs: int
    balanced: bool
    """Whether the exact decomposition was used."""
    max_order: int
    """Largest number of axes in an interaction that was looked at."""
    overlapping: bool
    """Whether interactions were left out because on this grid they cannot be told from single axes."""


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """Sums of squares and degrees of freedom, from which shares are made."""

    raw: Sequence[tuple[tuple[int, ...], float, float]]
    total: float
    seed: tuple[float, float]
    within: tuple[float, float]
    """Within cells, beyond the seed."""
    model: tuple[float, float]
    """Everything fitted, the seed included, the mean not."""
    residual: tuple[float, float]
    num_runs: int


def decompose(values_CS: np.ndarray, levels_CA: np.ndarray, max_order: int = 2) -> Decomposition:
    """Decompose a metric over cells and seeds.

    Args:
        values_CS: shape (cells, seeds); NaN where a run is missing.
        levels_CA: shape (cells, axes), the level of each axis as an integer from 0, −1 where it does not
            exist.
        max_order: largest interaction listed on its own; higher ones are summed up.
    """
    values_CS = np.asarray(values_CS, dtype=float)
    levels_CA = np.asarray(levels_CA, dtype=int)
    factors = grid_factors(levels_CA)
    whole = len(levels_CA) == np.prod([f.size for f in factors]) and not any(f.parents for f in factors)
    if whole and not np.isnan(values_CS).any():
        return _exact(values_CS, factors, max_order)
    fitted = _least_squares(values_CS, factors, max_order)
    if max_order > 1 and _lost_to_interactions(fitted, factors):
        return _least_squares(values_CS, factors, 1, overlapping=True)
    return fitted


def _lost_to_interactions(fitted: Decomposition, factors: Sequence[Factor]) -> bool:
    """Whether a single axis lost degrees of freedom to interactions that do not contain it."""
    found = {effect.axes: effect.freedom for effect in fitted.effects}
    alone = [factor.size - 1 - bool(factor.parents) for factor in factors]
    return any(found.get((n,), 0) < freedom for n, freedom in enumerate(alone) if freedom)


def _exact(values_CS: np.ndarray, factors: tuple[Factor, ...], max_order: int) -> Decomposition:
    cells, seeds = values_CS.shape
    sizes = [factor.size for factor in factors]
    means = np.empty(sizes)
    means[tuple(factor.level_C for factor in factors)] = values_CS.mean(axis=1)
    grand = values_CS.mean()
    total = float(((values_CS - grand) ** 2).sum())
    seed_ss = float(cells * ((values_CS.mean(axis=0) - grand) ** 2).sum())
    between = float(seeds * ((means - grand) ** 2).sum())
    within = max(0.0, total - seed_ss - between), float((cells - 1) * (seeds - 1))
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
    listed = sum(ss for _, ss, _ in raw), sum(df for *_, df in raw)
    left = total - seed_ss - listed[0], values_CS.size - 1 - (seeds - 1) - listed[1]
    parts = _Parts(
        raw=raw,
        total=total,
        seed=(seed_ss, seeds - 1),
        within=within,
        model=(seed_ss + listed[0], seeds - 1 + listed[1]),
        residual=left,
        num_runs=values_CS.size,
    )
    return _finish(parts, factors, seeds, balanced=True, max_order=max_order)


def _least_squares(
    values_CS: np.ndarray, factors: tuple[Factor, ...], max_order: int, *, overlapping: bool = False
) -> Decomposition:
    """Type-II sums of squares from the cross products of a dummy-coded design, one row per run."""
    cell, seed = np.nonzero(~np.isnan(values_CS))
    y = values_CS[cell, seed]
    y = y - y.mean() if len(y) else y
    codes = [factor.level_C[cell] for factor in factors] + [np.unique(seed, return_inverse=True)[1].ravel()]
    above = [ancestors(factors, number) for number in range(len(factors))]
    terms, order_used = terms_of([int(c.max(initial=0)) + 1 for c in codes], above, max_order, len(y))
    gram, right, spans = cross_products(codes, terms, y)
    closure = {term: frozenset(term).union(*(above[a] for a in term if a < len(above))) for term in terms}

    def explained(keys: Sequence[tuple[int, ...]]) -> tuple[float, int]:
        pick = np.concatenate([spans[k] for k in keys])
        inverse = np.linalg.pinv(gram[np.ix_(pick, pick)], rcond=1e-10, hermitian=True)
        rank = float(np.trace(inverse @ gram[np.ix_(pick, pick)]))
        return float(right[pick] @ inverse @ right[pick]), round(rank)

    total = float(y @ y)
    everything, rank = explained(terms)
    seed_key = (len(codes) - 1,)
    raw = []
    for key in (k for k in terms if k not in ((), seed_key)):
        others = [k for k in terms if not closure[key] <= closure[k]]
        without, rank_without = explained(others)
        with_it, rank_with = explained([*others, key])
        if rank_with > rank_without:
            raw.append((key, max(0.0, with_it - without), float(rank_with - rank_without)))
    no_seed, no_seed_rank = explained([k for k in terms if k != seed_key])
    parts = _Parts(
        raw=raw,
        total=total,
        seed=(max(0.0, everything - no_seed), rank - no_seed_rank),
        within=within_cells(cell, seed, y),
        model=(everything, rank - 1),
        residual=(max(0.0, total - everything), max(0, len(y) - rank)),
        num_runs=len(y),
    )
    return _finish(
        parts,
        factors,
        len(np.unique(seed)),
        balanced=False,
        max_order=order_used,
        overlapping=overlapping,
    )


def _finish(
    parts: _Parts,
    factors: tuple[Factor, ...],
    seeds: int,
    *,
    balanced: bool,
    max_order: int,
    overlapping: bool = False,
) -> Decomposition:
    residual = parts.residual[0] / parts.residual[1] if parts.residual[1] else 0.0
    within_ss, within_df = parts.within
    replicated = seeds > 1 and within_df > 0
    error = within_ss / within_df if replicated else 0.0 if balanced else residual
    scale = parts.total + error

    def share(ss: float, df: float) -> float:
        return (ss - df * error) / scale if scale > 0 else 0.0

    tested = parts.residual if not balanced else parts.within
    listed = sum(ss for _, ss, _ in parts.raw), sum(df for *_, df in parts.raw)
    higher = parts.residual[0] - within_ss, parts.residual[1] - within_df
    noise = error * parts.num_runs / scale if scale > 0 else 0.0
    return Decomposition(
        effects=tuple(
            Effect(
                axes=axes, sum_squares=ss, freedom=df, share=share(ss, df), p=_f_test(ss, df, tested, seeds)
            )
            for axes, ss, df in parts.raw
        ),
        factors=factors,
        seed_share=share(*parts.seed) if seeds > 1 else float("nan"),
        higher_share=share(*higher) if replicated else share(*parts.residual) + noise,
        unattributed_share=0.0
        if balanced
        else share(parts.model[0] - parts.seed[0] - listed[0], parts.model[1] - parts.seed[1] - listed[1]),
        noise_share=noise if replicated else float("nan"),
        num_runs=parts.num_runs,
        balanced=balanced,
        max_order=max_order,
        overlapping=overlapping,
    )


def _f_test(ss: float, df: float, tested: tuple[float, float], seeds: int) -> float:
    """P of an effect against a residual; NaN without replication."""
    error_ss, error_df = tested
    if not error_df or seeds < 2:
        return float("nan")
    if error_ss <= 0:
        return 0.0 if ss > 0 else 1.0
    return float(special.fdtrc(df, error_df, ss / df / (error_ss / error_df)))
