"""The best point of each group's mean curve, and how far its end lies from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.data.sweep import SweepData
from analysis.stats.intervals import mean_of
from analysis.tables.seed_values import SeedGroups, SharedSteps, shared_steps

MEMBERS_CHANGE = (
    "Not every run is recorded at every step, as where some end earlier: curves, peak and fall are of the "
    "same runs throughout, at the steps that all runs of a row share and at each run's own end."
)
"""Note of a table some of whose rows have runs of different horizons."""


def peaks(sweep: SweepData, by: Sequence[str], metric: str) -> tuple[dict[str, np.ndarray], bool]:
    """The best trained point of each group's mean curve and how far its end lies from it; NaN without one.

    Every point is the mean of the same runs, those that have a curve: at the steps that all of them share,
    and at each run's own end. The base model, step 0, is no peak of training.

    Returns:
        Columns of the table, and whether some runs of a group are recorded where others are not.
    """
    sign = sweep.info(metric).sign
    arranged = SeedGroups(sweep.columns([metric]), by)
    shared = shared_steps(arranged, metric)
    final = _mean_of(arranged, shared, arranged.columns.metric(metric))
    points = [
        (step, np.where(shared.shared_TG[step], _mean_of(arranged, shared, value_R), np.nan))
        for step, value_R in arranged.columns.step_values(metric)
        if step > 0 and step in shared.shared_TG
    ]
    num_G = sum((~np.isnan(mean_G) for _, mean_G in points), np.zeros(len(final), dtype=int))
    steps = np.array([*(step for step, _ in points), np.nan])
    mean_GT = np.stack([*(mean_G for _, mean_G in points), final], axis=1)
    height = np.where(np.isnan(mean_GT), -np.inf, sign * mean_GT)
    top, rows = height.argmax(axis=1), np.arange(len(height))
    peak = np.where(num_G > 0, mean_GT[rows, top], np.nan)
    peak_step = np.where(num_G > 0, steps[top], np.nan)
    if not np.isnan(peak_step).any():
        peak_step = peak_step.astype(int)
    columns = {"peak": peak, "peak_step": peak_step, "final": final, "fall": final - peak}
    return columns, bool(shared.mixed_G.any())


def _mean_of(arranged: SeedGroups, shared: SharedSteps, value_R: np.ndarray) -> np.ndarray:
    return mean_of(arranged.values(np.where(shared.members_R, value_R, np.nan)))
