"""Which example to train on: does anything known beforehand tell a good one?"""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.sweep import SweepData
from analysis.data.views import literal, quoted
from analysis.findings.base import (
    Finding,
    best_setting,
    change_in_words,
    has_metric,
    runs_and_seeds,
    said_by,
)
from analysis.findings.ranks import rank_correlation
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, interval_column
from analysis.tables.compare import compare_levels
from analysis.tables.group_means import group_means
from analysis.tables.item_means import interval_words
from sweeps.spec.text import label

_finding = partial(Finding, key="examples", question="Which example is best, and could one have known?")

RULE_AXIS = "example.rule"
"""Axis of a study that compares rules by which examples are picked."""

STATISTICS = {
    "entropy": "initial entropy, nats",
    "disagreement": "p(1−p) of rollouts",
    "distinct": "distinct rollouts",
    "length": "prompt characters",
}
"""What is known of an example before any training, and how tables call it."""


def examples(sweep: SweepData, gain: str = "gain_sampled") -> Finding:
    """Gain per example beside what is known about it before training: entropy, disagreement, length.

    Where the sweep varies the rule that picked the examples, gain per rule, each tested against the first.
    """
    axis = RULE_AXIS if _is_varied(sweep, RULE_AXIS) else example_axis(sweep)
    noun = "rule" if axis == RULE_AXIS else "example"
    if axis is None or not has_metric(sweep, gain):
        what = f"runs with {gain}" if axis else "an axis of several examples"
        return _finding(missing=what)
    best, where = best_setting(sweep, [axis], gain)
    means, info = group_means(best, [axis], gain, "gain"), sweep.info(gain)
    frame = means.frame.rename(columns={axis: "example"})
    for name, values in known_before(sweep, axis).items():
        frame[name] = [values.get(label(e), np.nan) for e in frame["example"]]
    correlations = {
        name: rank_correlation(frame[name], frame["gain"]) for name in STATISTICS if frame[name].notna().any()
    }
    order = frame.sort_values("gain", ascending=False, ignore_index=True)
    best_gain, worst_gain = (
        change_in_words(info, *order.loc[row, ["gain", "low", "high"]]) for row in (0, len(order) - 1)
    )
    names = [label(value) for value in order["example"]]
    sentences = [f"Best {noun}{where}: {names[0]} ({best_gain}); worst: {names[-1]} ({worst_gain})."]
    if axis == RULE_AXIS:
        sentences += said_by(partial(compare_levels, best, axis, metric=gain))
    sentences += [
        f"Rank correlation of gain with {STATISTICS[name]}: {rho:+.2f} "
        f"(permutation p={p:.2g}, {len(frame)} {noun}s)."
        for name, (rho, p) in correlations.items()
        if rho == rho
    ]
    absent = [title for name, title in STATISTICS.items() if name not in correlations]
    note = f" Not recorded: {', '.join(absent)}." if absent else ""
    return _finding(
        sentences=tuple(sentences),
        table=ReportTable(
            title=f"Gain per {noun}{where}",
            frame=order,
            layout=(
                ReportColumn(header=noun, source="example"),
                interval_column("gain", "gain", "gain"),
                *(
                    ReportColumn(header=title, source=name, kind="number")
                    for name, title in STATISTICS.items()
                ),
                SEEDS,
            ),
            notes=(
                f"p: share of the most frequent of the base model's rollouts. {interval_words(means.over)}, "
                f"of each {noun} alone: it does not know which is best.{note} "
                "Pass-rate variance needs a labelled history and is not part of a sweep.",
            ),
        ),
        figure=Figure(
            chart=figures.dots(
                order,
                y="example",
                x="gain",
                x_title=figures.titled("gain over base", info),
                zero=True,
                share=info.is_share,
            ),
            caption=f"Gain per {noun}{where}; {runs_and_seeds(best, gain)}. {interval_words(means.over)}.",
        ),
    )


def example_axis(sweep: SweepData) -> str | None:
    """The axis along which runs train on different examples: ``example``, or its rows or ids."""
    return next((key for key in ("example", "example.rows", "example.ids") if _is_varied(sweep, key)), None)


def _is_varied(sweep: SweepData, key: str) -> bool:
    return any(axis.key == key and len(axis.values) > 1 for axis in sweep.axes)


def known_before(sweep: SweepData, axis: str) -> dict[str, dict[str, float]]:
    """What is known of each example before training, by statistic and by the label of its axis value."""
    known: dict[str, dict[str, float]] = {name: {} for name in STATISTICS}
    example = f"{quoted([axis])} AS example"
    if has_metric(sweep, "first_entropy_nats"):
        means = sweep.query(f"SELECT {example}, avg(first_entropy_nats) AS value FROM runs GROUP BY ALL")
        known["entropy"] = _by_example(means)
    if sweep.has("steps") and "num_distinct" in sweep.arrow("SELECT * FROM steps LIMIT 0").column_names:
        means = sweep.query(
            f"SELECT {example}, avg(num_distinct) AS value FROM steps WHERE step = 1 GROUP BY ALL"
        )
        known["distinct"] = _by_example(means)
    if sweep.has("rollouts"):
        means = sweep.query(
            f"""
            SELECT example, avg(p * (1 - p)) AS value FROM (
                SELECT sweep, index, {example}, prompt, max(count) / sum(count) AS p
                FROM rollouts WHERE step = 0 GROUP BY ALL) GROUP BY ALL
            """
        )
        known["disagreement"] = _by_example(means)
    known["length"] = _prompt_lengths(sweep, axis)
    return known


def _by_example(means: pd.DataFrame) -> dict[str, float]:
    return {label(e): float(v) for e, v in zip(means["example"], means["value"], strict=True) if v == v}


def _prompt_lengths(sweep: SweepData, axis: str) -> dict[str, float]:
    """Mean over the prompts of all examples that share the axis value, characters."""
    lengths: dict[str, list[float]] = {}
    for source in sweep.sources:
        if axis not in source.columns:
            continue
        path = literal(str(source.manifest))
        sql = f'SELECT DISTINCT {quoted([axis])} AS example, "spec.example" AS spec FROM read_parquet({path})'
        for row in sweep.arrow(sql).to_pylist():
            prompts = json.loads(row["spec"]).get("prompts") or ()
            if prompts:
                mean = float(np.mean([len(p) for p in prompts]))
                lengths.setdefault(label(row["example"]), []).append(mean)
    return {example: float(np.mean(means)) for example, means in lengths.items()}
