"""Verdicts per item added up with a weight for every run: what differences over items rest on.

Verdicts are streamed in batches; what is held is one row of items per slot, such as a group and a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from analysis.data.columns import RunArrays
from analysis.data.sweep import SweepData
from analysis.tables.item_means import accuracy_kind, setting_of
from analysis.tables.verdicts import EvaluationSetting, evaluations, verdicts
from sweeps.spec.errors import UserError

_WIDE = 20_000_000
"""Sums beyond which they are kept in single precision."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One evaluation of each run, and where it is added."""

    step: np.ndarray
    """Step of the evaluation, shape (R,); −1 for none."""
    slot: np.ndarray
    """Where its verdicts are added, shape (R,); −1 for nowhere."""
    weight: np.ndarray
    """With which weight, shape (R,)."""


def item_scores(
    sweep: SweepData,
    columns: RunArrays,
    metric: str,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    num_slots: int,
) -> np.ndarray:
    """Weighted sums of an accuracy, a gain or a base accuracy item by item, shape (slots, I).

    Args:
        parts: slot (−1 for a run that does not count) and weight of each run, arrays of shape (R,), in turn.

    Raises:
        UserError: when the metric has no verdicts per item.
    """
    setting, kind = setting_of(sweep, metric), accuracy_kind(metric)
    last = evaluations(sweep, columns, setting).last_R
    base = np.where(last >= 0, 0, -1)
    terms = []
    for slot, weight in parts:
        if kind != "base_accuracy":
            terms.append(Term(step=last, slot=slot, weight=weight))
        if kind != "accuracy":
            terms.append(Term(step=base, slot=slot, weight=weight if kind == "base_accuracy" else -weight))
    return weighted_items(sweep, columns, metric, setting, terms, num_slots)


def weighted_items(
    sweep: SweepData,
    columns: RunArrays,
    metric: str,
    setting: EvaluationSetting,
    terms: Sequence[Term],
    num_slots: int,
    worth: np.ndarray | None = None,
) -> np.ndarray:
    """Sum over the terms of weight × share of right samples, per slot and item; zero in a slot without runs.

    Args:
        worth: what 0, 1, …, n right samples of n count for in place of their share, shape (n + 1,);
            evaluations of another number of samples are left out.

    Raises:
        UserError: when there are no such verdicts, or the items differ in number between runs.
    """
    steps = sorted({int(s) for term in terms for s in np.unique(term.step[term.slot >= 0]) if s >= 0})
    if not steps:
        raise UserError(f"metric {metric!r}: the sweep holds no verdicts per item for it")
    sums: np.ndarray | None = None
    for batch in verdicts(sweep, columns, setting, steps, metric):
        if sums is None:
            wide = num_slots * batch.counts.shape[1] > _WIDE
            sums = np.zeros((num_slots, batch.counts.shape[1]), dtype=np.float32 if wide else np.float64)
        run, step = batch.run, batch.step
        known = run >= 0 if worth is None else (run >= 0) & (batch.samples == len(worth) - 1)
        slots, rows, weights = [], [], []
        for term in terms:
            counts = np.flatnonzero(known & (term.slot[run] >= 0) & (step == term.step[run]))
            slots.append(term.slot[run[counts]])
            rows.append(counts)
            weights.append(term.weight[run[counts]] / (batch.samples[counts] if worth is None else 1))
        slot, row = np.concatenate(slots), np.concatenate(rows)
        if not len(slot):
            continue
        touched, target = np.unique(slot, return_inverse=True)
        picked, source = np.unique(row, return_inverse=True)
        matrix = sparse.csr_array(
            (np.concatenate(weights).astype(np.float32), (target, source)), shape=(len(touched), len(picked))
        )
        right = batch.counts[picked]
        scores = right.astype(np.float32) if worth is None else worth.astype(np.float32)[right]
        sums[touched] += matrix @ scores
    if sums is None:
        raise UserError(f"metric {metric!r}: the sweep holds no verdicts per item for it")
    return sums
