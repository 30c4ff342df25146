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
    moments: Sequence[str] = ("last",),
    counted_by: str | None = None,
) -> list[np.ndarray]:
    """Mean verdict per group, seed and item, one array of shape (G, S, I) per moment; NaN for a seed without
    runs.

    Args:
        sweep: the sweep.
        gathered: the groups and seeds.
        by: axes that make a group.
        metric: an accuracy; its name says the decoding setting.
        moments: ``last`` (the last evaluation) and ``base`` (step 0), read in one pass.
        counted_by: metric that a run must have to count; by default ``metric`` itself.

    Raises:
        UserError: when there are no such verdicts, or the items differ in number between runs.
    """
    setting = setting_of(sweep, metric)
    places = _places(sweep, gathered, by, counted_by or metric)
    lasts = _last_steps(sweep, setting)
    size = len(gathered.groups) * len(gathered.seeds)
    runs = [np.zeros(size) for _ in moments]
    sums: list[np.ndarray] = []
    steps = sorted({int(step) for last in lasts.values() for step in np.unique(last)} | {0})
    sql = (
        "SELECT sweep, index, step, num_samples, correct FROM raw_items "
        f"WHERE {setting.sql} AND step IN ({', '.join(map(str, steps))})"
    )
    for batch in sweep.batches(sql, BATCH_ROWS):
        label, index = batch["sweep"][0].as_py(), batch["index"].to_numpy()
        step, place = batch["step"].to_numpy(), places[label][index]
        weight = (1 / batch["num_samples"].to_numpy()).astype(np.float32)
        verdicts_RI = _matrix(batch["correct"], metric)
        sums = sums or [np.zeros((size, verdicts_RI.shape[1]), dtype=np.float32) for _ in moments]
        if sums[0].shape[1] != verdicts_RI.shape[1]:
            raise UserError("the runs were judged on different numbers of items: filter or group by eval")
        for number, moment in enumerate(moments):
            rows = np.flatnonzero((place >= 0) & (step == (lasts[label][index] if moment == "last" else 0)))
            touched, target = np.unique(place[rows], return_inverse=True)
            spread = sparse.csr_array((weight[rows], (target, rows)), shape=(len(touched), len(place)))
            part = spread @ verdicts_RI
            if runs[number][touched].any():
                sums[number][touched] += part
            else:  # first verdicts of all these places: no need to read what is there
                sums[number][touched] = part
            runs[number][touched] += np.bincount(target, minlength=len(touched))
    if not sums:
        raise UserError(f"metric {metric!r}: the sweep holds no verdicts per item for it")
    for total, count in zip(sums, runs, strict=True):
        total[count == 0] = np.nan
        if count.max(initial=0) > 1:
            total /= np.maximum(count, 1)[:, None].astype(np.float32)
    return [total.reshape(len(gathered.groups), len(gathered.seeds), -1) for total in sums]


def _places(sweep: Sweep, gathered: SeedValues, by: Sequence[str], counted_by: str) -> dict[str, np.ndarray]:
    """Per source, where each run's verdicts belong, as group × seeds + seed by run index; −1 for none.

    Looking runs up in an array keeps the lists of verdicts out of a join, which would hold them all in
    memory.
    """
    runs = sweep.query(
        f"SELECT sweep, index, {quoted([*by, SEED])} FROM runs WHERE isfinite({quoted([counted_by])}::DOUBLE)"
    )
    place = positions(gathered.groups, runs, by) * len(gathered.seeds)
    place += np.searchsorted(gathered.seeds, runs[SEED].to_numpy())
    sizes = sweep.arrow("SELECT sweep, max(index) + 1 AS size FROM raw_items GROUP BY sweep").to_pylist()
    places = {}
    for source in sizes:
        places[source["sweep"]] = found = np.full(source["size"], -1)
        mine = (runs["sweep"] == source["sweep"]).to_numpy() & (runs["index"] < source["size"]).to_numpy()
        found[runs["index"].to_numpy()[mine]] = place[mine]
    return places


def _last_steps(sweep: Sweep, setting: Setting) -> dict[str, np.ndarray]:
    """Per source, the last evaluated step by run index; −1 for none."""
    sql = f"SELECT sweep, index, max(step) AS last FROM raw_items WHERE {setting.sql} GROUP BY ALL"
    lasts = {}
    rows = sweep.query(sql)
    for label, part in rows.groupby("sweep", sort=False):
        lasts[str(label)] = found = np.full(int(part["index"].max()) + 1, -1)
        found[part["index"].to_numpy()] = part["last"].to_numpy()
    return lasts


def _matrix(column: pa.ChunkedArray, metric: str) -> np.ndarray:
    """Lists of equal length as a float32 matrix."""
    rows = column.combine_chunks()
    flat = rows.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    if len(rows) and len(flat) % len(rows):
        raise UserError(f"metric {metric!r}: runs were judged on different items; filter or group by eval")
    return flat.reshape(len(rows), -1)
