"""Is the base model judged fairly: how good is it under its best decoding and grading?"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from analysis.data.axes import SEED
from analysis.data.sweep import SweepData
from analysis.data.views import quoted
from analysis.findings.base import Finding, runs_and_seeds
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, interval_column, percent
from analysis.stats.crossed import crossed_interval
from analysis.stats.intervals import mean_of
from analysis.tables.item_means import setting_of, settings
from analysis.tables.seed_values import gather
from analysis.tables.verdicts import EvaluationSetting
from sweeps.spec.text import label

_finding = partial(
    Finding,
    key="baseline",
    question="How much of the gain is left against the base model under its best protocol?",
)

_GRADERS = {"correct": "math-verify", "strict": "exact text"}


def baseline(sweep: SweepData) -> Finding:
    """Base accuracy under every decoding and grader recorded, and the gain over the best of them."""
    decodings = settings(sweep)
    has_base = decodings and sweep.arrow("SELECT count(*) AS n FROM items WHERE step = 0")["n"][0].as_py()
    if not has_base:
        return _finding(missing="evaluations of the base model; add 0 to eval.steps")
    by: list[str] = [
        key for key in ("model", "eval") if key in sweep.axis_keys and len(sweep.axis(key).values) > 1
    ]
    parts = [
        _accuracy(sweep, by, setting, column).assign(protocol=f"{_name(setting)}, {grader}")
        for setting in decodings
        for column, grader in _GRADERS.items()
    ]
    frame = pd.concat(parts, ignore_index=True)
    groups = frame.groupby(by, observed=True, sort=False, dropna=False) if by else [((), frame)]
    sentences, best = [], []
    for values, part in groups:
        where = (
            ", ".join(label(v) for v in (values if isinstance(values, tuple) else (values,))) or "Base model"
        )
        top, low = part.loc[part["accuracy"].idxmax()], part.loc[part["accuracy"].idxmin()]
        best.append(top["accuracy"])
        sentences.append(
            f"{where}: from {percent(low['accuracy'])} ({low['protocol']}) to {percent(top['accuracy'])} "
            f"({top['protocol']}) before any training."
        )
    sentences += _left(sweep, by, frame, decodings)
    notes = ["Intervals: 95 %, over items (these seeds, other items). Each base model counts once per seed."]
    if len(frame) == 2 * max(1, len(frame) // 2) and len(decodings) < 3:
        notes.append("Prompt templates are one more protocol: sweep eval.template or several eval options.")
    return _finding(
        sentences=tuple(sentences),
        table=ReportTable(
            title="Base model under every recorded protocol",
            frame=frame,
            layout=(
                *(ReportColumn(header=key, source=key) for key in by),
                ReportColumn(header="protocol", source="protocol"),
                interval_column("accuracy", "accuracy", "points"),
                SEEDS,
            ),
            notes=tuple(notes),
        ),
        figure=_figure(sweep, frame, by),
    )


def _name(setting: EvaluationSetting) -> str:
    return "greedy" if setting.mode == "greedy" else f"sampled at T={label(setting.temperature)}"


def _accuracy(sweep: SweepData, by: list[str], setting: EvaluationSetting, column: str) -> pd.DataFrame:
    """Base accuracy with its interval over items; equal base evaluations of one seed count once."""
    keys = quoted([*by, SEED])
    one_per_seed = (
        f"SELECT {keys}, any_value({column}) AS verdicts, any_value(num_samples) AS num_samples "
        f"FROM items WHERE step = 0 AND {setting.sql} GROUP BY {keys}"
    )
    rows = sweep.query(one_per_seed).sort_values([*by, SEED], ignore_index=True)
    groups = rows[by].drop_duplicates().reset_index(drop=True) if by else pd.DataFrame(index=[0])
    code = (
        rows.groupby(by, sort=False, observed=True, dropna=False).ngroup().to_numpy()
        if by
        else np.zeros(len(rows), int)
    )
    lines = []
    for g in range(len(groups)):
        part = rows[code == g]
        values_SI = (
            np.stack([np.asarray(v) for v in part["verdicts"]]) / part["num_samples"].to_numpy()[:, None]
        )
        interval = crossed_interval(values_SI[None], "items")
        lines.append((interval.value[0], interval.low[0], interval.high[0], len(part)))
    return groups.assign(**dict(zip(("accuracy", "low", "high", "n"), zip(*lines, strict=True), strict=True)))


def _left(
    sweep: SweepData, by: list[str], frame: pd.DataFrame, decodings: list[EvaluationSetting]
) -> list[str]:
    """Best cell's accuracy per model against the best base protocol."""
    metrics = [m for m in sweep.metrics if m.startswith("accuracy")]
    if not metrics:
        return []
    sentences = []
    for metric in metrics[:1] if len(decodings) == 1 else metrics:
        gathered = gather(sweep, sweep.cell_keys, metric)
        means = gathered.groups[by].assign(top=mean_of(gathered.values))
        base = frame.groupby(by, observed=True)["accuracy"].max() if by else frame["accuracy"].max()
        top = means.groupby(by, observed=True)["top"].max() if by else means["top"].max()
        left = (top - base).max() if by else top - base
        side = "above" if left >= 0 else "below"
        sentences.append(
            f"{metric} of the best cell ({_name(setting_of(sweep, metric))}) stands "
            f"{percent(abs(float(left)))} "
            f"points {side} the best base protocol; the cell was chosen as the best, so this flatters it."
        )
    return sentences


def _figure(sweep: SweepData, frame: pd.DataFrame, by: list[str]) -> Figure:
    shown, left_out = figures.keep_groups(frame, by[0], "accuracy") if by else (frame, "")
    chart = figures.dots(
        shown,
        y="protocol",
        x="accuracy",
        x_title="accuracy of the base model (%)",
        color=by[0] if by else None,
        share=True,
    )
    caption = f"Base model under every recorded protocol; {runs_and_seeds(sweep)}. 95 % intervals over items."
    return Figure(chart=chart, caption=caption + left_out)
