"""Pairs of runs that agree on some axes, and the tested difference of each group of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.axes import SEED
from analysis.data.columns import RunArrays
from analysis.stats.intervals import Bounds
from analysis.stats.seed_means import means, seed_means
from analysis.stats.testing import Difference, unpaired_difference, unpaired_items
from analysis.tables.differences import tested
from sweeps.spec.errors import UserError
from sweeps.spec.text import counted

Scores = Callable[[Sequence[tuple[np.ndarray, np.ndarray]], int], np.ndarray]
"""Adds up verdicts item by item: (slot and weight of each run) in turn, number of slots → (slots, I)."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Matched runs of two sides, arranged by group and seed."""

    groups: pd.DataFrame
    seeds: np.ndarray
    paired: bool
    """Whether partners share their seed."""
    values_2GS: np.ndarray
    """Mean over matched pairs of cells per side, group and seed; where paired their difference is that of the
    pairs.
    """
    difference_GS: np.ndarray
    """B minus A; NaN throughout where unpaired."""
    count_2GS: np.ndarray
    """Matched places behind each value."""
    terms: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Per side, slot (group × seeds + seed, −1 for none) and weight of each run of the snapshot."""
    candidates: tuple[int, int]
    """Runs of A and of B that have a value."""
    alone: int
    """Those of them that have no partner."""


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


def pair(
    columns: RunArrays, metric: str, a: np.ndarray, b: np.ndarray, keys: Sequence[str], by: Sequence[str]
) -> Pairing:
    """Match runs.

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
    shape = (groups.size, len(seeds))
    slot_P = groups.number * shape[1] + seed_R[run_P]

    def per_seed(value_P: np.ndarray) -> np.ndarray:
        return seed_means(value_P, seed_R[run_P], cells.number, groups.number[cells.members()], shape)

    size = shape[0] * shape[1]
    count_2GS = np.stack(
        [np.bincount(slot_P[~np.isnan(v)], minlength=size).reshape(shape) for v in values_2P]
    )
    slot_of_place = np.full(places.size, -1)
    slot_of_place[matched_P] = slot_P
    terms = []
    for r, p, count_GS in zip(rows, sides, count_2GS, strict=True):
        slot_R, weight_R = np.full(len(value_R), -1), np.zeros(len(value_R))
        alike_P = np.bincount(p, minlength=places.size)
        slot_R[r] = slot_of_place[p]
        # A place without a partner has slot −1, which reads the 1 put last.
        weight_R[r] = 1 / alike_P[p] / np.append(np.maximum(1, count_GS), 1)[slot_of_place[p]]
        terms.append((slot_R, weight_R))
    paired = SEED in keys
    return Pairing(
        groups=columns.frame(groups),
        seeds=seeds,
        paired=paired,
        values_2GS=np.stack([per_seed(v) for v in values_2P]),
        difference_GS=per_seed(values_2P[1] - values_2P[0]) if paired else np.full(shape, np.nan),
        count_2GS=count_2GS,
        terms=(terms[0], terms[1]),
        candidates=(int(has_2P[0].sum()), int(has_2P[1].sum())),
        alone=int(has_2P[:, ~matched_P].sum()),
    )


def judge(
    pairings: Sequence[Pairing],
    over: str,
    *,
    bounds: Bounds | None,
    verdicts_per_run: float | None,
    scores: Scores,
) -> list[Matched]:
    """Test the differences of each pairing; verdicts per item are read in one go for all of them.

    Args:
        bounds: range of a difference.
        verdicts_per_run: verdicts that one run's value is of, where it is a share.
    """
    items = [None] * len(pairings) if over == "seeds" else _items(pairings, scores)
    return [
        _judged(one, values, over, bounds, verdicts_per_run)
        for one, values in zip(pairings, items, strict=True)
    ]


def _items(pairings: Sequence[Pairing], scores: Scores) -> list[np.ndarray]:
    """Per pairing the verdicts per side, group, seed and item, shape (2, G, S, I)."""
    terms, start, spans = [], 0, []
    for one in pairings:
        size = one.difference_GS.size
        spans.append((start, one.difference_GS.shape))
        for slot_R, weight_R in one.terms:
            terms.append((np.where(slot_R >= 0, slot_R + start, -1), weight_R))
            start += size
    sums = scores(terms, start)
    items = sums.shape[-1]
    return [sums[at : at + 2 * shape[0] * shape[1]].reshape(2, *shape, items) for at, shape in spans]


def _judged(
    one: Pairing, items_2GSI: np.ndarray | None, over: str, bounds: Bounds | None, each: float | None
) -> Matched:
    count_GS = one.count_2GS.min(axis=0)
    if one.paired:
        tests = tested(
            one.difference_GS,
            count_GS,
            over,
            bounds=bounds,
            verdicts=None if each is None else each * count_GS.sum(axis=1),
            items_GSI=None if items_2GSI is None else items_2GSI[1] - items_2GSI[0],
        )
    elif items_2GSI is None:
        tests = [unpaired_difference(*sides) for sides in one.values_2GS.swapaxes(0, 1)]
    else:
        shift_2GS = one.values_2GS - items_2GSI.mean(axis=3)
        both_G2SI = np.swapaxes(items_2GSI + shift_2GS[:, :, :, None], 0, 1)
        tests = [unpaired_items(sides[0], sides[1], over) for sides in both_G2SI]
    group, seed = np.nonzero(~np.isnan(one.difference_GS))
    by_seed = one.groups.iloc[group].reset_index(drop=True)
    return Matched(
        groups=one.groups,
        tests=tests,
        by_seed=by_seed.assign(**{SEED: one.seeds[seed], "difference": one.difference_GS[group, seed]}),
        candidates=one.candidates,
        alone=one.alone,
    )
