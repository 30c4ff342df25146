"""Does pass@1 rise while pass@k falls: sharpening what the model could do, rather than learning?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.columns import RunArrays
from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, runs_and_seeds
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, interval_column, percent
from analysis.stats.intervals import CHANGE, mean_interval
from analysis.tables.cell_table import headline_axis
from analysis.tables.crossed_means import crossed_change, over_items_too
from analysis.tables.headline import family_level
from analysis.tables.item_means import interval_words, main_setting
from analysis.tables.seed_values import OVER_SEEDS, SeedGroups
from analysis.tables.verdicts import EvaluationSetting
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.text import label

_finding = partial(Finding, key="sharpening", question="Does pass@1 rise while pass@k falls?")

_RATE = MetricInfo(range=(0.0, 1.0))


def pass_at_k(correct: np.ndarray, n: int, k: int) -> np.ndarray:
    """Unbiased chance that one of k samples is right, given ``correct`` of n: 1 − C(n−c, k) / C(n, k).

    In the stable product form of Chen et al. (2021, arXiv 2107.03374).
    """
    correct = np.asarray(correct)
    result = np.ones(correct.shape)
    few = n - correct >= k
    for index in np.flatnonzero(few):
        c = int(correct[index])
        result[index] = 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))
    return result


def sharpening(sweep: SweepData) -> Finding:
    """pass@k before and after training, per value of the headline axis, and the k at which they cross."""
    sampled = main_setting(sweep)
    samples = _num_samples(sweep, sampled) if sampled else 0
    if sampled is None or samples < 2:
        return _finding(
            missing="several samples per item; launch with eval.num_samples=16 or more",
        )
    by = headline_axis(sweep)
    columns = sweep.columns()
    rates = _pass_rates(columns, sampled.sql, samples)
    both = ~np.isnan(rates[1]["base"] + rates[1]["after"])
    if not both.any():
        return _finding(missing="evaluations before and after; add 0 to eval.steps")
    arranged = SeedGroups(columns, by)
    # What is said is said of every row and of both ends of k: their intervals hold together.
    level = family_level(arranged.groups.size, arranged.groups.size)
    parts = []
    for k, rate in rates.items():
        change_R = rate["after"] - rate["base"]
        part = arranged.estimate(change_R, "change").assign(k=k)
        claims = mean_interval(arranged.values(change_R), level)
        kept = claims.n > 0
        worth = pass_at_k(np.arange(samples + 1), samples, k)
        estimating = partial(crossed_change, sweep, arranged, sampled, change_R, worth)
        estimate = over_items_too(sweep, f"accuracy_{sampled.mode}", by, claims.n, estimating)
        if estimate is not None:
            ends, claims = estimate.interval(bounds=CHANGE), estimate.interval(level, CHANGE)
            part["low"], part["high"] = ends.low[kept], ends.high[kept]
        over = "seeds" if estimate is None else "both"  # of every k, for all rest on the same evaluations
        part["sure_low"], part["sure_high"] = claims.low[kept], claims.high[kept]
        for moment, value_R in rate.items():
            part[moment] = arranged.estimate(np.where(both, value_R, np.nan), moment, _RATE)[moment]
        parts.append(part)
    change = pd.concat(parts, ignore_index=True).sort_values([*by, "k"], ignore_index=True)
    return _finding(
        sentences=tuple(_sentences(change, by)),
        table=ReportTable(
            title="pass@k before and after training",
            frame=change,
            layout=(
                *(ReportColumn(header=key, source=key) for key in by),
                ReportColumn(header="k", source="k", kind="count"),
                ReportColumn(header="base", source="base", kind="points"),
                ReportColumn(header="after", source="after", kind="points"),
                interval_column("change", "change", "gain"),
                SEEDS,
            ),
            notes=(
                f"Unbiased pass@k from {samples} samples per item at temperature "
                f"{label(sampled.temperature)}. {interval_words(over)}; what is said of the rows holds for "
                "all of them together (Bonferroni). Rule: runs with both evaluations.",
            ),
        ),
        figure=_figure(sweep, rates, both, by),
    )


def _num_samples(sweep: SweepData, setting: EvaluationSetting) -> int:
    return sweep.arrow(f"SELECT max(num_samples) AS n FROM items WHERE {setting.sql}")["n"][0].as_py() or 0


def _pass_rates(columns: RunArrays, where: str, samples: int) -> dict[int, dict[str, np.ndarray]]:
    """By k and moment, pass@k of each finished run, from counts of items by their number of right samples."""
    judged = (
        f"SELECT {columns.identity}, step, unnest(correct) AS c FROM raw_items "
        f"WHERE {where} AND num_samples = {samples}"
    )
    last = f"SELECT {columns.identity}, max(step) AS last FROM raw_items WHERE {where} GROUP BY ALL"
    counts = columns.rows(
        f"SELECT {columns.identity}, step = 0 AS base, c, count(*) AS items FROM ({judged}) "
        f"JOIN ({last}) USING ({columns.identity}) WHERE step = 0 OR step = last GROUP BY ALL"
    )
    done = columns.is_outcome("done")
    row = columns.locate(counts)
    kept = (row >= 0) & done[row]
    row, base, c, items = (
        values[kept] for values in (row, *(counts[name].to_numpy() for name in ("base", "c", "items")))
    )
    rates: dict[int, dict[str, np.ndarray]] = {}
    for k in [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if k < samples] + [samples]:
        hits = pass_at_k(np.arange(samples + 1), samples, k)[c] * items
        rates[k] = {}
        for moment, mask in (("base", base), ("after", ~base)):
            num_items, num_hits = (
                np.bincount(row[mask], weights=weight[mask], minlength=len(columns))
                for weight in (items, hits)
            )
            rates[k][moment] = np.where(num_items > 0, num_hits / np.maximum(num_items, 1), np.nan)
    return rates


def _sentences(change: pd.DataFrame, by: Sequence[str]) -> list[str]:
    groups = change.groupby(by[0], observed=True) if by else [(None, change)]
    sentences = []
    for value, part in groups:
        where = cell_label({by[0]: value}) if by else "All runs"
        first, last = part.iloc[0], part.iloc[-1]
        crossed = part[part["change"] < 0]
        text = f"{where}: pass@1 {percent(first['change'], signed=True)}, pass@{int(last['k'])} "
        text += f"{percent(last['change'], signed=True)} points"
        if first["sure_low"] > 0 and last["sure_high"] < 0:
            text += f"; sharpening: the curves cross at k={int(crossed['k'].iloc[0])}"
        elif first["sure_low"] > 0 and last["sure_low"] > 0:
            text += "; both rise"
        sentences.append(text + ".")
    return sentences


def _figure(
    sweep: SweepData, rates: dict[int, dict[str, np.ndarray]], both: np.ndarray, by: Sequence[str]
) -> Figure:
    columns = sweep.columns()
    base, after = (
        pd.concat(
            SeedGroups(columns, axes)
            .estimate(np.where(both, rate[moment], np.nan), "rate", _RATE)
            .assign(k=k)
            for k, rate in rates.items()
        )
        for moment, axes in (("base", ()), ("after", by))
    )
    names = [label(v) for v in after[by[0]]] if by else ["after"] * len(after)
    lines = pd.concat([base.assign(model="base"), after.assign(model=names)], ignore_index=True)
    lines, left_out = figures.keep_groups(lines, "model", "rate")
    chart = figures.curves(
        lines, x="k", y="rate", color="model", x_title="samples k", y_title="pass@k (%)", share=True
    )
    caption = f"pass@k of the base model and after training{f' by {by[0]}' if by else ''}; "
    bands = (
        f"Bands: {OVER_SEEDS} only, of each curve on these items; what is said rests on their differences."
    )
    return Figure(chart=chart, caption=f"{caption}{runs_and_seeds(sweep)}. {bands}{left_out}")
