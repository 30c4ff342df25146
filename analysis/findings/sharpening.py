"""Does pass@1 rise while pass@k falls: sharpening what the model could do, rather than learning?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.axes import SEED
from analysis.data.sweep import Sweep
from analysis.data.views import quoted
from analysis.findings.base import OVER_SEEDS, Finding, over_seeds, runs_and_seeds
from analysis.output import figures
from analysis.output.figures import Figure
from analysis.output.table import ReportColumn, ReportTable, percent
from analysis.tables.cell_table import headline_axis
from analysis.tables.item_means import EvaluationSetting, main_setting
from sweeps.spec.text import label

_finding = partial(Finding, key="sharpening", question="Does pass@1 rise while pass@k falls?")


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


def sharpening(sweep: Sweep) -> Finding:
    """pass@k before and after training, per value of the headline axis, and the k at which they cross."""
    sampled = main_setting(sweep)
    samples = _num_samples(sweep, sampled) if sampled else 0
    if sampled is None or samples < 2:
        return _finding(
            missing="several samples per item; launch with eval.num_samples=16 or more",
        )
    by = headline_axis(sweep)
    rows = _pass_rates(sweep, by, sampled.sql, samples)
    wide = rows.pivot_table(index=[*by, "k", SEED], columns="moment", values="rate", observed=True).dropna()
    if not len(wide):
        return _finding(missing="evaluations before and after; add 0 to eval.steps")
    wide["change"] = wide["after"] - wide["base"]
    change = over_seeds(wide.reset_index(), [*by, "k"], "change")
    for moment in ("base", "after"):
        change[moment] = over_seeds(wide.reset_index(), [*by, "k"], moment)[moment]
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
                ReportColumn(
                    header="change [95 % CI]", source="change", kind="gain", interval=("low", "high")
                ),
                ReportColumn(header="seeds", source="n", kind="count"),
            ),
            notes=(
                f"Unbiased pass@k from {samples} samples per item at temperature "
                f"{label(sampled.temperature)}. {OVER_SEEDS}. Rule: runs with both evaluations.",
            ),
        ),
        figure=_figure(sweep, rows, by),
    )


def _num_samples(sweep: Sweep, setting: EvaluationSetting) -> int:
    return sweep.arrow(f"SELECT max(num_samples) AS n FROM items WHERE {setting.sql}")["n"][0].as_py() or 0


def _pass_rates(sweep: Sweep, by: Sequence[str], where: str, samples: int) -> pd.DataFrame:
    """Mean pass@k per group, seed and moment, from counts of items by their number of right samples."""
    keys = quoted([*by, SEED])
    done = "SELECT sweep, index FROM runs WHERE outcome = 'done'"
    last = f"SELECT sweep, index, max(step) AS last FROM items WHERE {where} GROUP BY ALL"
    counts = sweep.query(
        f"""
        SELECT {keys}, moment, c, count(*) AS items FROM (
            SELECT {keys}, CASE WHEN step = 0 THEN 'base' ELSE 'after' END AS moment, unnest(correct) AS c
            FROM (SELECT * FROM items WHERE {where} AND num_samples = {samples})
            JOIN ({last}) USING (sweep, index) SEMI JOIN ({done}) USING (sweep, index)
            WHERE step = 0 OR step = last)
        GROUP BY ALL
        """
    )
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if k < samples] + [samples]
    parts = []
    for k in ks:
        rate = pass_at_k(np.arange(samples + 1), samples, k)[counts["c"].to_numpy()]
        parts.append(counts.assign(k=k, hits=rate * counts["items"]))
    sums = pd.concat(parts).groupby([*by, SEED, "moment", "k"], observed=True)[["hits", "items"]].sum()
    return (sums["hits"] / sums["items"]).rename("rate").reset_index()


def _sentences(change: pd.DataFrame, by: Sequence[str]) -> list[str]:
    groups = change.groupby(by[0], observed=True) if by else [(None, change)]
    sentences = []
    for value, part in groups:
        where = f"{by[0]}={label(value)}" if by else "All runs"
        first, last = part.iloc[0], part.iloc[-1]
        crossed = part[part["change"] < 0]
        text = f"{where}: pass@1 {percent(first['change'], signed=True)}, pass@{int(last['k'])} "
        text += f"{percent(last['change'], signed=True)} points"
        if first["low"] > 0 and last["high"] < 0:
            text += f"; sharpening: the curves cross at k={int(crossed['k'].iloc[0])}"
        elif first["low"] > 0 and last["low"] > 0:
            text += "; both rise"
        sentences.append(text + ".")
    return sentences


def _figure(sweep: Sweep, rows: pd.DataFrame, by: Sequence[str]) -> Figure:
    after = over_seeds(rows[rows["moment"] == "after"], [*by, "k"], "rate")
    base = over_seeds(
        rows[rows["moment"] == "base"].groupby([SEED, "k"], as_index=False)["rate"].mean(), ["k"], "rate"
    )
    names = [label(v) for v in after[by[0]]] if by else ["after"] * len(after)
    lines = pd.concat([base.assign(model="base"), after.assign(model=names)], ignore_index=True)
    lines, left_out = figures.keep_groups(lines, "model")
    chart = figures.curves(lines, x="k", y="rate", color="model", x_title="k", y_title="pass@k", share=True)
    caption = f"pass@k of the base model and after training{f' by {by[0]}' if by else ''}; "
    return Figure(chart=chart, caption=f"{caption}{runs_and_seeds(sweep)}. {OVER_SEEDS}.{left_out}")
