"""Does training in rounds on a model's own completions go on raising accuracy, and only if it is curated?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.columns import RunArrays
from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, change_in_words, has_metric
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, axis_columns, interval_column
from analysis.stats.intervals import CHANGE, Interval, mean_interval
from analysis.tables.headline import family_level
from analysis.tables.seed_values import OVER_SEEDS, SeedGroups
from sweeps.spec.curation import READS
from sweeps.spec.text import counted

_finding = partial(
    Finding, key="rounds", question="Does training on its own completions, round by round, go on helping?"
)

CURATE = "curate"
"""Axis of the procedure, and what keys of its settings begin with."""

UNCURATED: Literal["uncurated"] = "uncurated"
"""The procedure that trains on all that the model wrote."""


def rounds(sweep: SweepData, metric: str = "accuracy_sampled") -> Finding:
    """Accuracy after each round, whether it rose until the last one, and curated runs against uncurated
    ones.

    Escaping Collapse (arXiv 2502.08924) claims: without curation a plateau or a collapse, with a weak one a
    rise.
    """
    goes_in_rounds = {"round", metric} <= set(sweep.arrow("SELECT * FROM steps LIMIT 0").column_names)
    columns = sweep.columns([metric]) if goes_in_rounds and has_metric(sweep, metric) else None
    if columns is None:
        return _missing()
    keys = [axis.key for axis in sweep.axes if axis.key in columns.cell_keys and len(axis.values) > 1]
    arranged = SeedGroups(columns, keys)
    after_TR, rounds_R = _after_rounds(columns, metric)
    last_G = _longest(arranged, rounds_R)
    beyond_TR = np.arange(len(after_TR))[:, None] > last_G[arranged.groups.number]
    judged_R = (~np.isnan(after_TR) | beyond_TR).all(axis=0)
    kept = np.flatnonzero((last_G > 1) & (arranged.groups.count(judged_R) > 0))
    if not len(kept):
        return _missing()
    values_TGS = np.stack([arranged.values(np.where(judged_R, value_R, np.nan)) for value_R in after_TR])
    frame, info = arranged.frame().iloc[kept].reset_index(drop=True), sweep.info(metric)
    values_TGS, last_G = values_TGS[:, kept], last_G[kept]
    table = pd.concat(
        [_rows(frame, number, mean_interval(values_GS)) for number, values_GS in enumerate(values_TGS)]
    ).sort_values([*keys, "round"], ignore_index=True)
    against = _uncurated_of(frame)
    level = family_level(2 * len(frame), len(against))
    change = partial(mean_interval, level=level, bounds=CHANGE if info.is_share else None)
    end_GS = values_TGS[last_G, np.arange(len(frame))]
    whole, later = (change(end_GS - values_TGS[since]) for since in (0, 1))
    sentences = []
    for group in range(len(frame)):
        told = [change_in_words(info, *_ends(interval, group)) for interval in (whole, later)]
        where = cell_label(frame.iloc[group].to_dict()) or "runs judged after every round"
        sentences.append(
            f"{where}: {told[0]} over {last_G[group]} rounds, {told[1]} of it after the first; "
            f"{_verdict(later, group)}."
        )
    for group, other in against.items():
        apart = change(end_GS[[group]] - end_GS[[other]])
        where = f"{cell_label(frame.iloc[group].to_dict())} against {CURATE}={UNCURATED}"
        if np.isnan(apart.value[0]):
            sentences.append(f"{where}: no seed has a run of both that is judged after every round.")
            continue
        told_apart = change_in_words(info, *_ends(apart, 0))
        sentences.append(f"{where} after {last_G[group]} rounds: {told_apart}.")
    num_judged = int((judged_R & np.isin(arranged.groups.number, kept)).sum())
    num_seeds = int((~np.isnan(end_GS)).any(axis=0).sum())
    used = f"{counted(num_judged, 'run')}, {counted(num_seeds, 'seed')}"
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
                "them together (Bonferroni), each change being that of the same seeds. Rule: runs judged at "
                f"the end of every round of theirs, {num_judged} of {len(columns)}.",
            ),
        ),
        figure=_figure(sweep, table, keys, metric, used),
    )


def _missing() -> Finding:
    return _finding(
        missing="runs in rounds that are judged after each: curate=escaping_collapse, two rounds or more, "
        "and step 0 and the last step of every round among eval.steps",
    )


def _after_rounds(columns: RunArrays, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Each run's value at step 0 and at the last step of each round, shape (1 + rounds, R), NaN where it was
    not judged then; and its rounds, shape (R,).
    """
    round_of = {step: np.nan_to_num(value_R).astype(int) for step, value_R in columns.step_values("round")}
    rounds_R = np.max([np.zeros(len(columns), dtype=int), *round_of.values()], axis=0)
    end_TR = np.full((int(rounds_R.max(initial=0)) + 1, len(columns)), -1)
    for step, number_R in sorted(round_of.items()):
        runs = np.flatnonzero(number_R)
        end_TR[number_R[runs], runs] = step
    end_TR[0] = 0
    after_TR = np.full(end_TR.shape, np.nan)
    for step, value_R in columns.step_values(metric):
        numbers, runs = np.nonzero(end_TR == step)
        after_TR[numbers, runs] = value_R[runs]
    return after_TR, rounds_R


def _longest(arranged: SeedGroups, rounds_R: np.ndarray) -> np.ndarray:
    """The most rounds of a run of each group, shape (G,)."""
    last_G = np.zeros(arranged.groups.size, dtype=int)
    np.maximum.at(last_G, arranged.groups.number, rounds_R)
    return last_G


def _rows(frame: pd.DataFrame, number: int, interval: Interval) -> pd.DataFrame:
    rows = frame.assign(
        round=number, value=interval.value, low=interval.low, high=interval.high, n=interval.n
    )
    return rows[interval.n > 0]


def _uncurated_of(frame: pd.DataFrame) -> dict[int, int]:
    """For each curated group, the uncurated one that agrees with it on every axis that both have."""
    if CURATE not in frame:
        return {}
    is_uncurated = frame[CURATE].astype(str) == UNCURATED
    theirs = [f"{CURATE}.{name.removesuffix('_')}" for name in READS[UNCURATED]]
    read = [
        key
        for key in map(str, frame)
        if key != CURATE
        and not (key.startswith(f"{CURATE}.") and key not in theirs)
        and not frame.loc[is_uncurated, key].isna().all()
    ]
    place = {tuple(frame.loc[group, read]): group for group in frame.index[is_uncurated]}
    others = {group: place.get(tuple(frame.loc[group, read])) for group in frame.index[~is_uncurated]}
    return {group: other for group, other in others.items() if other is not None}


def _ends(interval: Interval, group: int) -> tuple[float, float, float]:
    return float(interval.value[group]), float(interval.low[group]), float(interval.high[group])


def _verdict(later: Interval, group: int) -> str:
    """Whether rounds after the first changed anything beyond the seeds."""
    if np.isnan(later.low[group]):
        return "one seed does not tell whether that is more than chance"
    if later.low[group] > 0:
        return "it goes on rising"
    return "it falls again" if later.high[group] < 0 else "no change after the first is beyond the seeds"


def _figure(sweep: SweepData, table: pd.DataFrame, keys: Sequence[str], metric: str, used: str) -> Figure:
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
        caption=f"{metric} after each round; {used}. {OVER_SEEDS}.{left_out}",
    )
