"""Is a gain in accuracy one in form (answers found, text finished) or in the answers themselves?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from analysis.data.axes import SEED
from analysis.data.sweep import Sweep
from analysis.data.views import quoted
from analysis.findings.base import OVER_SEEDS, Finding, over_seeds, runs_and_seeds
from analysis.output import figures
from analysis.output.figures import Figure
from analysis.output.table import ReportColumn, ReportTable, percent
from analysis.tables.cell_table import headline_axis
from analysis.tables.item_means import main_setting
from sweeps.spec.text import label

_finding = partial(Finding, key="form", question="Is the gain in the form of the answers or in the answers?")

_PARTS = {"gain": "gain [95 % CI]", "form": "by form", "content": "by content"}
"""Parts of the change that have an interval, and their headings."""


def form(sweep: Sweep) -> Finding:
    """Split the gain into form (more answers found) and content (more of the found ones right).

    With f the share of completions in which an answer is found and a the accuracy among them, accuracy is f·a
    and its change is Δf·ā + f̄·Δa, with bars for the mean of before and after: exact, and symmetric in the
    two.
    """
    sampled = main_setting(sweep)
    if sampled is None:
        return _finding(missing="verdicts per item; set an eval with items")
    by = headline_axis(sweep)
    rates = _rates(sweep, by, sampled.sql)
    wide = rates.pivot_table(index=[*by, SEED], columns="moment", observed=True).dropna()
    if "base" not in rates["moment"].to_numpy() or not len(wide):
        return _finding(missing="evaluations before and after; add 0 to eval.steps")
    found, right = wide["found"], wide["accuracy"] / wide["found"].where(wide["found"] > 0)
    right = right.fillna(0.0)
    parts = pd.DataFrame(
        {
            "gain": wide["accuracy"]["after"] - wide["accuracy"]["base"],
            "form": (found["after"] - found["base"]) * right.mean(axis=1),
            "content": found.mean(axis=1) * (right["after"] - right["base"]),
            "found": found["after"] - found["base"],
            "truncated": wide["truncated"]["after"] - wide["truncated"]["base"],
            "strict": wide["strict"]["after"] - wide["strict"]["base"],
        }
    ).reset_index()
    frame = over_seeds(parts, by, "gain").rename(columns={"low": "gain_low", "high": "gain_high"})
    for name in ("form", "content", "found", "truncated", "strict"):
        part = over_seeds(parts, by, name)
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
                ReportColumn(header="seeds", source="n", kind="count"),
            ),
            notes=(
                "Form: more completions in which an answer is found; content: more of the found answers "
                "right. "
                "Exact text: the stricter grader, equality with the gold text; a gain there alone is "
                "formatting. "
                f"{OVER_SEEDS}. Rule: runs that finished.",
            ),
        ),
        figure=_figure(sweep, frame, by),
    )


def _rates(sweep: Sweep, by: Sequence[str], where: str) -> pd.DataFrame:
    keys = quoted([*by, SEED])
    columns = {"accuracy": "correct", "found": "boxed", "truncated": "truncated", "strict": "strict"}
    rates = ", ".join(
        f"list_sum({column}) / (len({column}) * num_samples) AS {name}" for name, column in columns.items()
    )
    shares = ", ".join(f"avg({name}) AS {name}" for name in columns)
    # Lists are summed before any join, which would hold them all in memory.
    return sweep.query(
        f"""
        SELECT {keys}, CASE WHEN step = 0 THEN 'base' ELSE 'after' END AS moment, {shares}
        FROM (SELECT sweep, index, step, {rates} FROM raw_items WHERE {where})
        JOIN (SELECT sweep, index, max(step) AS last FROM raw_items WHERE {where} GROUP BY ALL)
        USING (sweep, index)
        JOIN (SELECT sweep, index, {keys} FROM runs WHERE outcome = 'done') USING (sweep, index)
        WHERE step = 0 OR step = last GROUP BY ALL
        """
    )


def _sentence(row: dict, by: Sequence[str]) -> str:
    where = f"{by[0]}={label(row[by[0]])}" if by else "All runs"
    return (
        f"{where}: of {percent(row['gain'], signed=True)} points, {percent(row['form'], signed=True)} come "
        "from "
        f"answers being found and {percent(row['content'], signed=True)} from found answers being right."
    )


def _figure(sweep: Sweep, frame: pd.DataFrame, by: Sequence[str]) -> Figure:
    shown, left_out = figures.keep_groups(frame, by[0]) if by else (frame.assign(all="all runs"), "")
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
        long, y=key, x="points", x_title="change of accuracy", color="part", zero=True, share=True
    )
    return Figure(
        chart=chart, caption=f"Gain by form and by content; {runs_and_seeds(sweep)}. {OVER_SEEDS}.{left_out}"
    )
