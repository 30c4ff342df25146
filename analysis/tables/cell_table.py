"""The tables of a sweep: every cell with its seeds, and what a launch ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.data.axes import SEED, cell_label, words_of
from analysis.data.race import race_seen
from analysis.data.search import is_search
from analysis.data.sweep import SweepData
from analysis.output.table import (
    SEEDS,
    ReportColumn,
    ReportTable,
    axis_columns,
    change_kind,
    end_of,
    in_numbers,
    interval_column,
    unit_of_change,
    value_kind,
)
from analysis.stats.crossed import Estimate
from analysis.stats.intervals import (
    FEW_SEEDS,
    LEVEL,
    Bounds,
    Interval,
    iqm_interval,
    mean_of,
    median_interval,
)
from analysis.tables.crossed_means import crossed_means
from analysis.tables.headline import HeadlineRow, headline_rows
from analysis.tables.item_means import OVER_WORDS, accuracy_kind, check_over, over_or_default
from analysis.tables.missing import fewer_cells, require_runs, what_is_missing, without_base
from analysis.tables.peaks import MEMBERS_CHANGE, peaks
from analysis.tables.race_table import race_sentence, race_table
from analysis.tables.search_table import best_trials, search_sentence, search_table
from analysis.tables.seed_table import seed_table
from analysis.tables.seed_values import SeedValues, gather
from analysis.tables.structure import grid_structure
from orchestrator.store.advice import is_held_back, next_steps
from orchestrator.store.layout import TABLES, Layout
from orchestrator.store.status import read_status
from sweeps.spec.errors import UserError
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.text import counted

CLOSING_ROWS = 32
"""Cells listed at the end of a launch; a larger sweep shows its headline and its best cells."""

LARGE_CELLS = 2_000
"""Cells beyond which the ten listed at the end of a launch have intervals over seeds only: all items are not
read for a list.
"""

TRIAL = "trial"
"""Word that asks for a search's trials instead of its cells."""

HEADLINE_AXIS = "optim.lr"
"""Axis that splits the headline where the sweep has it; otherwise the first axis with several values."""

_MEANING = {
    "seeds": "over seeds (Student-t): what other seeds of these cells{on_items} would give",
    "items": "over items (Student-t): what other items of this kind would give with these seeds",
    "both": "over seeds and items (crossed, Student-t, the seed a block across cells): what other seeds on "
    "other items would give",
}


