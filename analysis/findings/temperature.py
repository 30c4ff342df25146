"""Which training temperature goes with which evaluation temperature?"""

from __future__ import annotations

from functools import partial

import pandas as pd

from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, best_setting, change_in_words, runs_and_seeds
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, interval_column, percent
from analysis.tables.group_means import group_means
from analysis.tables.item_means import interval_words, setting_of, settings
from analysis.tables.verdicts import EvaluationSetting
from sweeps.spec.text import label

_finding = partial(
    Finding, key="temperature", question="Which training temperature suits which evaluation temperature?"
)

TRAINING_AXIS = "objective.temperature"
"""Axis of the training temperature τ."""


def temperature(sweep: SweepData) -> Finding:
    """Gain over base for every training temperature under every decoding setting of the evaluation."""
    by_setting = _metric_of(sweep)
    varied = TRAINING_AXIS in sweep.axis_keys and len(sweep.axis(TRAINING_AXIS).values) > 1
    if not varied or not by_setting:
        what = f"an axis {TRAINING_AXIS} with several values" if not varied else "evaluations per item"
        return _finding(
            missing=f"{what}; sweep {TRAINING_AXIS}=0.25,0.5,1.0 and set eval.temperatures=[0.6,1.0]",
        )
    about = sweep.metric()
    about = about if about in by_setting.values() else next(iter(by_setting.values()))
    first = about.replace("accuracy", "gain", 1)
    best_sweep, where = best_setting(sweep, [TRAINING_AXIS], first)
    means = {
        _name(setting): group_means(
            best_sweep, [TRAINING_AXIS], metric.replace("accuracy", "gain", 1), "gain"
        )
        for setting, metric in by_setting.items()
    }
    frame = pd.concat([one.frame.assign(evaluation=name) for name, one in means.items()], ignore_index=True)
    frame = frame.rename(columns={TRAINING_AXIS: "train"})
    over = " or ".join(dict.fromkeys(interval_words(one.over) for one in means.values()))
    info = sweep.info(first)
    frame["shown"] = [percent(v, signed=True) for v in frame["gain"]]
    best = frame.loc[frame.groupby("evaluation", sort=False)["gain"].idxmax()]
    note = (
        ""
        if len(by_setting) > 2
        else " One sampling temperature only: set eval.temperatures to see the rest."
    )
    return _finding(
        sentences=tuple(
            f"Evaluated {row.evaluation}: best trained at τ={label(row.train)} "
            f"({change_in_words(info, row.gain, row.low, row.high)})."
            for row in best.itertuples()
        ),
        table=ReportTable(
            title=f"Gain over base by training and evaluation temperature{where}",
            frame=frame,
            layout=(
                ReportColumn(header="training τ", source="train"),
                ReportColumn(header="evaluation", source="evaluation"),
                interval_column("gain", "gain", "gain"),
                SEEDS,
            ),
            notes=(
                f"{over}, of each τ alone: it does not know which is best; all other axes are averaged "
                f"within each seed.{note}",
            ),
        ),
        figure=Figure(
            chart=figures.heatmap(
                frame,
                x="train",
                y="evaluation",
                value="gain",
                text="shown",
                x_title="training temperature τ",
                y_title="",
            ),
            caption=(
                f"Gain over base in points{where}; {runs_and_seeds(best_sweep, first)}, others averaged."
                f"{note}"
            ),
        ),
    )


def _metric_of(sweep: SweepData) -> dict[EvaluationSetting, str]:
    """The accuracy metric of each decoding setting that has a gain."""
    names = set(sweep.metrics)
    metrics = [m for m in names if m.startswith("accuracy") and m.replace("accuracy", "gain", 1) in names]
    if not settings(sweep):
        return {}
    metric_by_setting = {setting_of(sweep, metric): metric for metric in metrics}
    return dict(sorted(metric_by_setting.items(), key=lambda item: item[0].temperature))


def _name(setting: EvaluationSetting) -> str:
    return "greedy" if setting.mode == "greedy" else f"sampled at T={label(setting.temperature)}"
