"""Does the order of training stages matter, and does merging weights keep what was gained?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, has_metric, runs_and_seeds, said_by
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import percent
from analysis.output.words import axis_words
from analysis.tables.cell_table import cell_table
from analysis.tables.compare import compare, compare_levels
from analysis.tables.seed_values import OVER_SEEDS, gather
from sweeps.grid.axes import Axis
from sweeps.grid.filters import parse_filter, write_filter, write_term

_finding = partial(
    Finding, key="order", question="Does it matter what comes first, and what does merging keep?"
)

ORDER_WORDS = ("order", "init_from", "stages", "merge", "alpha", "soup", "recipe")
"""Last parts of the keys of axes that say where weights come from."""


def order(sweep: SweepData, metric: str = "accuracy_sampled") -> Finding:
    """Gain by order of stages or by interpolation weight, and each value tested against the first."""
    axis = next(
        (a for a in sweep.axes if a.key.rsplit(".", 1)[-1] in ORDER_WORDS and len(a.values) > 1), None
    )
    if axis is None or not has_metric(sweep, metric):
        return _finding(
            missing=(
                "runs that start from, or merge, other runs' weights: an axis named "
                f"{', '.join(ORDER_WORDS[:-1])} or {ORDER_WORDS[-1]} with several values"
            ),
        )
    apart = _beside(sweep, axis)
    keys = [*apart, axis.key]
    gathered = gather(sweep, keys, metric)
    interval = gathered.interval()
    frame = gathered.groups[keys].assign(accuracy=interval.value, low=interval.low, high=interval.high)
    top = frame.loc[frame["accuracy"].idxmax()]
    best = cell_label({key: top[key] for key in keys if pd.notna(top[key])})
    return _finding(
        sentences=(
            f"Best: {best} with {percent(top['accuracy'])}.",
            *_swapped(sweep, axis, apart, metric),
            *_tested(sweep, axis, apart, metric),
        ),
        table=cell_table(sweep, by=keys, metric=metric),
        figure=Figure(
            chart=_chart(sweep, frame, axis, apart, metric),
            caption=f"{metric} by {axis.key}; {runs_and_seeds(sweep, metric)}. {OVER_SEEDS}.",
        ),
    )


def _chart(sweep: SweepData, frame: pd.DataFrame, axis: Axis, apart: Sequence[str], metric: str) -> Any:
    """Curves over a weight, a row per recipe otherwise."""
    share = sweep.info(metric).is_share
    if axis.kind in ("int", "float"):
        return figures.curves(
            frame.dropna(subset=[axis.key]).rename(
                columns={axis.key: "weight", **dict.fromkeys(apart, "way")}
            ),
            x="weight",
            y="accuracy",
            color="way" if apart else None,
            x_title=axis_words(axis.key),
            y_title=sweep.info(metric).title(metric),
            share=share,
        )
    if apart:  # what comes later differs too: a recipe is both together
        later = frame[list(apart)].astype(str).agg(" ".join, axis=1)
        frame = frame.assign(**{axis.key: frame[axis.key].astype(str) + ", then " + later})
    return figures.dots(
        frame, y=axis.key, x="accuracy", x_title=sweep.info(metric).title(metric), share=share
    )


def _beside(sweep: SweepData, axis: Axis) -> list[str]:
    """Axes without which ``axis`` says only half: what follows the cells that runs start from, or the way of
    merging that a weight belongs to.
    """
    if axis.key == "merge.alpha":
        return [a.key for a in sweep.axes if a.key == "merge.method"]
    named = [
        term.key
        for value in axis.values
        if axis.key == "init_from" and "=" in str(value)
        for term in parse_filter(str(value)).terms
    ]
    several = [a.key for a in sweep.axes if len(a.values) > 1]
    return [key for key in dict.fromkeys(named) if key in several]


def _swapped(sweep: SweepData, axis: Axis, apart: Sequence[str], metric: str) -> list[str]:
    """Each two stages in one order against the other."""
    if axis.key != "init_from" or len(apart) != 1:
        return []
    key = apart[0]
    stages = [value for value in sweep.axis(key).values if f"{key}={value}" in axis.values]
    sentences: list[str] = []
    for one, other in itertools.combinations(stages, 2):
        orders = [write_filter({axis.key: f"{key}={a}", key: b}) for a, b in ((one, other), (other, one))]
        sentences += said_by(partial(compare, sweep, *orders, metric=metric))
    return sentences


def _tested(sweep: SweepData, axis: Axis, apart: Sequence[str], metric: str) -> list[str]:
    """Every value against the first, apart for each of what stands beside it."""
    if not apart:
        return list(said_by(partial(compare_levels, sweep, axis.key, metric=metric)))
    first, *others = (write_term(axis.key, value) for value in axis.values if value is not None)
    return [
        sentence
        for other in others
        for sentence in said_by(partial(compare, sweep, first, other, by=apart, metric=metric))
    ]
