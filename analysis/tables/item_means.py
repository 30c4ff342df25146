"""Per-item verdicts as arrays over (group, seed, item): what intervals over items rest on.

Verdicts are stored as one list per (run, evaluation). They are streamed in batches and counted per group and
seed, so a million runs need memory for the groups only, one byte for each of their verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from scipy import sparse

from analysis.data.axes import SEED
from analysis.data.sweep import SweepData
from analysis.stats.crossed import OVER
from analysis.tables.seed_values import SeedGroups, SeedValues
from analysis.tables.verdicts import EvaluationSetting, evaluations, verdicts
from sweeps.spec import nearest
from sweeps.spec.errors import UserError

BENCHMARK_AXES = (
    *("eval", "eval.path", "eval.name", "eval.limit", "eval.drop_items"),
    *("eval.question_field", "eval.answer_field"),
)
"""Axes whose values are judged on different items."""

_ACCURACY = re.compile(
    r"(?P<kind>accuracy|gain|base_accuracy)_(?P<mode>greedy|sampled)(_t(?P<temperature>[\d.e-]+))?"
)


_SETTINGS: WeakKeyDictionary[SweepData, list[EvaluationSetting]] = WeakKeyDictionary()


def settings(sweep: SweepData) -> list[EvaluationSetting]:
    """The decoding settings that the sweep's items hold, greedy first, then by temperature."""
    if sweep.live:
        return _read_settings(sweep)
    if sweep not in _SETTINGS:
        _SETTINGS[sweep] = _read_settings(sweep)
    return _SETTINGS[sweep]


def _read_settings(sweep: SweepData) -> list[EvaluationSetting]:
    if not sweep.has("items"):
        return []
    rows = sweep.arrow("SELECT DISTINCT mode, temperature FROM items ORDER BY mode, temperature").to_pylist()
    return [EvaluationSetting(**row) for row in rows]


def setting_of(sweep: SweepData, metric: str) -> EvaluationSetting:
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
    matching = [s for s in settings(sweep) if s.mode == match["mode"]]
    if match["temperature"]:
        matching = [s for s in matching if s.temperature == float(match["temperature"])]
    elif match["mode"] == "sampled":
        named = {
            float(m["temperature"])
            for n in sweep.metrics
            if (m := _ACCURACY.fullmatch(n)) and m["temperature"]
        }
        matching = [s for s in matching if s.temperature not in named] or matching
    if not matching:
        raise UserError(f"metric {metric!r}: the sweep holds no verdicts per item for it")
    return matching[0]


def accuracy_kind(metric: str) -> str | None:
    """``accuracy``, ``gain`` or ``base_accuracy``; ``None`` for a metric that is none of them."""
    match = _ACCURACY.fullmatch(metric)
    return match["kind"] if match else None


OVER_WORDS = {"seeds": "seeds", "items": "items", "both": "seeds and items"}
"""What an interval generalises over, in words."""


def interval_words(over: str) -> str:
    """Meaning of the intervals of a table or a figure."""
    return f"95 % interval over {OVER_WORDS[over]} (Student-t)"


def check_over(over: str | None) -> None:
    """Refuse an unknown word for what intervals generalise over.

    Raises:
        UserError: naming the nearest.
    """
    if over is not None and over not in OVER:
        raise UserError(f"intervals over {over!r}{nearest(over, OVER)}: choose one of {', '.join(OVER)}")


def over_or_default(sweep: SweepData, metric: str, over: str | None, grouped_by: Sequence[str] = ()) -> str:
    """What intervals generalise over: what is asked for, else both seeds and items where items are recorded.

    Args:
        grouped_by: axes that the runs of one row agree on. Where benchmarks differ within a row there are no
            common items.

    Raises:
        UserError: for an unknown word.
    """
    check_over(over)
    if over is not None:
        return over
    if accuracy_kind(metric) is None:
        return "seeds"
    mixed = any(
        axis.key in BENCHMARK_AXES and axis.key not in grouped_by and len(axis.values) > 1
        for axis in sweep.axes
    )
    try:
        setting_of(sweep, metric)
    except UserError:
        return "seeds"
    return "seeds" if mixed else "both"


def main_setting(sweep: SweepData) -> EvaluationSetting | None:
    """The setting of ``accuracy_sampled``, or of ``accuracy_greedy`` where nothing was sampled; ``None``
    without items.
    """
    recorded = settings(sweep)
    sampled = [s for s in recorded if s.mode == "sampled"]
    if len(sampled) > 1 and "accuracy_sampled" in sweep.metrics:
        return setting_of(sweep, "accuracy_sampled")
    return next(iter(sampled or recorded), None)