def cell_table(
    sweep: SweepData,
    *,
    by: str | Sequence[str] | None = None,
    metric: str | None = None,
    over: str | None = None,
    robust: bool = True,
) -> ReportTable:
    """Return one row per combination of the axes ``by`` (default: all but the seed), or per ``trial`` of a
    search.

    ``over`` says what the intervals generalise over: other ``seeds`` on these items, other ``items`` with
    these seeds, or ``both`` (seeds crossed with items), which is the default for an accuracy with verdicts
    per item. Those of ``iqm`` and ``median``, left out by ``robust=False``, are over seeds.

    Columns of the frame: the axes, ``n`` (seeds), ``mean, iqm, median`` each with ``_low`` and ``_high``,
    ``best, worst`` (of the seeds), ``gain`` over the base model with its interval where the metric has a base
    value, ``peak, peak_step, final, fall`` of the group's own mean curve where the metric is recorded per
    step, and the counts ``expected, missing, diverged, failed``.

    Raises:
        UserError: for an unknown axis or metric; names the nearest.
    """
    if by is not None and words_of(by) == [TRIAL]:
        return search_table(sweep, metric=metric)
    by = [sweep.axis(word).key for word in words_of(by)] if by is not None else sweep.cell_keys
    check_over(over)
    require_runs(sweep)
    metric = sweep.metric(metric)
    info = sweep.info(metric)
    asked, over = over, over_or_default(sweep, metric, over, by)
    if SEED in by:
        return seed_table(sweep, by, metric)
    if race := race_seen(sweep.sources):
        return race_table(sweep, race, by, metric, _gain_metric(sweep, metric))
    gathered = gather(sweep, by, metric)
    frame = gathered.groups.copy()
    frame.insert(len(by), "n", (~np.isnan(gathered.values)).sum(axis=1))
    gain = _gain_metric(sweep, metric)
    high, low = _extremes(gathered.values)
    frame["best"], frame["worst"] = (low, high) if info.direction == "min" else (high, low)
    crossed: dict[str, Estimate] = {}
    if over != "seeds" and len(gathered.seeds):
        try:
            crossed = crossed_means(sweep, gathered, by, metric, gain, over)
        except UserError:
            if asked is not None:
                raise
            over = "seeds"  # runs judged on different items have no common ones
    _put(frame, "mean", _interval(gathered, crossed.get("mean")))
    if robust:
        _put(frame, "iqm", _inside(iqm_interval(gathered.values), gathered.bounds))
        _put(frame, "median", median_interval(gathered.values))
    if gain:
        _put(frame, "gain", _interval(gather(sweep, by, gain), crossed.get("gain")))
    curve_notes = []
    if metric in sweep.arrow("SELECT * FROM steps LIMIT 0").column_names:
        peak, members_change = peaks(sweep, by, metric)
        frame = frame.assign(**peak)
        curve_notes = [MEMBERS_CHANGE] if members_change else []
    where = f", runs where {' '.join(sweep.filters)}" if sweep.filters else ""
    return ReportTable(
        title=f"{metric} by {', '.join(by) or 'nothing (all runs together)'}{where}",
        frame=frame,
        layout=_layout(frame, by, info, gain),
        notes=(
            *_notes(frame, metric, info, gain, over),
            *without_base(gathered, gain),
            *grid_structure(sweep).moves_with(by),
            *fewer_cells(gathered, by),
            *curve_notes,
            *sweep.warnings,
        ),
    )


def _layout(
    frame: pd.DataFrame, by: Sequence[str], info: MetricInfo, gain: str | None
) -> tuple[ReportColumn, ...]:
    kind, change = value_kind(info), change_kind(info)
    best, worst = ("highest", "lowest") if info.direction == "none" else ("best", "worst")
    layout = [*axis_columns(by), interval_column("mean", "mean", kind, ("mean_low", "mean_high"))]
    if gain:
        layout.append(interval_column("gain", "gain", change, ("gain_low", "gain_high")))
    layout += [
        ReportColumn(header=best, source="best", kind=kind),
        ReportColumn(header=worst, source="worst", kind=kind),
    ]
    if "peak" in frame and frame["peak"].notna().any():
        top, after = ("lowest", "rise") if info.direction == "min" else ("peak", "fall")
        layout += [
            ReportColumn(header=top, source="peak", kind=kind),
            ReportColumn(header="step", source="peak_step", kind="count"),
            ReportColumn(header=after, source="fall", kind=change),
        ]
    layout.append(SEEDS)
    for name in ("missing", "diverged"):
        if frame[name].sum():
            layout.append(ReportColumn(header=name, source=name, kind="count"))
    return tuple(layout)


def closing_table(directory: str | Path) -> str:
    """Text that a launch ends with: cells, headline, where the files are, what to type next."""
    sweep = SweepData.open(directory)
    lines, is_measured = [], True
    try:
        metric = sweep.metric()
    except UserError:
        counts = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(sweep.counts().items()))
        lines, is_measured = [f"{directory}: {counts}; nothing was measured"], False
    else:
        cells = sweep.columns().group(sweep.cell_keys).size
        over = "seeds" if cells > LARGE_CELLS else None
        if is_search(sweep.sources):
            lines = [best_trials(search_table(sweep), 10).text()]
        else:
            table = cell_table(sweep, metric=metric, robust=False, over=over)
            smallest_first = sweep.info(metric).direction == "min"
            lines += [_shortened(table, smallest_first=smallest_first).text(), ""]
            lines += [*headline(sweep, metric), *grid_structure(sweep).confounded()]
    return "\n".join([*lines, "", *_next_steps(sweep, directory, is_measured=is_measured)])


