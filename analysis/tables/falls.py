"""Did a group's curve fall below its own peak? Each claim corrected for the steps it could have been about.

The highest of several noisy points is too high, so that even a plateau seems to fall from its peak. A fall
is therefore claimed only if it would be for any choice of the peak: its p is multiplied by the number of
pairs of steps that it was chosen from (Bonferroni), and the claim holds whichever of them was picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.data.sweep import SweepData
from analysis.stats.testing import Difference
from analysis.tables.bounds import bounds_of, verdicts_per_value
from analysis.tables.differences import tested
from analysis.tables.item_means import setting_of
from analysis.tables.item_scores import Term, weighted_items
from analysis.tables.seed_values import SeedGroups, SharedSteps, shared_steps
from analysis.tables.verdicts import evaluations
from sweeps.spec.metrics import change_of


@dataclass(frozen=True, kw_only=True)
class Fall:
    """A later point of a group's curve minus its peak."""

    test: Difference
    choices: int
    """Number of pairs of steps that this one was chosen from."""

    def is_claimed(self, sign: int, level: float = 0.05) -> bool:
        """Whether the curve is worse than at its peak, whichever steps were looked at."""
        return bool(sign * self.test.mean < 0 and self.test.p * self.choices < level)


def falls(
    sweep: SweepData,
    by: Sequence[str],
    metric: str,
    peak_G: np.ndarray,
    over: str,
    steps: Sequence[int | None] = (None,),
) -> list[list[Fall | None]]:
    """The fall of each group from its peak to each of ``steps``, or (``None``) to each run's own end.

    Args:
        peak_G: step of each group's peak, NaN where it has none.

    Returns:
        Per step and group; ``None`` for a group without a peak, or not recorded at the step.
    """
    arranged = SeedGroups(sweep.columns([metric]), by)
    shared, groups = shared_steps(arranged, metric), arranged.groups
    trained = [number for number in shared.shared_TG if number > 0]
    peak_R = np.nan_to_num(peak_G, nan=-1).astype(int)[groups.number]
    at: dict[int | None, np.ndarray] = {None: arranged.columns.metric(metric)}
    at_peak_R = np.full(len(peak_R), np.nan)
    for number, value_R in arranged.columns.step_values(metric):
        if number in trained:
            at_peak_R = np.where(peak_R == number, value_R, at_peak_R)
            if number in steps:
                at[number] = np.where(shared.shared_TG[number][groups.number], value_R, np.nan)
    nowhere = np.full(len(peak_R), np.nan)
    later = [
        _Later(
            step=step,
            value=np.where(shared.members_R, at.get(step, nowhere) - at_peak_R, np.nan),
            choices=_choices(shared, trained, step),
        )
        for step in steps
    ]
    tests = _tested(sweep, arranged, metric, peak_R, later, over)
    return [
        [
            Fall(test=test, choices=int(choices)) if test.n and peak == peak else None
            for test, choices, peak in zip(row, one.choices, peak_G, strict=True)
        ]
        for row, one in zip(tests, later, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class _Later:
    """A point after the peak."""

    step: int | None
    value: np.ndarray
    """Value there minus that at the peak, of each run, shape (R,)."""
    choices: np.ndarray
    """Pairs of steps that could have been looked at, shape (G,)."""


def _choices(shared: SharedSteps, trained: Sequence[int], step: int | None) -> np.ndarray:
    """Peaks that the end can fall from, or pairs of a peak and any later step."""
    none = np.zeros(len(shared.mixed_G), dtype=int)
    judged_G = sum((shared.shared_TG[number].astype(int) for number in trained), none)
    # Before the end there is one point fewer, unless the end is that of runs of several horizons.
    before_G = judged_G - np.where(shared.mixed_G, 0, 1)
    return np.asarray(np.maximum(1, before_G if step is None else judged_G * (judged_G - 1) // 2))


def _tested(
    sweep: SweepData,
    arranged: SeedGroups,
    metric: str,
    peak_R: np.ndarray,
    later: Sequence[_Later],
    over: str,
) -> list[list[Difference]]:
    info = change_of(sweep.info(metric))
    shape = (arranged.groups.size, len(arranged.seeds))
    size = shape[0] * shape[1]
    slot_R = arranged.groups.number * shape[1] + arranged.seed
    known = [~np.isnan(one.value) for one in later]
    counts = [np.bincount(slot_R[k], minlength=size).reshape(shape) for k in known]
    wanted = {int(step) for k in known for step in np.unique(peak_R[k])}
    wanted |= {one.step for one in later if one.step is not None}
    items: list[np.ndarray | None] = [None] * len(later)
    if over != "seeds" and any(k.any() for k in known) and _has_items_at(sweep, metric, wanted):
        setting = setting_of(sweep, metric)
        last_R = evaluations(sweep, arranged.columns, setting).last_R
        terms = []
        for number, (one, k, count_GS) in enumerate(zip(later, known, counts, strict=True)):
            where_R = np.where(k, slot_R + number * size, -1)
            weight_R = 1 / np.maximum(1, count_GS.ravel())[slot_R]
            end_R = last_R if one.step is None else np.full(len(last_R), one.step)
            terms += [
                Term(step=end_R, slot=where_R, weight=weight_R),
                Term(step=peak_R, slot=where_R, weight=-weight_R),
            ]
        sums = weighted_items(sweep, arranged.columns, metric, setting, terms, size * len(later))
        items = list(np.asarray(sums, dtype=float).reshape(len(later), *shape, -1))
    each = verdicts_per_value(sweep.info(metric), arranged.columns.metric(metric))
    return [
        tested(
            arranged.values(one.value),
            count_GS,
            over,
            bounds=bounds_of(info, one.value) if info.is_share else None,
            verdicts=None if each is None else each * count_GS.sum(axis=1),
            items_GSI=values,
        )
        for one, count_GS, values in zip(later, counts, items, strict=True)
    ]


def _has_items_at(sweep: SweepData, metric: str, wanted: set[int]) -> bool:
    """Whether verdicts per item were kept at all of these steps."""
    setting = setting_of(sweep, metric)
    found = sweep.arrow(f"SELECT DISTINCT step FROM raw_items WHERE {setting.sql}")["step"].to_pylist()
    return bool(wanted) and wanted <= set(found)
