"""Per-item verdicts as arrays over (group, seed, item): what intervals over items rest on.

Verdicts are stored as one list per (run, evaluation). They are streamed in batches and summed per group and
seed, so a million runs need memory for the groups only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from analysis.axes import SEED
from analysis.gather import SeedValues, positions
from analysis.sweep import Sweep
from analysis.views import literal, quoted
from orchestrator.errors import UserError

BATCH_ROWS = 20_000
"""Evaluations summed at once: 40 MB per column at 500 items."""

_ACCURACY = re.compile(
    r"(?P<kind>accuracy|gain|base_accuracy)_(?P<mode>greedy|sampled)(_t(?P<temperature>[\d.e-]+))?"
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way of decoding, as the items table names it."""

    mode: str
    """``greedy`` or ``sampled``."""
    temperature: float
    """Sampling temperature; 0 for greedy."""

    @property
    def sql(self) -> str:
        """Condition on the columns of ``items``."""
        return f"mode = {literal(self.mode)} AND temperature = {literal(float(self.temperature))}"


def settings(sweep: Sweep) -> list[Setting]:
    """The decoding settings that the sweep's items hold, greedy first, then by temperature."""
    if not sweep.has("items"):
        return []
    rows = sweep.arrow("SELECT DISTINCT mode, temperature FROM items ORDER BY mode, temperature").to_pylist()
    return [Setting(**row) for row in rows]


def setting_of(sweep: Sweep, metric: str) -> Setting:
    """The decoding setting behind an accuracy metric.

    ``accuracy_sampled`` is the temperature that no other column names (``accuracy_sampled_t0.6`` names 0.6).

    Raises:
        UserError: when the metric is no accuracy, or its verdicts were not kept.
    """
    match = _ACCURACY.fullmatch(metric)
    if match is None:
        raise UserError(
            f"metric {metric!r}: has no verdicts per item; use an accuracy, or intervals over seeds"
        )
    found = [s for s in settings(sweep) if s.mode == match["mode"]]
    if match["temperature"]:
        found = [s for s in found if s.temperature == float(match["temperature"])]
    elif match["mode"] == "sampled":
        named = {
            float(m["temperature"])
            for n in sweep.metrics
            if (m := _ACCURACY.fullmatch(n)) and m["temperature"]
        }
        found = [s for s in found if s.temperature not in named] or found
    if not found:
        raise UserError(f"metric {metric!r}: the sweep holds no verdicts per item for it")
    return found[0]


def main_setting(sweep: Sweep) -> Setting | None:
    """The setting of ``accuracy_sampled``, or of ``accuracy_greedy`` where nothing was sampled; ``None``
    without items.
    """
    found = settings(sweep)
    sampled = [s for s in found if s.mode == "sampled"]
    if len(sampled) > 1 and "accuracy_sampled" in sweep.metrics:
        return setting_of(sweep, "accuracy_sampled")
    return next(iter(sampled or found), None)


def item_means(
    sweep: Sweep,
    gathered: SeedValues,
    by: Sequence[str],
    metric: str,
    *,
    column: str = "correct",
    counted_by: str | None = None,
) -> np.ndarray:
    """Mean verdict per group, seed and item, shape (G, S, I); NaN throughout for a seed without runs.

    Args:
        sweep: the sweep.
        gathered: the groups and seeds.
        by: axes that make a group.
        metric: an accuracy (its last evaluation) or a base accuracy (step 0).
        column: verdict to average: ``correct, strict, boxed, truncated`` or ``tokens``.
        counted_by: metric that a run must have to count; by default ``metric`` itself.

    Raises:
        UserError: when there are no such verdicts, or the items differ in number between runs.
    """
    groups, seeds = gathered.groups, gathered.seeds
    runs = np.zeros(len(groups) * len(seeds))
    sums = np.zeros((len(runs), 0), dtype=np.float32)
    for batch in sweep.batches(_query(sweep, by, metric, column, counted_by or metric), BATCH_ROWS):
        verdicts_RI = _matrix(batch["verdicts"], metric)
        place = positions(groups, sweep.frame(batch.select([*by, SEED])), by) * len(seeds)
        place += np.searchsorted(seeds, batch[SEED].to_numpy())
        weight = batch["weight"].to_numpy().astype(np.float32)
        touched, row = np.unique(place, return_inverse=True)
        spread = sparse.csr_array((weight, (row, np.arange(len(row)))), shape=(len(touched), len(row)))
        if not sums.shape[1]:
            sums = np.zeros((len(runs), verdicts_RI.shape[1]), dtype=np.float32)
        if sums.shape[1] != verdicts_RI.shape[1]:
            raise UserError("the runs were judged on different numbers of items: filter or group by eval")
        sums[touched] += spread @ verdicts_RI
        runs += np.bincount(place, minlength=len(runs))
    if not sums.shape[1]:
        raise UserError(f"metric {metric!r}: the sweep holds no verdicts per item for it")
    sums /= np.where(runs > 0, runs, np.nan)[:, None].astype(np.float32)
    return sums.reshape(len(groups), len(seeds), -1)


def _query(sweep: Sweep, by: Sequence[str], metric: str, column: str, counted_by: str) -> str:
    """SQL for the verdicts that a metric rests on, each with its weight per sample."""
    setting = setting_of(sweep, metric)
    step = "0" if metric.startswith("base") else "max(step)"
    wanted = f"SELECT sweep, index, {step} AS step FROM items WHERE {setting.sql} GROUP BY ALL"
    counted = f"SELECT sweep, index FROM runs WHERE isfinite({quoted([counted_by])}::DOUBLE)"
    return (
        f"SELECT {quoted([column])} AS verdicts, 1 / num_samples AS weight, {quoted([*by, SEED])} "
        f"FROM (SELECT * FROM items WHERE {setting.sql}) JOIN ({wanted}) USING (sweep, index, step) "
        f"SEMI JOIN ({counted}) USING (sweep, index)"
    )


def _matrix(column: pa.ChunkedArray, metric: str) -> np.ndarray:
    """Lists of equal length as a float32 matrix."""
    rows = column.combine_chunks()
    flat = rows.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    if len(rows) and len(flat) % len(rows):
        raise UserError(f"metric {metric!r}: runs were judged on different items; filter or group by eval")
    return flat.reshape(len(rows), -1)
