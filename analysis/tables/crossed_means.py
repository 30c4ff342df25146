"""Mean and gain of groups of cells with standard errors over items, or over seeds and items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.data.sweep import SweepData
from analysis.stats.crossed import Estimate, crossed_estimate
from analysis.stats.intervals import CHANGE, SHARE
from analysis.tables.item_means import ItemMeans, accuracy_kind, item_means, seed_values
from analysis.tables.item_scores import item_scores
from analysis.tables.seed_values import SeedGroups, SeedValues


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
    values_GSI = np.asarray(sums, dtype=float).reshape(len(rows), num_seeds, -1)
    values_GSI += (arranged.values(value_R)[rows] - values_GSI.mean(axis=2))[:, :, None]
    fewest_G = np.where(count > 0, count, np.inf).reshape(len(rows), num_seeds).min(axis=1)
    return crossed_estimate(
        values_GSI, over, bounds=gathered.bounds, verdicts=np.where(np.isfinite(fewest_G), fewest_G, 1.0)
    )
