"""Reads the verdicts per item of a sweep in batches, and keeps those of a sweep that is small enough.

A table, a headline and a page of comparisons each ask for the same lists; unpacking them takes longer than
all that is worked out of them. They are kept as whole numbers for as long as the snapshot of the runs is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.data.columns import RunArrays
from analysis.data.sweep import SweepData
from analysis.data.views import literal
from sweeps.spec.errors import UserError

BATCH_ROWS = 20_000
"""Evaluations read at once: 40 MB per column at 500 items."""

KEPT_BYTES = 48_000_000
"""Verdicts kept of one snapshot and way of decoding: 13,440 runs, 200 items, five evaluations take 14 MB."""

_SMALLEST_LIST = {1: "TINYINT", 2: "SMALLINT", 4: "INTEGER", 8: "BIGINT"}
"""SQL integers by size in bytes."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSetting:
    """One way of decoding, as the items table names it."""

    mode: str
    temperature: float
    """Sampling temperature; 0 for greedy."""

    @property
    def sql(self) -> str:
        return f"mode = {literal(self.mode)} AND temperature = {literal(float(self.temperature))}"


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Evaluations of runs, N of them."""

    run: np.ndarray
    """Row of the run in the snapshot, −1 for one that is not in it; shape (N,)."""
    step: np.ndarray
    samples: np.ndarray
    """Samples drawn per item."""
    counts: np.ndarray
    """Right samples per item, shape (N, I)."""

    def at(self, steps: Sequence[int]) -> Verdicts:
        rows = np.flatnonzero(np.isin(self.step, steps))
        return self if len(rows) == len(self.step) else self._take(rows)

    def of(self, place: np.ndarray) -> Verdicts:
        """Those of the runs that have a place in a narrower snapshot; see :meth:`RunArrays.places`."""
        run = place[self.run]
        rows = np.flatnonzero(run >= 0)
        return replace(self._take(rows), run=run[rows])

    def _take(self, rows: np.ndarray) -> Verdicts:
        return Verdicts(
            run=self.run[rows],
            step=self.step[rows],
            samples=self.samples[rows],
            counts=self.counts[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """Which evaluations there are."""

    last_R: np.ndarray
    """The last evaluated step of each run, −1 for none."""
    samples: list[int]
    """The different numbers of samples drawn."""
    num: int
    """Evaluations."""


_EVALUATIONS: WeakKeyDictionary[RunArrays, dict[EvaluationSetting, Evaluations]] = WeakKeyDictionary()
_KEPT: WeakKeyDictionary[RunArrays, dict[EvaluationSetting, Verdicts]] = WeakKeyDictionary()


def evaluations(sweep: SweepData, columns: RunArrays, setting: EvaluationSetting) -> Evaluations:
    """The evaluations of the runs of a snapshot under one way of decoding."""
    known = _EVALUATIONS.setdefault(columns, {})
    if setting not in known and columns.wider is not None:
        wider, places = columns.wider
        whole = evaluations(sweep, wider, setting)
        known[setting] = replace(whole, last_R=whole.last_R[places])
    elif setting not in known:
        rows = sweep.arrow(f"SELECT {columns.identity}, step, num_samples FROM raw_items WHERE {setting.sql}")
        run, step = columns.locate(rows), rows["step"].to_numpy()
        last_R = np.full(len(columns), -1)
        np.maximum.at(last_R, run[run >= 0], step[run >= 0])
        samples = np.unique(rows["num_samples"].to_numpy()).tolist()
        known[setting] = Evaluations(last_R=last_R, samples=samples, num=len(rows))
    return known[setting]


def verdicts(
    sweep: SweepData,
    columns: RunArrays,
    setting: EvaluationSetting,
    steps: Sequence[int],
    metric: str,
) -> Iterator[Verdicts]:
    """The verdicts of the evaluations at some steps, in batches.

    Args:
        metric: what an error speaks of.

    Raises:
        UserError: when the items differ in number between runs.
    """
    whole = _whole(sweep, columns, setting, metric)
    if whole is not None:
        yield whole.at(steps)
    else:
        yield from _read(sweep, columns, setting, evaluations(sweep, columns, setting), metric, steps)


def _whole(sweep: SweepData, columns: RunArrays, setting: EvaluationSetting, metric: str) -> Verdicts | None:
    """All verdicts of a snapshot where they may be kept, read once for all that is taken out of it."""
    if columns.wider is not None:
        try:
            wider = _whole(sweep, columns.wider[0], setting, metric)
        except UserError:  # judged on different items, of which these runs may share some
            wider = None
        if wider is not None:
            return wider.of(columns.places())
    kept, found = _KEPT.setdefault(columns, {}), evaluations(sweep, columns, setting)
    if setting in kept or not _fits(sweep, setting, found):
        return kept.get(setting)
    if parts := list(_read(sweep, columns, setting, found, metric)):
        kept[setting] = Verdicts(
            run=np.concatenate([part.run for part in parts]),
            step=np.concatenate([part.step for part in parts]),
            samples=np.concatenate([part.samples for part in parts]),
            counts=np.concatenate([part.counts for part in parts]),
        )
    return kept.get(setting)


def _fits(sweep: SweepData, setting: EvaluationSetting, found: Evaluations) -> bool:
    """Whether all verdicts of a setting may be kept."""
    first = sweep.arrow(f"SELECT len(correct) AS n FROM raw_items WHERE {setting.sql} LIMIT 1")[
        "n"
    ].to_pylist()
    size = np.min_scalar_type(-max(1, *found.samples, 1)).itemsize
    return found.num * (first[0] if first else 0) * size <= KEPT_BYTES


def _read(
    sweep: SweepData,
    columns: RunArrays,
    setting: EvaluationSetting,
    found: Evaluations,
    metric: str,
    steps: Sequence[int] | None = None,
) -> Iterator[Verdicts]:
    small = _SMALLEST_LIST[np.min_scalar_type(-max(1, *found.samples, 1)).itemsize]
    at = f" AND step IN ({', '.join(map(literal, steps))})" if steps is not None else ""
    sql = (
        f"SELECT {columns.identity}, step, num_samples, correct::{small}[] AS correct FROM raw_items "
        f"WHERE {setting.sql}{at}"
    )
    num_items = 0
    for rows in sweep.batches(sql, BATCH_ROWS):
        batch = rows.filter(pa.array(columns.locate(rows) >= 0))
        if not len(batch):
            continue
        counts = _matrix(batch["correct"], metric)
        if num_items and counts.shape[1] != num_items:
            raise UserError("the runs were judged on different numbers of items: filter by eval")
        num_items = counts.shape[1]
        yield Verdicts(
            run=columns.locate(batch),
            step=batch["step"].to_numpy(),
            samples=batch["num_samples"].to_numpy(),
            counts=counts,
        )


def _matrix(column: pa.ChunkedArray, metric: str) -> np.ndarray:
    """Lists of equal length as a matrix."""
    rows = column.combine_chunks()
    flat = rows.flatten().to_numpy(zero_copy_only=False)
    if len(pc.unique(pc.list_value_length(rows))) > 1:
        raise UserError(f"metric {metric!r}: runs were judged on different items; filter by eval")
    return flat.reshape(len(rows), -1)
