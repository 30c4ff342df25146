"""Pairs of runs that agree on some axes, and the tested difference of each group of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.axes import SEED
from analysis.data.columns import RunArrays
from analysis.stats.seed_means import means, seed_means
from analysis.stats.testing import Difference, paired_difference, unpaired_difference
from sweeps.spec.errors import UserError
from sweeps.spec.text import counted


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Differences of B minus A over matched runs."""

    groups: pd.DataFrame
    tests: list[Difference]
    by_seed: pd.DataFrame
    """What paired tests rest on: the axes ``by``, ``seed``, ``difference``; empty where unpaired."""
    candidates: tuple[int, int]
    """Runs of A and of B that have a value."""
    alone: int
    """Those of them that have no partner."""


def lacking(columns: RunArrays, a: np.ndarray, b: np.ndarray, keys: Sequence[str]) -> list[str]:
    """The axes among ``keys`` that no run of one side has, while runs of the other do.

    Nothing can be matched on such an axis: a schedule without a decay has no decay fraction to agree on.
    """
    found = []
    for key in keys:
        there = ~columns.has_level(key, None)
        sides = [bool(there[side].any()) for side in (a, b)]
        if sides[0] != sides[1]:
            found.append(key)
    return found


def require_apart(a: np.ndarray, b: np.ndarray, named: tuple[str, str]) -> None:
    """Refuse sides that share runs: a run cannot differ from itself.

    Raises:
        UserError: with the number of runs that both filters mean.
    """
    both = int((a & b).sum())
    if both:
        raise UserError(
            f"{counted(both, 'run')} match both {named[0]!r} and {named[1]!r}: a run cannot be compared with "
            "itself; add a term to either side that tells them apart"
        )


def match(
    columns: RunArrays, metric: str, a: np.ndarray, b: np.ndarray, keys: Sequence[str], by: Sequence[str]
) -> Matched:
    """Match runs and test their differences.

    Runs of one side that agree on every key and the seed are averaged and count as one.

    Args:
        a: which runs are of side A, shape (R,).
        b: which are of side B, shape (R,).
        keys: axes on which partners agree. Without the seed among them cells are partners, and their seeds
            are tested unpaired.
        by: those of ``keys`` that split into groups, each a difference of its own.
    """
    value_R = columns.metric(metric)
    rows = [np.flatnonzero(side & ~np.isnan(value_R)) for side in (a, b)]
    run_N = np.concatenate(rows)
    places = columns.group(list(dict.fromkeys([*keys, SEED])), run_N)
    sides = np.split(places.number, [len(rows[0])])
    values_2P = np.stack([means(value_R[r], p, places.size) for r, p in zip(rows, sides, strict=True)])
    run_P = run_N[places.members()]
    has_2P = ~np.isnan(values_2P)
    if SEED in keys:
        matched_P = has_2P.all(axis=0)
    else:
        cells = columns.group(keys, run_P)
        matched_P = np.logical_and(*(cells.count(has) > 0 for has in has_2P))[cells.number]
    values_2P, run_P = values_2P[:, matched_P], run_P[matched_P]

    groups = columns.group(by, run_P)
    cells = columns.group(list(dict.fromkeys([*(k for k in keys if k != SEED), *by])), run_P)
    seeds, seed_R = columns.levels(SEED)
    frame = columns.frame(groups)

    def per_seed(value_P: np.ndarray) -> np.ndarray:
        group_of_cell = groups.number[cells.members()]
        return seed_means(value_P, seed_R[run_P], cells.number, group_of_cell, (groups.size, len(seeds)))

    if SEED in keys:
        difference_GS = per_seed(values_2P[1] - values_2P[0])
        tests = [paired_difference(row) for row in difference_GS]
    else:
        difference_GS = np.full((groups.size, len(seeds)), np.nan)
        tests = [unpaired_difference(*pair) for pair in zip(*map(per_seed, values_2P), strict=True)]
    group, seed = np.nonzero(~np.isnan(difference_GS))
    by_seed = frame.iloc[group].reset_index(drop=True)
    return Matched(
        groups=frame,
        tests=tests,
        by_seed=by_seed.assign(**{SEED: seeds[seed], "difference": difference_GS[group, seed]}),
        candidates=(int(has_2P[0].sum()), int(has_2P[1].sum())),
        alone=int(has_2P[:, ~matched_P].sum()),
    )
