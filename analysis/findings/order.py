"""Does the order of training stages matter, and does merging weights keep what was gained?"""

from __future__ import annotations

from collections.abc import Sequence

from analysis import figures
from analysis.axes import Axis, label
from analysis.compare import compare, compare_levels
from analysis.figures import Figure
from analysis.findings.base import OVER_SEEDS, Finding, has_metric, runs_and_seeds
from analysis.gather import gather
from analysis.stats.intervals import mean_interval
from analysis.sweep import Sweep
from analysis.table import percent
from analysis.tables import cell_table, is_share
from sweeps.filters import parse_filter

QUESTION = "Does it matter what comes first, and what does merging keep?"

ORDER_WORDS = ("order", "init_from", "stages", "merge", "alpha", "soup", "recipe")
"""Last parts of the keys of axes that say where weights come from."""


def order(sweep: Sweep, metric: str = "accuracy_sampled") -> Finding:
    """Gain by order of stages or by interpolation weight, and each value tested against the first."""
    axis = next(
        (a for a in sweep.axes if a.key.rsplit(".", 1)[-1] in ORDER_WORDS and len(a.values) > 1), None
    )
    if axis is None or not has_metric(sweep, metric):
        return Finding(
            key="order",
            question=QUESTION,
            missing=(
                "runs that start from, or merge, other runs' weights: an axis named "
                f"{', '.join(ORDER_WORDS[:-1])} or {ORDER_WORDS[-1]} with several values"
            ),
        )
    then = _later_axes(sweep, axis)
    table = cell_table(sweep, by=[*then, axis.key], metric=metric)
    gathered = gather(sweep, [*then, axis.key], metric)
    interval = mean_interval(gathered.values)
    frame = gathered.groups.assign(accuracy=interval.value, low=interval.low, high=interval.high)
    if then:  # what comes later differs too, so that a recipe is both together
        later = frame[then].astype(str).agg(" ".join, axis=1)
        frame[axis.key] = frame[axis.key].astype(str) + ", then " + later
    numeric = axis.kind in ("int", "float")
    if numeric:
        chart = figures.curves(
            frame.rename(columns={axis.key: "weight"}),
            x="weight",
            y="accuracy",
            color=None,
            x_title=axis.key,
            y_title=metric,
            share=is_share(metric),
        )
    else:
        chart = figures.dots(frame, y=axis.key, x="accuracy", x_title=metric, share=is_share(metric))
    top = frame.loc[frame["accuracy"].idxmax()]
    return Finding(
        key="order",
        question=QUESTION,
        sentences=(
            f"Best: {axis.key}={label(top[axis.key])} with {percent(top['accuracy'])}.",
            *_tested(sweep, axis, then, metric),
        ),
        table=table,
        figure=Figure(chart=chart, caption=f"{metric} by {axis.key}; {runs_and_seeds(sweep)}. {OVER_SEEDS}."),
    )


def _later_axes(sweep: Sweep, axis: Axis) -> list[str]:
    """Axes that ``axis`` names when its values are cells that runs start from: those of the later stage."""
    named = [
        term.key
        for value in axis.values
        if axis.key == "init_from" and "=" in str(value)
        for term in parse_filter(str(value)).terms
    ]
    several = [a.key for a in sweep.axes if len(a.values) > 1]
    return [key for key in dict.fromkeys(named) if key in several]


def _tested(sweep: Sweep, axis: Axis, then: Sequence[str], metric: str) -> list[str]:
    """Every value against the first, apart for each later stage."""
    if not then:
        return list(compare_levels(sweep, axis.key, metric=metric).sentences)
    first, *others = (f'{axis.key}="{value}"' for value in axis.values)
    return [s for other in others for s in compare(sweep, first, other, by=then, metric=metric).sentences]
