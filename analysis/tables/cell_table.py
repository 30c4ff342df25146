"""The tables of a sweep: every cell with its seeds, and what a launch ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.data.axes import SEED, cell_label
from analysis.data.sweep import SweepData
from analysis.output.table import SEEDS, ReportColumn, ReportTable, axis_columns, interval_column, percent
from analysis.stats.crossed import OVER, crossed_interval
from analysis.stats.intervals import Interval, iqm_weights, l_interval, mean_of, median_weights
from analysis.tables.item_means import centring, item_means
from analysis.tables.seed_values import SeedGroups, SeedValues, gather, members_change, values_by_step
from orchestrator.store.layout import TABLES, Layout
from sweeps.spec import nearest
from sweeps.spec.errors import UserError

CLOSING_ROWS = 32
"""Cells listed at the end of a launch; a larger sweep shows its headline and its best cells."""

HEADLINE_AXIS = "optim.lr"
"""Axis that splits the headline where the sweep has it; otherwise the first axis with several values."""

MEMBERS_CHANGE = (
    "Not every run is recorded at every step, as where some end earlier: peak and fall are, at each step, of "
    "the runs recorded there, means of each run's own end."
)
"""Note of a table whose curves bend for that reason too."""

_MEANING = {
    "seeds": "over seeds (Student-t; bootstrap from 30 seeds on): what other seeds of these cells on these "
    "items would give",
    "items": "over items (bootstrap): what other items of this kind would give with these seeds",
    "both": "over seeds and items (crossed bootstrap, the seed a block across cells): what other seeds on "
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
    metric = sweep.metric(metric)
    by = [sweep.axis(word).key for word in by] if by is not None else sweep.cell_keys
    by = [key for key in by if key != SEED]
    if over not in OVER:
        raise UserError(f"intervals over {over!r}{nearest(over, OVER)}: choose one of {', '.join(OVER)}")
    gathered = gather(sweep, by, metric)
    frame = gathered.groups.copy()
    frame.insert(len(by), "n", (~np.isnan(gathered.values)).sum(axis=1))
    gain = _gain_metric(sweep, metric)
    frame["best"], frame["worst"] = _extremes(gathered.values)
    if over == "seeds":
        _put(frame, "mean", gathered.interval())
        if robust:
            _put(frame, "iqm", l_interval(gathered.values, iqm_weights))
            _put(frame, "median", l_interval(gathered.values, median_weights))
        if gain:
            _put(frame, "gain", gather(sweep, by, gain).interval())
    else:
        for name, interval in _over_items(sweep, gathered, by, metric, gain, over).items():
            _put(frame, name, interval)
    has_curve = metric in sweep.arrow("SELECT * FROM steps LIMIT 0").column_names
    curve_notes = []
    if has_curve:
        frame = frame.assign(**_peak(sweep, by, metric))
        if members_change(SeedGroups(sweep.columns([metric]), by), metric):
            curve_notes.append(MEMBERS_CHANGE)
    kind = "points" if is_share(metric) else "number"
    layout = [
        *axis_columns(by),
        interval_column("mean", "mean", kind, ("mean_low", "mean_high")),
    ]
    if gain:
        ends = ("gain_low", "gain_high")
        shown = "gain" if is_share(metric) else "number"
        layout.append(interval_column("gain", "gain", shown, ends))
    layout += [
        ReportColumn(header="best", source="best", kind=kind),
        ReportColumn(header="worst", source="worst", kind=kind),
    ]
    if has_curve:
        layout += [
            ReportColumn(header="peak", source="peak", kind=kind),
            ReportColumn(header="step", source="peak_step", kind="count"),
            ReportColumn(header="fall", source="fall", kind="gain" if kind == "points" else "number"),
        ]
    layout.append(SEEDS)
    for name in ("missing", "diverged"):
        if frame[name].sum():
            layout.append(ReportColumn(header=name, source=name, kind="count"))
    where = f", runs where {' '.join(sweep.filters)}" if sweep.filters else ""
    return ReportTable(
        title=f"{metric} by {', '.join(by) or 'nothing (all runs together)'}{where}",
        frame=frame,
        layout=tuple(layout),
        notes=(*_notes(frame, metric, gain, over), *curve_notes, *sweep.warnings),
    )


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
        lines += [_shortened(cell_table(sweep, metric=metric, robust=False)).text(), ""]
        lines += headline(sweep, metric)
    return "\n".join([*lines, "", *_next_steps(sweep, directory)])


def headline(sweep: SweepData, metric: str | None = None) -> list[str]:
    """Sentences: per learning rate the paired gain over base, and whether the end fell below the group's own
    peak.
    """
    by = headline_axis(sweep)
    frame = cell_table(sweep, by=by, metric=metric, robust=False).frame
    if "gain" not in frame:
        return []
    lines = ["Gain over the base model, paired by evaluation item; 95 % CI over seeds (Student-t):"]
    for _, row in frame.iterrows():
        where = cell_label({key: row[key] for key in by}) or "all runs"
        ends = f"[{percent(row['gain_low'], signed=True)}, {percent(row['gain_high'], signed=True)}]"
        interval = ends if row["gain_low"] == row["gain_low"] else "[one seed: no interval]"
        verdict = (
            "raises" if row["gain_low"] > 0 else "lowers" if row["gain_high"] < 0 else "no clear effect on"
        )
        line = f"  {where}: {percent(row['gain'], signed=True)} points {interval}, {verdict} accuracy"
        if row.get("fall", 0) < 0:
            line += (
                f"; ends {percent(-row['fall'])} points below its own peak at step {int(row['peak_step'])}"
            )
        lines.append(f"{line} ({int(row['n'])} seeds × {int(row['num_cells'])} cells)")
    return lines


def headline_axis(sweep: SweepData) -> list[str]:
    """The axis that splits the headline, as a list; empty when no axis but the seed has two values."""
    varied = [axis.key for axis in sweep.axes if axis.key != SEED and len(axis.values) > 1]
    return [HEADLINE_AXIS] if HEADLINE_AXIS in varied else varied[:1]


def is_share(metric: str) -> bool:
    """Whether a metric is a fraction of items, shown in per cent."""
    return metric.startswith(("accuracy", "gain", "base_accuracy"))


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


def _peak(sweep: SweepData, by: Sequence[str], metric: str) -> dict[str, np.ndarray]:
    """The highest point of each group's mean curve and how far its end lies below; NaN without a curve."""
    arranged = SeedGroups(sweep.columns([metric]), by)
    curves = [(step, mean_of(values_GS)) for step, values_GS in values_by_step(arranged, metric)]
    if not curves:
        return dict.fromkeys(("peak", "peak_step", "final", "fall"), np.full(arranged.groups.size, np.nan))
    steps = np.array([step for step, _ in curves])
    mean_GT = np.stack([mean for _, mean in curves], axis=1)
    judged = ~np.isnan(mean_GT)
    has_curve, rows = judged.any(axis=1), np.arange(len(mean_GT))
    top = np.where(judged, mean_GT, -np.inf).argmax(axis=1)
    last = len(steps) - 1 - judged[:, ::-1].argmax(axis=1)
    peak, final = mean_GT[rows, top], mean_GT[rows, last]
    peak_step = steps[top] if has_curve.all() else np.where(has_curve, steps[top], np.nan)
    return {"peak": peak, "peak_step": peak_step, "final": final, "fall": final - peak}