def headline(sweep: SweepData, metric: str | None = None, over: str | None = None) -> list[str]:
    """Sentences: per learning rate the paired gain over base, and whether the end fell below the group's own
    peak. All of their verdicts hold together with 95 %. Of a race, what it has decided.
    """
    if race := race_seen(sweep.sources):
        return [race_sentence(sweep, race)]
    if is_search(sweep.sources):
        return [search_sentence(sweep)]
    by, metric = headline_axis(sweep), sweep.metric(metric)
    gain = _gain_metric(sweep, metric)
    if gain is None:
        return []
    answer, info = headline_rows(sweep, by, metric, gain, over), sweep.info(metric)
    several = "" if answer.level == LEVEL else ", simultaneous over all that is said here (Bonferroni)"
    lines = [
        "Gain over the base model, paired by evaluation item; 95 % CI over "
        f"{OVER_WORDS[answer.over]}{several}:"
    ]
    for row in answer.rows:
        where = cell_label({key: row.group[key] for key in by}) or "all runs"
        line = f"  {where}: {_gain_in_words(row, info)}"
        if row.fall is not None and answer.claims_fall(row):
            fall = in_numbers(info, abs(row.fall.test.mean))
            line += f"; ends {fall} points below its own peak at step {int(row.peak_step)}"
        valued, expected = int(row.group["valued"]), int(row.group["expected"])
        short = f", {valued:,} of {expected:,} runs" if valued < expected else ""
        cells = counted(row.group["num_cells"], "cell")
        lines.append(f"{line} ({counted(row.n, 'seed')} × {cells}{short})")
    return lines


def _gain_in_words(row: HeadlineRow, info: MetricInfo) -> str:
    """``+1.2 points [+0.4, +2.0], raises accuracy``: the verdict follows from the unrounded interval."""
    if row.gain != row.gain:
        return "no run has a gain"
    gain = f"{in_numbers(info, row.gain, signed=True)}{unit_of_change(info)}"
    if row.low != row.low:
        return f"{gain} [{counted(row.n, 'seed')}: no interval], an effect on accuracy cannot be tested"
    verdict = "raises" if row.low > 0 else "lowers" if row.high < 0 else "no clear effect on"
    ends = f"[{end_of(info, row.low)}, {end_of(info, row.high)}]"
    return f"{gain} {ends}, {verdict} accuracy"


def headline_axis(sweep: SweepData) -> list[str]:
    """The axis that splits the headline, as a list; empty when no axis but the seed has two values.

    One that exists for some runs only splits nothing as long as another exists for all.
    """
    varied = [axis.key for axis in sweep.axes if axis.key != SEED and len(axis.values) > 1]
    if HEADLINE_AXIS not in varied[:1] and len(varied) > 1:
        columns = sweep.columns()
        always = [key for key in varied if not columns.has_level(key, None).any()]
        varied = always or varied
    return [HEADLINE_AXIS] if HEADLINE_AXIS in varied else varied[:1]


def _gain_metric(sweep: SweepData, metric: str) -> str | None:
    name = metric.replace("accuracy", "gain", 1)
    return name if metric.startswith("accuracy") and name in sweep.metrics else None


def _interval(gathered: SeedValues, crossed: Estimate | None) -> Interval:
    """Over seeds, or around the same mean as an estimate over items says."""
    if crossed is None:
        return gathered.interval()
    return replace(crossed.interval(bounds=gathered.bounds), value=mean_of(gathered.values))


def _inside(interval: Interval, bounds: Bounds) -> Interval:
    low, high = np.maximum(interval.low, bounds[0]), np.minimum(interval.high, bounds[1])
    return Interval(value=interval.value, low=low, high=high, n=interval.n)


