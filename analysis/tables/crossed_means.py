"""Mean and gain of groups of cells with standard errors over items, or over seeds and items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from analysis.data.sweep import SweepData
from analysis.stats.crossed import Estimate, crossed_estimate
from analysis.stats.intervals import CHANGE, SHARE, Bounds
from analysis.tables.item_means import ItemMeans, accuracy_kind, item_means, over_or_default, seed_values
from analysis.tables.item_scores import Term, item_scores, weighted_items
from analysis.tables.seed_values import SeedGroups, SeedValues
from analysis.tables.verdicts import EvaluationSetting, evaluations
from sweeps.spec.errors import UserError


def crossed_means(
    sweep: SweepData, gathered: SeedValues, by: Sequence[str], metric: str, gain: str | None, over: str
) -> dict[str, Estimate]:
    """``mean`` of an accuracy, a gain or a base accuracy, and ``gain`` where one is named, from the verdicts
    per item.

    Raises:
        UserError: when there are no verdicts, or the items differ in number between runs.
    """
    value_R = gathered.columns.metric(metric)
    gain_R = sweep.columns([metric, gain]).metric(gain) if gain else None
    if gain is None or gain_R is None:
        return {"mean": _mean(sweep, gathered, by, metric, over)}
    if (np.isnan(gain_R) & ~np.isnan(value_R)).any():  # the means are of other runs
        means = _mean(sweep, gathered, by, metric, over)
        return {"mean": means, "gain": _mean(sweep, gathered, by, gain, over)}
    final, base = item_means(sweep, gathered, by, metric, counted_by=gain)
    shifted = replace(final, seed_value=seed_values(gathered, by, value_R))
    means = crossed_estimate(shifted, over, bounds=SHARE, verdicts=final.verdicts)
    return {"mean": means, "gain": _change(final, base, seed_values(gathered, by, gain_R), over)}


def _mean(sweep: SweepData, gathered: SeedValues, by: Sequence[str], metric: str, over: str) -> Estimate:
    value_R = sweep.columns([metric]).metric(metric)
    final, base = item_means(sweep, gathered, by, metric)
    target = seed_values(gathered, by, value_R)
    kind = accuracy_kind(metric)
    if kind == "gain":
        return _change(final, base, target, over)
    judged = base if kind == "base_accuracy" else final
    return crossed_estimate(replace(judged, seed_value=target), over, bounds=SHARE, verdicts=judged.verdicts)


def _change(final: ItemMeans, base: ItemMeans, target: np.ndarray, over: str) -> Estimate:
    """Writes over the counts of ``final``."""
    change = replace(final.minus(base), seed_value=target)
    return crossed_estimate(change, over, bounds=CHANGE, verdicts=change.verdicts)


def crossed_rows(
    sweep: SweepData, gathered: SeedValues, by: Sequence[str], metric: str, rows: np.ndarray, over: str
) -> Estimate:
    """Means of a few groups only, the numbers ``rows``, without holding the items of the others."""
    arranged = SeedGroups(gathered.columns, by)
    value_R = arranged.columns.metric(metric)
    place_G = np.full(arranged.groups.size, -1)
    place_G[rows] = np.arange(len(rows))
    place_R, num_seeds = place_G[arranged.groups.number], len(arranged.seeds)
    slot_R = np.where((place_R >= 0) & ~np.isnan(value_R), place_R * num_seeds + arranged.seed, -1)
    count = np.bincount(slot_R[slot_R >= 0], minlength=len(rows) * num_seeds)
    weight_R = 1 / np.append(np.maximum(1, count), 1)[slot_R]
    sums = item_scores(sweep, arranged.columns, metric, [(slot_R, weight_R)], len(count))
    value_GS = arranged.values(value_R)[rows]
    return crossed_sums(sums, value_GS, count.reshape(value_GS.shape), over, gathered.bounds)


def crossed_sums(
    sums: np.ndarray, value_GS: np.ndarray, count_GS: np.ndarray, over: str, bounds: Bounds
) -> Estimate:
    """Means of groups from sums of verdicts item by item, moved to what each group and seed is worth.

    Args:
        sums: weighted sums, shape (G × S, I).
        value_GS: the estimator's values, NaN where a seed has none.
        count_GS: number of runs behind each.
    """
    values_GSI = np.asarray(sums, dtype=float).reshape(*value_GS.shape, -1)
    values_GSI += (value_GS - values_GSI.mean(axis=2))[:, :, None]
    fewest_G = np.where(count_GS > 0, count_GS, np.inf).min(axis=1)
    return crossed_estimate(
        values_GSI, over, bounds=bounds, verdicts=np.where(np.isfinite(fewest_G), fewest_G, 1.0)
    )


def crossed_change(
    sweep: SweepData,
    arranged: SeedGroups,
    setting: EvaluationSetting,
    change_R: np.ndarray,
    worth: np.ndarray | None = None,
) -> Estimate:
    """Mean change from the base model to the last evaluation over seeds and items, of runs that have one.

    Args:
        change_R: of each run, NaN for one that does not count.
        worth: what a number of right samples of an item is worth in place of their share, see
            :func:`analysis.tables.item_scores.weighted_items`.

    Raises:
        UserError: when there are no verdicts, or the items differ in number between runs.
    """
    counts_R, value_GS = ~np.isnan(change_R), arranged.values(change_R)
    slot_R = np.where(counts_R, arranged.groups.number * len(arranged.seeds) + arranged.seed, -1)
    count = np.bincount(slot_R[counts_R], minlength=value_GS.size)
    weight_R = 1 / np.maximum(1, count)[slot_R]
    last_R = evaluations(sweep, arranged.columns, setting).last_R
    terms = [
        Term(step=last_R, slot=slot_R, weight=weight_R),
        Term(step=np.zeros_like(last_R), slot=slot_R, weight=-weight_R),
    ]
    sums = weighted_items(
        sweep, arranged.columns, f"gain_{setting.mode}", setting, terms, value_GS.size, worth
    )
    return crossed_sums(sums, value_GS, count.reshape(value_GS.shape), "both", CHANGE)


def over_items_too(
    sweep: SweepData, metric: str, by: Sequence[str], n_G: np.ndarray, estimating: Callable[[], Estimate]
) -> Estimate | None:
    """An estimate over seeds and items where all groups have items in common; ``None`` where intervals can
    be over seeds only.

    Args:
        metric: the accuracy, or gain, that is estimated.
        by: axes of the groups.
        n_G: number of seeds of each group.
    """
    if over_or_default(sweep, metric, None, by) != "both" or not n_G.any():
        return None
    try:
        estimate = estimating()
    except UserError:  # runs judged on different items
        return None
    lacks_items = (estimate.n < n_G) | ((n_G > 1) & np.isnan(estimate.error))
    return None if lacks_items.any() else estimate
