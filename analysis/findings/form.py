"""Is a gain in accuracy one in form (answers found, text finished) or in the answers themselves?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.columns import RunArrays
from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, change_in_words, runs_and_seeds
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, percent
from analysis.stats.intervals import CHANGE
from analysis.tables.cell_table import headline_axis
from analysis.tables.crossed_means import crossed_change, over_items_too
from analysis.tables.item_means import interval_words, main_setting
from analysis.tables.seed_values import OVER_SEEDS, SeedGroups
from sweeps.spec.metrics import SHARE, MetricInfo

_finding = partial(Finding, key="form", question="Is the gain in the form of the answers or in the answers?")

_PARTS = {"gain": "gain [95 % CI]", "form": "by form", "content": "by content"}
"""Parts of the change that have an interval, and their headings."""

_PARTS_OVER = (
    f"By form, by content: {OVER_SEEDS} only, on these items: they are products of shares of a whole run, "
    "and no item has its own."
)

_CHANGE = MetricInfo(unit=SHARE, range=(-1.0, 1.0), difference=True)


def form(sweep: SweepData) -> Finding:
    """Split the gain into form (more answers found) and content (more of the found ones right).

    With f the share of completions in which an answer is found and a the accuracy among them, accuracy is f·a
    and its change is Δf·ā + f̄·Δa, with bars for the mean of before and after: exact for every run, and
    symmetric in the two.
    """
    sampled = main_setting(sweep)
    if sampled is None:
        return _finding(missing="verdicts per item; set an eval with items")
    by = headline_axis(sweep)
    columns = sweep.columns()
    parts = _parts(columns, sampled.sql)
    if np.isnan(parts["gain"]).all():
        return _finding(missing="evaluations before and after; add 0 to eval.steps")
    arranged = SeedGroups(columns, by)
    frame = arranged.estimate(parts["gain"], "gain", _CHANGE).rename(
        columns={"low": "gain_low", "high": "gain_high"}
    )
    seeds_G = (~np.isnan(arranged.values(parts["gain"]))).sum(axis=1)
    estimating = partial(crossed_change, sweep, arranged, sampled, parts["gain"])
    estimate = over_items_too(sweep, f"accuracy_{sampled.mode}", by, seeds_G, estimating)
    if estimate is not None:
        ends = estimate.interval(bounds=CHANGE)
        frame["gain_low"], frame["gain_high"] = ends.low[seeds_G > 0], ends.high[seeds_G > 0]
    over = interval_words("seeds" if estimate is None else "both")
    for name in ("form", "content", "found", "truncated", "strict"):
        part = arranged.estimate(parts[name], name, _CHANGE)
        frame[[name, f"{name}_low", f"{name}_high"]] = part[[name, "low", "high"]].to_numpy()
    return _finding(
        sentences=tuple(_sentence(row, by) for row in frame.to_dict("records")),
        table=ReportTable(
            title="Gain split into form and content",
            frame=frame,
            layout=(
                *(ReportColumn(header=key, source=key) for key in by),
                *(
                    ReportColumn(
                        header=header, source=name, kind="gain", interval=(f"{name}_low", f"{name}_high")
                    )
                    for name, header in _PARTS.items()
                ),
                ReportColumn(header="answers found", source="found", kind="gain"),
                ReportColumn(header="cut off", source="truncated", kind="gain"),
                ReportColumn(header="gain, exact text", source="strict", kind="gain"),
                SEEDS,
            ),
            notes=(
                "Form: more completions in which an answer is found; content: more of the found answers "
                "right. "
                "Exact text: the stricter grader, equality with the gold text; a gain there alone is "
                "formatting. "
                f"Gain: {over}. {_PARTS_OVER} Rule: runs that finished.",
            ),
        ),
        figure=_figure(sweep, frame, by),
    )


def _parts(columns: RunArrays, where: str) -> dict[str, np.ndarray]:
    """Parts of the change of each finished run that was judged before and after, NaN for any other."""
    shares = {"accuracy": "correct", "found": "boxed", "truncated": "truncated", "strict": "strict"}
    rates = ", ".join(
        f"avg(list_sum({column}) / (len({column}) * num_samples)) AS {name}"
        for name, column in shares.items()
    )
    last = f"SELECT {columns.identity}, max(step) AS last FROM raw_items WHERE {where} GROUP BY ALL"
    base = columns.per_run(
        f"SELECT {columns.identity}, {rates} FROM raw_items WHERE {where} AND step = 0 GROUP BY ALL"
    )
    after = columns.per_run(
        f"SELECT {columns.identity}, {rates} FROM raw_items JOIN ({last}) USING ({columns.identity}) "
        f"WHERE {where} AND step = last AND step > 0 GROUP BY ALL"
    )
    done = columns.is_outcome("done")
    share_found, after_found = base["found"], after["found"]
    with np.errstate(invalid="ignore", divide="ignore"):
        right, after_right = (
            np.where(one["found"] > 0, one["accuracy"] / one["found"], 0 * one["found"])
            for one in (base, after)
        )
    parts = {
        "gain": after["accuracy"] - base["accuracy"],
        "form": (after_found - share_found) * (right + after_right) / 2,
        "content": (share_found + after_found) / 2 * (after_right - right),
        **{name: after[name] - base[name] for name in ("found", "truncated", "strict")},
    }
    return {name: np.where(done, part, np.nan) for name, part in parts.items()}


def _sentence(row: dict, by: Sequence[str]) -> str:
    where = cell_label({by[0]: row[by[0]]}) if by else "All runs"
    return (
        f"{where}: of {change_in_words(_CHANGE, row['gain'], row['gain_low'], row['gain_high'])}, "
        f"{percent(row['form'], signed=True)} come from answers being found and "
        f"{percent(row['content'], signed=True)} from found answers being right."
    )


def _figure(sweep: SweepData, frame: pd.DataFrame, by: Sequence[str]) -> Figure:
    shown, left_out = figures.keep_groups(frame, by[0], "gain") if by else (frame.assign(all="all runs"), "")
    key = by[0] if by else "all"
    long = pd.concat(
        pd.DataFrame(
            {
                key: shown[key],
                "part": name,
                "points": shown[name],
                "low": shown[f"{name}_low"],
                "high": shown[f"{name}_high"],
            }
        )
        for name in ("form", "content")
    )
    chart = figures.dots(
        long, y=key, x="points", x_title="change of accuracy (points)", color="part", zero=True, share=True
    )
    return Figure(
        chart=chart, caption=f"Gain by form and by content; {runs_and_seeds(sweep)}. {_PARTS_OVER}{left_out}"
    )