def _put(frame: pd.DataFrame, name: str, interval: Interval) -> None:
    frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = interval.value, interval.low, interval.high


def _extremes(values_GS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    absent = np.isnan(values_GS)
    best = np.where(absent, -np.inf, values_GS).max(axis=1, initial=-np.inf)
    worst = np.where(absent, np.inf, values_GS).min(axis=1, initial=np.inf)
    return np.where(np.isinf(best), np.nan, best), np.where(np.isinf(worst), np.nan, worst)


def _notes(frame: pd.DataFrame, metric: str, info: MetricInfo, gain: str | None, over: str) -> list[str]:
    cells = sorted(set(frame["num_cells"])) or [0]
    number = f"{cells[-1]} cells" if cells[0] == cells[-1] else f"several cells (up to {cells[-1]})"
    several = f" A row of {number} averages them within each seed first" if cells[-1] > 1 else ""
    if several and (frame["valued"] < frame["num_cells"] * frame["n"]).any():
        several += ", where a seed lacks some by least squares, each run its cell plus its seed"
    several += "." if several else ""
    ends = {"max": "Best, worst: of the seeds", "min": "Best, worst: of the seeds; smaller is better"}
    shown = ends.get(info.direction, "Highest, lowest: of the seeds; which is better is not said")
    on_items = " on these items" if accuracy_kind(metric) else ""
    notes = [f"Intervals: 95 %, {_MEANING[over].format(on_items=on_items)}.{several} {shown}."]
    if info.unit and not info.is_share:
        notes.append(f"Unit: {info.unit}.")
    if "iqm" in frame and (frame["n"].between(2, FEW_SEEDS)).any():
        notes.append(
            f"Up to {FEW_SEEDS} seeds the intervals of IQM and median, which are over seeds, hold less than "
            "95 %: that of a median of 2, 3, 4, 5 seeds 50, 75, 88, 94 %."
        )
    if over != "items" and (frame["n"] == 1).any():
        notes.append("One seed gives no interval; add seeds to get one.")
    if gain:
        notes.append("Gain: the run minus its own base model on the same items, same evaluation noise.")
    notes.append(f"Rule: means are over runs with a finite {metric}. {what_is_missing(frame)}")
    return notes


def _shortened(table: ReportTable, *, smallest_first: bool) -> ReportTable:
    if len(table.frame) <= CLOSING_ROWS:
        return table
    best = table.frame.sort_values("mean", ascending=smallest_first).head(10)
    note = "Best of many cells is partly luck: emsweep report judges them on seeds held out of the choice."
    title = f"{table.title}: best 10 of {len(table.frame):,} cells"
    return ReportTable(title=title, frame=best, layout=table.layout, notes=(*table.notes, note))


def _files_in(directory: Path) -> list[str]:
    paths = [*(Layout(directory).table(name) for name in TABLES), directory / "logs"]
    return [f"{path.name}/" if path.is_dir() else path.name for path in paths if path.exists()]


def _next_steps(sweep: SweepData, directory: str | Path, *, is_measured: bool) -> list[str]:
    counts = sweep.counts()
    failed = sweep.arrow("SELECT run_id FROM runs WHERE outcome IN ('failed', 'quarantined') LIMIT 1")
    example = next(iter(failed["run_id"].to_pylist()), None)
    held_back = is_held_back(read_status(Layout(Path(directory))), counts)
    steps = next_steps(directory, counts, held_back=held_back, example=example)
    commands = [
        f"emsweep table {directory} --by {','.join(sweep.cell_keys[:2]) or 'seed'}",
        f"python -c \"from analysis import open_sweep; print(open_sweep('{directory}').runs())\"",
    ]
    commands = [*(commands if is_measured else ()), *map(str, steps)]
    starts = ("Next:  ", *([" " * 7] * len(commands)))
    return [
        f"Files: {directory}/ {', '.join(_files_in(Path(directory)))}",
        *(f"{start}{command}" for start, command in zip(starts, commands, strict=False)),
    ]