def _notes(frame: pd.DataFrame, metric: str, gain: str | None, over: str) -> list[str]:
    cells = int(frame["num_cells"].max()) if len(frame) else 0
    several = f" A row of {cells} cells averages them within each seed first." if cells > 1 else ""
    notes = [f"Intervals: 95 %, {_MEANING[over]}.{several} Best, worst: of the seeds."]
    if over != "items" and (frame["n"] == 1).any():
        notes.append("One seed gives no interval; add seeds to get one.")
    if gain:
        notes.append("Gain: the run minus its own base model on the same items, same evaluation noise.")
    left_out, diverged = int(frame["missing"].sum()), int(frame["diverged"].sum())
    notes.append(
        f"Rule: means are over runs with a finite {metric}. Of {int(frame['expected'].sum()):,} runs "
        f"{diverged} diverged and {left_out} have no result; they are counted here, not imputed"
        + ("; a diverged run has no such value and is left out of means." if diverged else ".")
    )
    return notes


def _shortened(table: ReportTable) -> ReportTable:
    if len(table.frame) <= CLOSING_ROWS:
        return table
    best = table.frame.sort_values("mean", ascending=False).head(10)
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
        lines.append(f"       emsweep resume {directory}    # {unfinished:,} runs have no result yet")
    return lines