@dataclass(frozen=True, kw_only=True)
class ItemMeans:
    """Mean verdict per group, seed and item, kept as counts: an eighth of the memory of floats.

    Indexing with a slice of groups gives their means as floats of shape (g, S, I), NaN for a seed without
    runs.
    """

    counts: np.ndarray
    """Right samples of all runs, or the difference of two such counts, shape (G, S, I)."""
    weight: np.ndarray
    """What one right sample adds to the mean, shape (G, S); NaN for a seed without runs."""
    seed_value: np.ndarray | None = None
    """What the items of a group and seed average to, shape (G, S), where it is known: each is moved by the
    same amount to meet it, as missing runs move it.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        return self.counts.shape

    def __getitem__(self, groups: slice) -> np.ndarray:
        values_GSI = np.multiply(self.counts[groups], self.weight[groups][:, :, None], dtype=float)
        if self.seed_value is not None:
            values_GSI += (self.seed_value[groups] - values_GSI.mean(axis=2))[:, :, None]
        return values_GSI

    @property
    def verdicts(self) -> np.ndarray:
        """Verdicts behind one value of each group, shape (G,): the fewest of its seeds."""
        with np.errstate(invalid="ignore"):
            fewest_G = np.nanmin(1 / self.weight, axis=1, initial=np.inf)
        verdicts_G: np.ndarray = np.maximum(1.0, np.nan_to_num(fewest_G, posinf=1.0))
        return verdicts_G

    def minus(self, other: ItemMeans) -> ItemMeans:
        """The difference to ``other``, written over these counts where both weigh the same."""
        both = self.weight + other.weight
        if np.array_equal(self.weight[~np.isnan(both)], other.weight[~np.isnan(both)]):
            counts = np.subtract(self.counts, other.counts, out=self.counts)
            return ItemMeans(counts=counts, weight=np.where(np.isnan(both), np.nan, self.weight))
        return ItemMeans(counts=self[:] - other[:], weight=np.where(np.isnan(both), np.nan, 1.0))


def seed_values(gathered: SeedValues, by: Sequence[str], value_R: np.ndarray) -> np.ndarray:
    """The estimator's value of each group and seed, which the mean verdicts are moved to, shape (G, S)."""
    arranged = SeedGroups(gathered.columns, by)
    return arranged.values(value_R)[:, np.isin(arranged.seeds, gathered.seeds)]


def item_means(
    sweep: SweepData, gathered: SeedValues, by: Sequence[str], metric: str, *, counted_by: str | None = None
) -> tuple[ItemMeans, ItemMeans]:
    """Mean verdicts of each run's last evaluation and of its base model, read in one pass.

    Args:
        metric: an accuracy; its name says the decoding setting.
        counted_by: metric that a run must have to count; by default ``metric`` itself.

    Raises:
        UserError: when there are no such verdicts, or the items differ in number between runs.
    """
    setting, columns = setting_of(sweep, metric), gathered.columns
    place_R, num_places = _places(gathered, by, counted_by or metric)
    found = evaluations(sweep, columns, setting)
    last_R, samples = found.last_R, found.samples
    most = int(np.bincount(place_R[place_R >= 0], minlength=1).max()) * max(samples, default=0)
    # Counts of runs that drew alike are whole numbers; else each run's share is added up.
    kind = np.min_scalar_type(-max(1, most)) if len(samples) == 1 else np.dtype(np.float32)
    runs = np.zeros((2, num_places), dtype=int)
    sums: list[np.ndarray] = []
    steps = sorted({0, *np.unique(last_R[last_R > 0]).tolist()})
    for batch in verdicts(sweep, columns, setting, steps, metric):
        sums = sums or [np.zeros((num_places, batch.counts.shape[1]), dtype=kind) for _ in range(2)]
        run, step = batch.run, batch.step
        slot = np.where(run >= 0, place_R[run], -1)
        for moment, wanted in enumerate((last_R[run], 0)):
            rows = np.flatnonzero((slot >= 0) & (step == wanted))
            touched, target = np.unique(slot[rows], return_inverse=True)
            if len(samples) > 1:
                part = _summed(batch.counts[rows] / batch.samples[rows, None], target)
            else:
                part = _summed(batch.counts[rows], target)
            if runs[moment, touched].any():
                sums[moment][touched] += part.astype(kind)
            else:  # first verdicts of all these places: no need to read what is there
                sums[moment][touched] = part
            runs[moment, touched] += np.bincount(target, minlength=len(touched))
    if not sums:
        raise UserError(f"metric {metric!r}: the sweep holds no verdicts per item for it")
    shape = (len(gathered.groups), len(gathered.seeds))
    scale = 1 / samples[0] if len(samples) == 1 else 1.0
    with np.errstate(divide="ignore"):
        weight = np.where(runs > 0, scale / runs, np.nan)
    last, base = (
        ItemMeans(counts=total.reshape(*shape, -1), weight=one.reshape(shape))
        for total, one in zip(sums, weight, strict=True)
    )
    return last, base


def _summed(verdicts_NI: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Sums of the rows that have the same target, in the order of targets."""
    if len(target) == target.max(initial=-1) + 1:
        return verdicts_NI[np.argsort(target)]
    ones = np.ones(len(target), dtype=np.float32)
    return sparse.csr_array((ones, (target, np.arange(len(target))))) @ verdicts_NI.astype(np.float32)


def _places(gathered: SeedValues, by: Sequence[str], counted_by: str) -> tuple[np.ndarray, int]:
    """Where each run's verdicts belong, as group × seeds + seed, −1 for none; and the number of places.

    Looking runs up in an array keeps the lists of verdicts out of a join, which would hold them all in
    memory.
    """
    columns = gathered.columns
    levels, level = columns.levels(SEED)
    seed_of_level = np.where(np.isin(levels, gathered.seeds), np.searchsorted(gathered.seeds, levels), -1)
    seed = seed_of_level[level]
    slot = columns.group(by).number * len(gathered.seeds) + seed
    counts = (seed >= 0) & ~np.isnan(columns.metric(counted_by))
    return np.where(counts, slot, -1), len(gathered.groups) * len(gathered.seeds)
