"""Do loss and accuracy decouple: does accuracy rise, peak and fall while the loss keeps going down?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, runs_and_seeds
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, interval_column, percent
from analysis.stats.intervals import LEVEL, mean_of
from analysis.stats.testing import paired_difference
from analysis.tables.cell_table import headline_axis
from analysis.tables.falls import Fall, falls
from analysis.tables.item_means import OVER_WORDS, over_or_default
from analysis.tables.peaks import MEMBERS_CHANGE, peaks
from analysis.tables.seed_values import (
    OVER_SEEDS,
    SeedGroups,
    curves,
    shared_steps,
    values_by_step,
    where_curves_end,
)
from sweeps.spec.metrics import MetricInfo

_finding = partial(
    Finding, key="decoupling", question="Does accuracy rise and then fall while the loss keeps falling?"
)


def decoupling(sweep: SweepData, metric: str = "accuracy_sampled") -> Finding:
    """Peak step and collapse step per value of the headline axis.

    The collapse step is the first evaluated step after the peak of the mean curve whose paired fall from the
    peak is beyond noise, corrected for the steps and rows that could have been chosen.
    """
    columns = set(sweep.arrow("SELECT * FROM steps LIMIT 0").column_names) if sweep.has("steps") else set()
    if not {metric, "loss"} <= columns:
        return _finding(missing=f"steps with loss and {metric}; none are recorded")
    by = headline_axis(sweep)
    arranged = SeedGroups(sweep.columns([metric]), by)
    judged = dict(values_by_step(arranged, metric))
    if sum(step > 0 for step in judged) < 2:
        return _finding(
            missing="evaluations after two steps of training or more; set eval.steps, for example "
            "eval.steps=[0,1,2,5,10]",
        )
    loss = {step: mean_of(values) for step, values in values_by_step(arranged, "loss", counted_by=metric)}
    groups = arranged.frame()
    over = over_or_default(sweep, metric, None, by)
    columns_G = peaks(sweep, by, metric)[0]
    peak_G, trained = columns_G["peak_step"].astype(float), [step for step in judged if step > 0]
    wanted = [*trained, None]
    fallen = dict(zip(wanted, falls(sweep, by, metric, peak_G, over, wanted), strict=True))
    rows = [g for g in range(len(groups)) if any(not np.isnan(v[g]).all() for v in judged.values())]
    info, level = sweep.info(metric), (1 - LEVEL) / max(1, len(rows))
    lines = [
        groups.iloc[g][by].to_dict()
        | _line(
            pd.DataFrame({step: values_GS[g] for step, values_GS in judged.items()}, index=arranged.seeds),
            pd.Series({step: mean_G[g] for step, mean_G in loss.items()}, dtype=float).dropna(),
            {step: fall[g] for step, fall in fallen.items()},
            info,
            level,
        )
        for g in rows
    ]
    frame = pd.DataFrame(lines)
    return _finding(
        sentences=tuple(_sentence(line, by) for line in lines),
        table=ReportTable(
            title=f"Peak and collapse of {metric}",
            frame=frame,
            layout=(
                *(ReportColumn(header=key, source=key) for key in by),
                ReportColumn(header="base", source="base", kind="points"),
                ReportColumn(header="peak", source="peak", kind="points"),
                ReportColumn(header="peak step", source="peak_step", kind="count"),
                ReportColumn(header="end", source="final", kind="points"),
                interval_column("fall", "fall", "gain", ("fall_low", "fall_high")),
                ReportColumn(header="collapse step", source="collapse_step", kind="count"),
                ReportColumn(header="below base from", source="below_base_step", kind="count"),
                ReportColumn(header="loss since peak", source="loss_change", kind="number"),
                SEEDS,
            ),
            notes=(
                "Collapse step: first evaluated step after the peak whose paired fall, over "
                f"{OVER_WORDS[over]}, is beyond zero at 5 % over all pairs of steps and {len(rows)} rows "
                "together (Bonferroni): the peak is the highest of several steps. Interval of the fall: "
                "95 %, of this pair alone. "
                f"Rule: runs with a final {metric} only, so that no curve bends because runs diverge.",
                *([MEMBERS_CHANGE] if shared_steps(arranged, metric).mixed_G.any() else []),
            ),
        ),
        figure=_figure(sweep, by, metric),
    )


def _line(
    curve: pd.DataFrame,
    loss: pd.Series,
    fallen: Mapping[int | None, Fall | None],
    info: MetricInfo,
    level: float,
) -> dict[str, object]:
    """One group: ``curve`` has a row per seed and a column per step, ``loss`` the mean per step, ``fallen``
    the tested fall from the peak to each step, and (``None``) to the runs' own end.
    """
    curve = curve.dropna(how="all").dropna(how="all", axis="columns")
    mean = pd.Series(mean_of(curve.to_numpy().T), index=curve.columns)
    trained = info.sign * mean[mean.index > 0]  # the base model is no peak of training
    peak, end = int(trained.idxmax()), int(mean.index[-1])
    claims = [step for step, fall in fallen.items() if fall is not None and fall.is_claimed(info.sign, level)]
    collapse = min((step for step in claims if step is not None and step > peak), default=None)
    last = fallen[None]
    fall = last.test if last is not None else paired_difference((curve[end] - curve[peak]).to_numpy())
    below = next((step for step in mean.index if step > peak and mean[step] < mean.iloc[0]), None)
    after = loss[loss.index >= max(peak, loss.index[0])] if len(loss) else loss
    return {
        "base": mean.iloc[0],
        "base_judged": bool(mean.index[0] == 0),
        "peak": mean[peak],
        "peak_step": peak,
        "final": mean[end],
        "fall": fall.mean,
        "fall_low": fall.low,
        "fall_high": fall.high,
        "falls": None in claims,
        "collapse_step": np.nan if collapse is None else collapse,
        "below_base_step": np.nan if below is None else below,
        "loss_change": float(after.iloc[-1] - after.iloc[0]) if len(after) else np.nan,
        "n": len(curve),
    }


def _sentence(line: dict, by: list[str]) -> str:
    where = cell_label({key: line[key] for key in by}) or "All runs"
    if line["falls"]:
        if line["peak"] < line["base"] and line["base_judged"]:
            below = percent(line["base"] - line["final"])
            return f"{where}: never above the base model; ends {below} points below it."
        loss = "while the loss kept falling" if line["loss_change"] < 0 else "and the loss rose too"
        return (
            f"{where}: peaks at {percent(line['peak'])} at step {line['peak_step']} and ends "
            f"{percent(-line['fall'])} points lower, {loss}."
        )
    return f"{where}: highest at step {line['peak_step']} ({percent(line['peak'])}); no fall beyond noise."


def _figure(sweep: SweepData, by: list[str], metric: str) -> Figure:
    accuracy = curves(sweep, by, metric)
    loss = curves(sweep, by, "loss", counted_by=metric)
    left_out = ""
    if by:
        accuracy, left_out = figures.keep_groups(accuracy, by[0], metric)
        loss = loss[loss[by[0]].isin(accuracy[by[0]])]
    color = by[0] if by else None
    charts = [
        figures.curves(
            accuracy,
            x="step",
            y=metric,
            color=color,
            x_title="optimizer step",
            y_title=sweep.info(metric).title(metric),
            share=sweep.info(metric).is_share,
        ),
        figures.curves(loss, x="step", y="loss", color=color, x_title="optimizer step", y_title="loss"),
    ]
    words = sweep.info(metric).words or metric
    caption = f"Mean {words} and loss by step; {runs_and_seeds(sweep)}. Bands: {OVER_SEEDS}.{left_out}"
    caption += where_curves_end(sweep, by, metric)
    return Figure(chart=figures.beside(charts), caption=caption)
