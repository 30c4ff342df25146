"""The trials of a search, the best first, and what the best came to on seeds that did not choose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.search import SearchSeen, search_seen, told_search
from analysis.data.sweep import SweepData
from analysis.output.table import (
    ReportColumn,
    ReportTable,
    axis_columns,
    in_numbers,
    value_kind,
)
from sweeps.grid.filters import as_text
from sweeps.spec.errors import UserError
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.sampler_rules import SamplerSpec
from sweeps.spec.search_rules import worst_of
from sweeps.spec.text import counted


def search_table(sweep: SweepData, *, metric: str | None = None) -> ReportTable:
    """Return one row per trial, the best first, those without a value last.

    Columns of the frame: ``trial`` (number of the proposal, from 0), the axes, ``value`` (mean over the seeds
    that it was judged on, as the search counts them, once all are over and none was stopped), ``n`` (those of
    them with a value),
    ``held_out`` and ``held_out_n`` (the same over seeds that did not choose it), ``checked`` (runs on such
    seeds), ``missing`` (runs without a value), ``state``.

    Raises:
        UserError: for a sweep that is no search, and an unknown metric.
    """
    search = search_seen(sweep.sources)
    if search is None:
        raise UserError("trials: this sweep is no search; its cells are in the table by its axes")
    metric = sweep.metric(metric or search.spec.metric)
    info = sweep.info(metric)
    rows = _rows(sweep, search, metric)
    frame = pd.DataFrame(rows, columns=["trial", *sweep.cell_keys, *_FACTS])
    sign = 1 if info.direction == "min" else -1
    order = (sign * frame["value"].astype(float)).sort_values(kind="stable").index
    frame = frame.loc[order].reset_index(drop=True)
    kind = value_kind(info)
    layout = [
        ReportColumn(header="trial", source="trial", kind="count"),
        *axis_columns(sweep.cell_keys),
        ReportColumn(header=metric, source="value", kind=kind),
        ReportColumn(header="seeds", source="n", kind="count"),
    ]
    if frame["held_out_n"].sum():
        layout += [
            ReportColumn(header="held out", source="held_out", kind=kind),
            ReportColumn(header="seeds", source="held_out_n", kind="count"),
        ]
    layout.append(ReportColumn(header="state", source="state"))
    where = f", runs where {' '.join(sweep.filters)}" if sweep.filters else ""
    told = told_search(sweep.sources)
    return ReportTable(
        title=f"trials by {metric}, the best first{where}",
        frame=frame,
        layout=tuple(layout),
        notes=(
            _sentence(sweep, search, frame, metric),
            *told,
            *(w for w in sweep.warnings if w not in told),
        ),
    )


def best_trials(table: ReportTable, most: int) -> ReportTable:
    """The first trials of a table of them, at most so many."""
    if len(table.frame) <= most:
        return table
    return replace(
        table, title=f"{table.title}: {most} of {len(table.frame):,}", frame=table.frame.head(most)
    )


_FACTS = ("value", "n", "held_out", "held_out_n", "checked", "missing", "state")


def search_sentence(sweep: SweepData) -> str:
    """How many trials there were, and what the best came to."""
    table = search_table(sweep)
    return str(table.notes[0])


def _rows(sweep: SweepData, search: SearchSeen, metric: str) -> list[dict[str, object]]:
    columns = sweep.columns([metric])
    table = sweep.arrow(f"SELECT {columns.identity}, run_id FROM runs")
    places = columns.locate(table)
    row_of = {
        run_id: place
        for run_id, place in zip(table["run_id"].to_pylist(), places.tolist(), strict=True)
        if place >= 0
    }
    value_R = columns.metric(metric)
    if metric == sweep.metric(search.spec.metric):
        value_R = _as_judged(value_R, columns.is_outcome("diverged"), search.spec, sweep.info(metric))
    is_open, is_stopped = columns.is_outcome("pending"), columns.is_outcome("stopped")
    is_diverged = columns.is_outcome("diverged")
    found = []
    for record in search.trials:
        here = [row_of[run_id] for run_id in record.runs if run_id in row_of]
        if not here:
            continue
        stopped, waiting = int(is_stopped[here].sum()), int(is_open[here].sum())
        value, num = (float("nan"), 0) if stopped or waiting else _mean(value_R, here)
        further = search.held_out.get(record.number)
        beside = [row_of[r] for r in further.runs if r in row_of] if further else []
        held_out, num_held_out = _mean(value_R, beside)
        found.append(
            {
                "trial": record.number,
                **{key: _shown(record.point.get(key)) for key in sweep.cell_keys},
                "value": value,
                "n": num,
                "held_out": held_out,
                "held_out_n": num_held_out,
                "checked": len(beside),
                "missing": len(here) - num,
                "state": _state(len(here), num, waiting, stopped, int(is_diverged[here].sum())),
            }
        )
    return found


def _mean(values: np.ndarray, rows: Sequence[int]) -> tuple[float, int]:
    own = values[list(rows)]
    own = own[~np.isnan(own)]
    return (float(own.mean()) if len(own) else float("nan")), len(own)


def _as_judged(
    value_R: np.ndarray, is_diverged_R: np.ndarray, spec: SamplerSpec, info: MetricInfo
) -> np.ndarray:
    """A metric as the search counts it: of runs that diverged the worst of its range, if any; none outside of
    it. Shape (R,), NaN where a run has none.
    """
    low, high = info.range
    outside_R = value_R < (-np.inf if low is None else low)
    outside_R |= value_R > (np.inf if high is None else high)
    worst = worst_of(info) if spec.diverged == "worst" else None
    judged_R = np.where(outside_R, np.nan, value_R)
    return np.where(is_diverged_R, np.nan if worst is None else worst, judged_R)


def _shown(value: object) -> object:
    """A value of an axis as tables show it: lists and mappings as text."""
    return as_text(value) if isinstance(value, (list, dict)) else value


def _state(num_runs: int, num: int, waiting: int, stopped: int, diverged: int) -> str:
    if waiting:
        return f"{waiting} of {counted(num_runs, 'run')} to come"
    if stopped:
        return f"{stopped} of {num_runs} stopped early"
    if num < num_runs:
        return f"{num_runs - num} of {num_runs} without a value"
    return f"done, {diverged} of {num_runs} diverged" if diverged else "done"


def _sentence(sweep: SweepData, search: SearchSeen, frame: pd.DataFrame, metric: str) -> str:
    spec, info, goes_by = search.spec, sweep.info(metric), sweep.metric(search.spec.metric)
    if search.unknown:
        return f"Search by {spec.kind}: its trials are not known here, since {search.unknown}."
    way = "lowest" if sweep.info(goes_by).direction == "min" else "highest"
    num_asked = max(spec.trials, len(search.trials))
    of = f"{len(frame):,} that are looked at" if sweep.filters else counted(num_asked, "trial")
    whole = frame[frame["missing"] == 0]
    said = f"Search by {spec.kind} for the {way} {goes_by}: {len(whole):,} of {of} done"
    if len(frame) > len(whole):
        said += f", {len(frame) - len(whole):,} with runs to come, stopped early or without a value"
    valued = frame[frame["n"] > 0]
    if not len(valued):
        return f"{said}; none has a value yet."
    best = valued.iloc[0]
    unit = " %" if info.is_share else f" {info.unit}" if info.unit else ""
    axes = {key: best[key] for key in sweep.cell_keys if best[key] is not None}
    by = f" in {metric}" if metric != goes_by else ""
    said += (
        f". Best{by}: trial {int(best['trial'])}, {cell_label(axes) or 'the only cell'}, "
        f"{in_numbers(info, best['value'])}{unit} on {counted(int(best['n']), 'seed')} that chose it"
    )
    others = counted(int(best["checked"]), "seed")
    if best["held_out_n"]:
        held_out = in_numbers(info, best["held_out"])
        others = counted(int(best["held_out_n"]), "seed")
        return f"{said} and {held_out}{unit} on {others} that did not."
    if best["checked"]:
        return f"{said}; of {others} that did not, none has a value."
    return f"{said}; it has not been run on others, and the best of many is lucky."
