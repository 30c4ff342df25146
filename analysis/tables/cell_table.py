"""The tables of a sweep: every cell with its seeds, and what a launch ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.data.axes import SEED, cell_label
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
from analysis.stats.crossed import OVER, crossed_interval
from analysis.stats.intervals import Interval, iqm_interval, median_interval
from analysis.tables.item_means import centring, item_means
from analysis.tables.missing import fewer_cells, what_is_missing
from analysis.tables.peaks import MEMBERS_CHANGE, peaks
from analysis.tables.seed_table import seed_table
from analysis.tables.seed_values import SeedValues, gather
from orchestrator.store.layout import TABLES, Layout
from sweeps.spec import nearest
from sweeps.spec.errors import UserError
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.text import counted

CLOSING_ROWS = 32
"""Cells listed at the end of a launch; a larger sweep shows its headline and its best cells."""

HEADLINE_AXIS = "optim.lr"
"""Axis that splits the headline where the sweep has it; otherwise the first axis with several values."""

_MEANING = {
    "seeds": "over seeds (Student-t): what other seeds of these cells on these items would give",
    "items": "over items (Student-t): what other items of this kind would give with these seeds",
    "both": "over seeds and items (crossed, Student-t, the seed a block across cells): what other seeds on "
    "other items would give",
}


def cell_table(
    sweep: SweepData,
    *,
    by: Sequence[str] | None = None,
    metric: str | None = None,
    over: str = "seeds",
    robust: bool = True,
) -> ReportTable:
    """Return one row per combination of the axes ``by`` (default: all but the seed).

    ``over`` says what the intervals generalise over: other ``seeds`` on these items, other ``items`` with
    these seeds, or ``both`` (seeds crossed with items). The latter two need an accuracy with verdicts per
    item, and leave out ``iqm`` and ``median``; so does ``robust=False``, which spares their bootstrap.

    Columns of the frame: the axes, ``n`` (seeds), ``mean, iqm, median`` each with ``_low`` and ``_high``,
    ``best, worst`` (of the seeds), ``gain`` over the base model with its interval where the metric has a base
    value, ``peak, peak_step, final, fall`` of the group's own mean curve where the metric is recorded per
    step, and the counts ``expected, missing, diverged, failed``.

    Raises:
        UserError: for an unknown axis or metric; names the nearest.
    """
    by = [sweep.axis(word).key for word in by] if by is not None else sweep.cell_keys
    if over not in OVER:
        raise UserError(f"intervals over {over!r}{nearest(over, OVER)}: choose one of {', '.join(OVER)}")
    require_runs(sweep)
    metric = sweep.metric(metric)
    info = sweep.info(metric)
    if SEED in by:
        return seed_table(sweep, by, metric)
    gathered = gather(sweep, by, metric)
    frame = gathered.groups.copy()
    frame.insert(len(by), "n", (~np.isnan(gathered.values)).sum(axis=1))
    gain = _gain_metric(sweep, metric)
    high, low = _extremes(gathered.values)
    frame["best"], frame["worst"] = (low, high) if info.direction == "min" else (high, low)
    if over == "seeds":
        _put(frame, "mean", gathered.interval())
        if robust:
            _put(frame, "iqm", iqm_interval(gathered.values))
            _put(frame, "median", median_interval(gathered.values))
        if gain:
            _put(frame, "gain", gather(sweep, by, gain).interval())
    else:
        for name, interval in _over_items(sweep, gathered, by, metric, gain, over).items():
            _put(frame, name, interval)
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
            *fewer_cells(gathered, by),
            *curve_notes,
            *sweep.warnings,
        ),
    )


def require_runs(sweep: SweepData) -> None:
    """Raise unless any run is left to speak of.

    Raises:
        UserError: naming the filters and what there is.
    """
    if not len(sweep.columns()):
        counts = type(sweep).open(*sweep.directories).counts()
        there = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(counts.items())) or "no runs"
        raise UserError(f"no run matches {' '.join(sweep.filters) or 'an empty manifest'}; there are {there}")


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
    lines = []
    try:
        metric = sweep.metric()
    except UserError:
        counts = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(sweep.counts().items()))
        lines += [f"{directory}: {counts}; nothing was measured"]
    else:
        table = cell_table(sweep, metric=metric, robust=False)
        smallest_first = sweep.info(metric).direction == "min"
        lines += [_shortened(table, smallest_first=smallest_first).text(), ""]
        lines += headline(sweep, metric)
    return "\n".join([*lines, "", *_next_steps(sweep, directory)])


def headline(sweep: SweepData, metric: str | None = None) -> list[str]:
    """Sentences: per learning rate the paired gain over base, and whether the end fell below the group's own
    peak.
    """
    by, metric = headline_axis(sweep), sweep.metric(metric)
    frame = cell_table(sweep, by=by, metric=metric, robust=False).frame
    if "gain" not in frame:
        return []
    lines = ["Gain over the base model, paired by evaluation item; 95 % CI over seeds (Student-t):"]
    for row in frame.to_dict("records"):
        where = cell_label({key: row[key] for key in by}) or "all runs"
        line = f"  {where}: {_gain_in_words(row, sweep.info(metric))}"
        if row.get("fall", 0) < 0 and row["peak_step"] == row["peak_step"]:
            fall = in_numbers(sweep.info(metric), -row["fall"])
            line += f"; ends {fall} points below its own peak at step {int(row['peak_step'])}"
        lines.append(f"{line} ({counted(row['n'], 'seed')} × {counted(row['num_cells'], 'cell')})")
    return lines


def _gain_in_words(row: dict, info: MetricInfo) -> str:
    """``+1.2 points [+0.4, +2.0], raises accuracy``: the verdict follows from the unrounded interval."""
    low, high = row["gain_low"], row["gain_high"]
    if row["gain"] != row["gain"]:
        return "no run has a gain"
    gain = f"{in_numbers(info, row['gain'], signed=True)}{unit_of_change(info)}"
    if low != low:
        return f"{gain} [{counted(row['n'], 'seed')}: no interval], an effect on accuracy cannot be tested"
    verdict = "raises" if low > 0 else "lowers" if high < 0 else "no clear effect on"
    ends = f"[{end_of(info, low)}, {end_of(info, high)}]"
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


def _put(frame: pd.DataFrame, name: str, interval: Interval) -> None:
    frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = interval.value, interval.low, interval.high


def _over_items(
    sweep: SweepData, gathered: SeedValues, by: Sequence[str], metric: str, gain: str | None, over: str
) -> dict[str, Interval]:
    """Mean, and gain where there is one, with intervals over items or over both."""
    value_R = gathered.columns.metric(metric)
    intervals = {}
    gain_R = sweep.columns([metric, gain]).metric(gain) if gain else None
    alike = gain_R is not None and not (np.isnan(gain_R) & ~np.isnan(value_R)).any()
    if not alike:
        final, _ = item_means(sweep, gathered, by, metric)
        final = replace(final, shift=centring(gathered, by, value_R))
        intervals["mean"] = crossed_interval(final, over)
    if gain_R is not None:
        final, base = item_means(sweep, gathered, by, metric, counted_by=gain)
        if alike:
            shifted = replace(final, shift=centring(gathered, by, value_R))
            intervals["mean"] = crossed_interval(shifted, over)
        change = replace(final.minus(base), shift=centring(gathered, by, gain_R))
        intervals["gain"] = crossed_interval(change, over)
    return intervals


def _extremes(values_GS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    absent = np.isnan(values_GS)
    best = np.where(absent, -np.inf, values_GS).max(axis=1, initial=-np.inf)
    worst = np.where(absent, np.inf, values_GS).min(axis=1, initial=np.inf)
    return np.where(np.isinf(best), np.nan, best), np.where(np.isinf(worst), np.nan, worst)


def _notes(frame: pd.DataFrame, metric: str, info: MetricInfo, gain: str | None, over: str) -> list[str]:
    cells = int(frame["num_cells"].max()) if len(frame) else 0
    several = f" A row of {cells} cells averages them within each seed first." if cells > 1 else ""
    ends = {"max": "Best, worst: of the seeds", "min": "Best, worst: of the seeds; smaller is better"}
    shown = ends.get(info.direction, "Highest, lowest: of the seeds; which is better is not said")
    notes = [f"Intervals: 95 %, {_MEANING[over]}.{several} {shown}."]
    if info.unit and not info.is_share:
        notes.append(f"Unit: {info.unit}.")
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


def _next_steps(sweep: SweepData, directory: str | Path) -> list[str]:
    counts = sweep.counts()
    unfinished = sum(n for outcome, n in counts.items() if outcome not in ("done", "diverged"))
    lines = [
        f"Files: {directory}/ {', '.join(_files_in(Path(directory)))}",
        f"Next:  emsweep table {directory} --by {','.join(sweep.cell_keys[:2]) or 'seed'}",
        f"       python -c \"from analysis import open_sweep; print(open_sweep('{directory}').runs())\"",
    ]
    if unfinished:
        lines.append(f"       emsweep resume {directory}    # {counted(unfinished, 'run')} without a result")
    return lines
