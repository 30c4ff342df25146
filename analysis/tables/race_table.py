"""The cells of a race: means with intervals that hold although it looked at every seed, and who left when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.data.axes import SEED
from analysis.data.columns import RunArrays
from analysis.data.race import RaceSeen, counted_runs, told_race
from analysis.data.sweep import SweepData
from analysis.output.table import (
    SEEDS,
    ReportColumn,
    ReportTable,
    axis_columns,
    change_kind,
    interval_column,
    value_kind,
)
from analysis.stats.anytime import anytime_interval
from analysis.tables.seed_values import SeedGroups
from orchestrator.store.race_words import asked_text
from orchestrator.store.records import ENDED
from sweeps.spec.text import counted

ANYTIME = (
    "Intervals: 95 %, over seeds, at any stop (confidence sequence, arXiv 2310.03722): they hold for each "
    "row although the race looked after every seed; those for a fixed number of seeds would not."
)
"""What the intervals of a race mean."""


def race_table(
    sweep: SweepData, race: RaceSeen, by: Sequence[str], metric: str, gain: str | None
) -> ReportTable:
    """Return one row per combination of the axes ``by``, over the seeds that all cells of the row have had.

    Columns of the frame: the axes, ``n`` (seeds), ``mean`` and, with a base value, ``gain``, each with
    ``_low`` and ``_high``; ``num_cells``, ``decided`` and ``asked`` (cells), ``verdict`` in words;
    ``expected, valued, skipped, diverged, failed, missing`` (runs), ``unused`` (those with a value beyond the
    seeds that count).
    """
    columns = sweep.columns([metric, *([gain] if gain else [])])
    seeds = sweep.axis(SEED).values
    counts_R = counted_runs(columns, by, seeds)
    arranged = SeedGroups(columns, by)
    groups, value = arranged.groups, columns.metric(metric)
    in_order = [int(np.flatnonzero(arranged.seeds == seed)[0]) for seed in seeds if seed in arranged.seeds]
    valued, skipped = ~np.isnan(value), _skipped(sweep, race, columns)
    diverged = columns.is_outcome("diverged")
    frame = arranged.frame()
    frame.insert(len(by), "n", 0)
    info = sweep.info(metric)
    for name, column in (("mean", metric), ("gain", gain)):
        if column:
            low, high = sweep.info(column).range
            bounds = None if low is None or high is None else (low, high)
            values_GS = arranged.values(np.where(counts_R, columns.metric(column), np.nan))[:, in_order]
            found = anytime_interval(values_GS, bounds=bounds)
            frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = found.value, found.low, found.high
            if name == "mean":
                frame["n"] = found.n
    sides, asked = _sides(sweep, race, arranged), _num_asked(sweep, race, arranged)
    frame = frame.assign(
        num_cells=np.bincount(arranged.group_of_cell, minlength=groups.size),
        decided=[sum(of_group.values()) for of_group in sides],
        asked=asked,
        verdict=[
            "" if not num else _words(of_group, ended=race.has_ended) if race.is_known else "not known"
            for of_group, num in zip(sides, asked, strict=True)
        ],
        expected=groups.count(),
        valued=groups.count(valued),
        skipped=groups.count(skipped),
        diverged=groups.count(diverged),
        failed=groups.count(columns.is_outcome("failed", "quarantined")),
        missing=groups.count(~valued & ~diverged & ~skipped),
        unused=groups.count(valued & ~counts_R),
    )
    told = told_race(sweep.sources)  # of other tables
    where = f", runs where {' '.join(sweep.filters)}" if sweep.filters else ""
    layout = [*axis_columns(by), interval_column("mean", "mean", value_kind(info), ("mean_low", "mean_high"))]
    if gain:
        layout.append(interval_column("gain", "gain", change_kind(info), ("gain_low", "gain_high")))
    layout += [SEEDS, ReportColumn(header="decided", source="verdict")]
    for name in ("missing", "diverged"):
        if frame[name].sum():
            layout.append(ReportColumn(header=name, source=name, kind="count"))
    return ReportTable(
        title=f"{metric} by {', '.join(by) or 'nothing (all runs together)'}{where}",
        frame=frame,
        layout=tuple(layout),
        notes=(*_notes(race, frame, metric), *(w for w in sweep.warnings if w not in told)),
    )


def race_sentence(sweep: SweepData, race: RaceSeen) -> str:
    """What was asked, how many cells left with which answer, and the runs it took."""
    counts, columns = sweep.counts(), sweep.columns()
    here = {cell for cell, row in _rows_by_cell(sweep, columns).items() if row >= 0}
    sides = Counter(d.side for cells, d in race.standing.items() if cells[0] in here)
    ended = sides.pop(ENDED, 0)
    pairs = race.spec.question == "compare"
    unit = "pair" if pairs else "cell"
    answers = ", ".join(f"{num:,} {side}" for side, num in sorted(sides.items()))
    decided = (
        f"what is decided is not known here, since {race.unknown}"
        if not race.is_known
        else f"{counted(sides.total(), unit)} decided" + (f" ({answers})" if answers else "")
    )
    more = f"; its budget was spent with {counted(ended, unit)} open" if ended else ""
    results = counts.get("done", 0) + counts.get("diverged", 0)
    skipped = int(_skipped(sweep, race, columns).sum())
    spent = f"{counted(results, 'run')} with a result, {skipped:,} not needed"
    return f"Race: {asked_text(race.spec, race.metric)}: {decided}{more}; {spent}."


def open_cells(sweep: SweepData, race: RaceSeen, most: int) -> ReportTable:
    """The cells that are undecided, those with most seeds first, at most so many."""
    metric = race.metric if race.metric in sweep.metrics else sweep.metric()
    gain = metric.replace("accuracy", "gain", 1)
    whole = race_table(sweep, race, sweep.cell_keys, metric, gain if gain in sweep.metrics else None)
    is_open = (whole.frame["decided"] == 0) & (whole.frame["asked"] > 0)
    frame = whole.frame[is_open].sort_values("n", ascending=False, kind="stable")
    title = f"{counted(len(frame), 'cell')} undecided" + (f", {most} of them" if len(frame) > most else "")
    layout = tuple(column for column in whole.layout if column.source != "verdict")
    return ReportTable(title=title, frame=frame.head(most), layout=layout, notes=whole.notes)


def _skipped(sweep: SweepData, race: RaceSeen, columns: RunArrays) -> np.ndarray:
    """Whether each run is not needed, shape (R,); while a driver is at work only the journals say it."""
    named = {run_id for decision in race.decisions for run_id in decision.runs}
    table = sweep.arrow(f"SELECT {columns.identity}, run_id FROM runs")
    is_named = np.zeros(len(columns), dtype=bool)
    is_named[columns.locate(table)] = [run_id in named for run_id in table["run_id"].to_pylist()]
    told: np.ndarray = columns.is_outcome("skipped") | (is_named & columns.is_outcome("pending"))
    return told


def _sides(sweep: SweepData, race: RaceSeen, arranged: SeedGroups) -> list[Counter[str]]:
    """How the cells of each group left, as ``above`` or ``above after 5``, with how many of them."""
    found: list[Counter[str]] = [Counter() for _ in range(arranged.groups.size)]
    rows = {} if not race.decisions else _rows_by_cell(sweep, arranged.columns)
    whole = np.bincount(arranged.group_of_cell, minlength=arranged.groups.size)
    for cells, decision in race.standing.items():
        row = rows.get(cells[0], -1)
        if row >= 0 and decision.side != ENDED:
            group = arranged.groups.number[row]
            words = f"{decision.side} after {decision.num_seeds}" if whole[group] == 1 else decision.side
            found[group][words] += 1
    return found


def _num_asked(sweep: SweepData, race: RaceSeen, arranged: SeedGroups) -> list[int]:
    """How many cells of each group a decision is shown at, made or not."""
    if race.asked is None:
        return np.bincount(arranged.group_of_cell, minlength=arranged.groups.size).tolist()
    rows = [row for cell, row in _rows_by_cell(sweep, arranged.columns).items() if cell in race.asked]
    return np.bincount(arranged.groups.number[rows], minlength=arranged.groups.size).tolist()


def _rows_by_cell(sweep: SweepData, columns: RunArrays) -> dict[int, int]:
    """A run of each cell that is there, whatever seeds are looked at."""
    table = sweep.arrow(f"SELECT {columns.identity}, cell FROM runs")
    return dict(zip(table["cell"].to_pylist(), columns.locate(table).tolist(), strict=True))


def _words(sides: Counter[str], *, ended: bool) -> str:
    if not sides:
        return "open when the budget was spent" if ended else "open"
    if len(sides) == 1 and " after " in next(iter(sides)):
        return next(iter(sides))
    return ", ".join(f"{num} {side}" for side, num in sorted(sides.items()))


def _notes(race: RaceSeen, frame: pd.DataFrame, metric: str) -> list[str]:
    decided, cells = int(frame["decided"].sum()), int(frame["num_cells"].sum())
    skipped, unused, runs = (int(frame[name].sum()) for name in ("skipped", "unused", "expected"))
    told = f"{decided:,} of {counted(cells, 'cell')} decided; a cell left when it was"
    if race.spec.question == "compare":
        told = f"{counted(decided, 'pair')} decided, shown at the cell of {race.spec.a}; both left then"
    if not race.is_known:
        told = f"Which cells were decided is not known here, since {race.unknown}"
    notes = [
        f"Race: {asked_text(race.spec, race.metric)}. {told}, and {counted(skipped, 'run')} of {runs:,} were "
        "not needed.",
        ANYTIME,
        "Seeds: the first ones that every cell of the row has had, in seed order"
        + (f"; {counted(unused, 'run')} beyond them are not used." if unused else "."),
    ]
    if (frame["num_cells"] > 1).any():
        notes.append("A row of several cells averages them within each seed first.")
    lacking = int(frame["missing"].sum() + frame["diverged"].sum())
    if lacking:
        notes.append(
            f"{counted(lacking, 'run')} without a finite {metric} (diverged, failed or not finished) are "
            "left out of means."
        )
    if frame["diverged"].any() and race.spec.diverged == "worst":
        notes.append("To the race a diverged run counts as the worst value that there is.")
    return notes
