"""Does training in rounds on a model's own completions go on raising accuracy, and only if it is curated?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.columns import RunArrays
from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, change_in_words, has_metric, runs_and_seeds
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, axis_columns, interval_column
from analysis.stats.intervals import CHANGE, Interval, mean_interval
from analysis.tables.headline import family_level
from analysis.tables.seed_values import OVER_SEEDS, SeedGroups

_finding = partial(
    Finding, key="rounds", question="Does training on its own completions, round by round, go on helping?"
)

CURATE = "curate"
"""Axis of the procedure, and what keys of its settings begin with."""

UNCURATED = "uncurated"
"""The procedure that trains on all that the model wrote."""


def rounds(sweep: SweepData, metric: str = "accuracy_sampled") -> Finding:
    """Accuracy after each round, whether it rose until the last one, and curated runs against uncurated
    ones.

    Escaping Collapse (arXiv 2502.08924) claims: without curation a plateau or a collapse, with a weak one a
    rise.
    """
    goes_in_rounds = {"round", metric} <= set(sweep.arrow("SELECT * FROM steps LIMIT 0").column_names)
    columns = sweep.columns([metric]) if goes_in_rounds and has_metric(sweep, metric) else None
    after = _after_rounds(columns, metric) if columns is not None else {}
    if columns is None or len(after) < 3:
        return _finding(
            missing="runs in rounds that are judged after each: curate=escaping_collapse, and the last step "
            "of every round among eval.steps",
        )
    keys = [axis.key for axis in sweep.axes if axis.key in columns.cell_keys and len(axis.values) > 1]
    arranged = SeedGroups(columns, keys)
    judged = ~np.isnan(np.stack(list(after.values()))).any(axis=0)  # the same runs behind every round
    values = {number: arranged.values(np.where(judged, value_R, np.nan)) for number, value_R in after.items()}
    frame, info = arranged.frame(), sweep.info(metric)
    table = pd.concat(
        [_rows(frame, number, mean_interval(values_GS)) for number, values_GS in values.items()]
    ).sort_values([*keys, "round"], ignore_index=True)
    first, second, last = 0, min(n for n in values if n), max(values)
    against = _uncurated_of(frame)
    compared = {group: other for group, other in against.items() if other is not None}
    level = family_level(2 * len(frame), len(compared))
    change = partial(mean_interval, level=level, bounds=CHANGE if info.is_share else None)
    whole, later = (change(values[last] - values[since]) for since in (first, second))
    sentences = []
    for group in range(len(frame)):
        told = [change_in_words(info, *_ends(interval, group)) for interval in (whole, later)]
        where = cell_label(frame.iloc[group].to_dict())
        sentences.append(
            f"{where}: {told[0]} over {last} rounds, {told[1]} of it after the first; "
            f"{_verdict(later, group)}."
        )
    for group, other in compared.items():
        apart = change(values[last][[group]] - values[last][[other]])
        told_apart = change_in_words(info, *_ends(apart, 0))
        sentences.append(
            f"{cell_label(frame.iloc[group].to_dict())} against {CURATE}={UNCURATED} after {last} rounds: "
            f"{told_apart}."
        )
    return _finding(
        sentences=tuple(sentences),
        table=ReportTable(
            title=f"{metric} after each round",
            frame=table,
            layout=(
                *axis_columns(keys),
                ReportColumn(header="round", source="round", kind="count"),
                interval_column(metric, "value", "points" if info.is_share else "number"),
                SEEDS,
            ),
            notes=(
                f"Round 0 is the untrained model. {OVER_SEEDS}; what is said of the rows holds for all of "
                "them together (Bonferroni), each change being that of the same seeds. Rule: runs judged "
                f"after every round, {int(judged.sum())} of {len(columns)}.",
            ),
        ),
        figure=_figure(sweep, table, keys, metric),
    )


def _after_rounds(columns: RunArrays, metric: str) -> dict[int, np.ndarray]:
    """By round, from 0 for the untrained model, each run's last value in it; NaN for runs without it."""
    round_of = dict(columns.step_values("round"))
    after: dict[int, np.ndarray] = {}
    for step, value_R in columns.step_values(metric):
        number_R = np.zeros(len(columns)) if step == 0 else round_of.get(step)
        if number_R is None:
            continue
        for number in np.unique(number_R[~np.isnan(number_R)]).astype(int).tolist():
            known = after.setdefault(number, np.full(len(columns), np.nan))
            here = (number_R == number) & ~np.isnan(value_R)
            known[here] = value_R[here]
    return dict(sorted(after.items()))


def _rows(frame: pd.DataFrame, number: int, interval: Interval) -> pd.DataFrame:
    rows = frame.assign(
        round=number, value=interval.value, low=interval.low, high=interval.high, n=interval.n
    )
    return rows[interval.n > 0]


def _uncurated_of(frame: pd.DataFrame) -> dict[int, int | None]:
    """For each curated group, the uncurated one that agrees with it on every other axis."""
    if CURATE not in frame:
        return {}
    others = [key for key in frame if not str(key).startswith(CURATE)]
    is_uncurated = frame[CURATE].astype(str) == UNCURATED
    place = {tuple(frame.loc[group, others]): group for group in frame.index[is_uncurated]}
    return {group: place.get(tuple(frame.loc[group, others])) for group in frame.index[~is_uncurated]}


def _ends(interval: Interval, group: int) -> tuple[float, float, float]:
    return float(interval.value[group]), float(interval.low[group]), float(interval.high[group])


def _verdict(later: Interval, group: int) -> str:
    """Whether rounds after the first changed anything beyond the seeds."""
    if np.isnan(later.low[group]):
        return "one seed does not tell whether that is more than chance"
    if later.low[group] > 0:
        return "it goes on rising"
    return "it falls again" if later.high[group] < 0 else "no change after the first is beyond the seeds"


def _figure(sweep: SweepData, table: pd.DataFrame, keys: Sequence[str], metric: str) -> Figure:
    info = sweep.info(metric)
    named = table.assign(
        runs=[cell_label(row) for row in table[list(keys)].to_dict("records")] if keys else "all"
    )
    lines, left_out = figures.keep_groups(named, "runs", "value")
    chart = figures.curves(
        lines,
        x="round",
        y="value",
        color="runs",
        x_title="round",
        y_title=info.title(metric),
        share=info.is_share,
    )
    return Figure(
        chart=chart,
        caption=f"{metric} after each round; {runs_and_seeds(sweep, metric)}. {OVER_SEEDS}.{left_out}",
    )
