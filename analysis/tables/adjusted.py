"""Means of an axis's values on equal terms, and their contrasts, where the grid is not balanced.

    emsweep adjust outputs/ladder steps

Where one value of an axis was run beside better values of another, its plain mean flatters it. The adjusted
mean is what a mixed model with the main effects of all axes predicts for the value, every other axis taken at
the average of its values; contrasts are its differences from the first value.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from analysis.data.sweep import SweepData
from analysis.output.table import (
    ReportColumn,
    ReportTable,
    axis_columns,
    change_kind,
    interval_column,
    value_kind,
)
from analysis.stats.crossed import two_sided_p
from analysis.stats.mixed import MixedFit, fit_mixed, freedom_of, simultaneous_quantile
from analysis.stats.testing import holm
from analysis.tables.bounds import bounds_of
from analysis.tables.cell_table import require_runs
from analysis.tables.designs import Design, cell_runs, main_effects
from sweeps.grid.filters import parse_filter
from sweeps.spec.errors import UserError
from sweeps.spec.text import label


def adjusted_means(
    sweep: SweepData, axis: str, *, reference: str | None = None, metric: str | None = None
) -> ReportTable:
    """One row per value of ``axis``.

    Columns of the frame: the axis, ``plain`` (mean of its cells), ``adjusted`` with its 95 % interval ``low,
    high``, ``difference`` from the reference with its simultaneous interval ``difference_low,
    difference_high``, ``p`` and ``p_holm``, ``cells``.

    Args:
        reference: value that contrasts are to; the first by default.

    Raises:
        UserError: for an axis with one value, or one that cannot be told from the others.
    """
    require_runs(sweep)
    key, metric = sweep.axis(axis).key, sweep.metric(metric)
    info, runs = sweep.info(metric), cell_runs(sweep, metric)
    design = main_effects(runs.frame, [key, *(k for k in sweep.cell_keys if k != key)])
    if key not in design.values:
        raise UserError(f"axis {key!r} has one value with results: there is nothing to adjust")
    partners = _same_as(runs.frame, key, design)
    if partners:
        raise UserError(
            f"axis {key!r} cannot be told from {', '.join(partners)}: no cell varies one without the other"
        )
    fit = fit_mixed(runs.value, runs.cell, runs.seed, design.matrix)
    values = design.values[key]
    rows_LP = np.stack([_equal_terms(design, key, number) for number in range(len(values))])
    base = _reference(values, key, reference)
    table = _estimates(fit, rows_LP, base)
    low, high = bounds_of(info, runs.value)
    by_cell = pd.Series(runs.value).groupby(runs.cell).mean()
    codes = pd.factorize(runs.frame[key].astype(object), use_na_sentinel=False)[0]
    frame = pd.DataFrame({key: values}).assign(
        plain=[by_cell[codes == number].mean() for number in range(len(values))], **table
    )
    frame["low"], frame["high"] = np.maximum(frame["low"], low), np.minimum(frame["high"], high)
    frame["cells"] = np.bincount(codes, minlength=len(values))
    left_out = [k for k in design.confounded if k != key]
    return ReportTable(
        title=f"{metric} by {key}, other axes on equal terms",
        frame=frame,
        layout=(
            *axis_columns([key]),
            ReportColumn(header="plain mean", source="plain", kind=value_kind(info)),
            interval_column("adjusted", "adjusted", value_kind(info)),
            interval_column(
                f"minus {label(values[base])}",
                "difference",
                change_kind(info),
                ("difference_low", "difference_high"),
            ),
            ReportColumn(header="p Holm", source="p_holm", kind="p"),
            ReportColumn(header="cells", source="cells", kind="count"),
        ),
        notes=(
            "Mixed model by REML: main effects of all axes, cells and seeds random. Adjusted: every other "
            "axis at "
            "the average of its values. Interval of a mean: 95 %; of the contrasts: simultaneous, 95 % "
            "that all "
            "hold; what cells differ by beyond main effects counts as noise.",
            *([f"Not adjusted for {', '.join(left_out)}: other axes say the same."] if left_out else []),
            *sweep.warnings,
        ),
    )


def _same_as(frame: pd.DataFrame, key: str, design: Design) -> list[str]:
    """Axes that are a function of ``key`` and of which ``key`` is one."""
    return [
        other
        for other in design.confounded
        if len(frame[[key, other]].drop_duplicates()) == frame[key].nunique(dropna=False)
        and frame[other].nunique(dropna=False) == frame[key].nunique(dropna=False)
    ]


def _equal_terms(design: Design, key: str, number: int) -> np.ndarray:
    row = np.zeros(design.matrix.shape[1])
    row[0] = 1.0
    for place, (axis, level) in enumerate(design.columns, start=1):
        if axis == key:
            row[place] = float(level == number)
        elif axis in design.values:
            row[place] = 1 / len(design.values[axis])
        else:
            row[place] = design.matrix[:, place].mean()
    return row


def _reference(values: list, key: str, reference: str | None) -> int:
    if reference is None:
        return 0
    term = parse_filter(f"{key}={reference}").terms[0]
    found = next((number for number, value in enumerate(values) if term.matches(value)), None)
    if found is None:
        listed = ", ".join(label(value) for value in values[:30])
        raise UserError(f"{key}={reference}: no run has this value; it takes {listed}")
    return found


def _estimates(fit: MixedFit, rows_LP: np.ndarray, base: int) -> dict[str, np.ndarray]:
    mean = rows_LP @ fit.fixed
    variance = np.einsum("lp,pq,lq->l", rows_LP, fit.fixed_covariance, rows_LP)
    half = special.stdtrit(freedom_of(fit, variance, with_seeds=True), 0.975) * np.sqrt(variance)
    contrast_LP = rows_LP - rows_LP[base]
    covariance = contrast_LP @ fit.fixed_covariance @ contrast_LP.T
    others = np.arange(len(mean)) != base
    error = np.sqrt(np.maximum(np.diag(covariance), 0))
    freedom = float(freedom_of(fit, error[others].max() ** 2, with_seeds=False))
    reach = simultaneous_quantile(covariance[np.ix_(others, others)], freedom) * error
    difference = mean - mean[base]
    p = np.where(others, two_sided_p(difference, error, freedom), np.nan)
    adjusted = p.copy()
    adjusted[others] = holm(p[others])
    return {
        "adjusted": mean,
        "low": mean - half,
        "high": mean + half,
        "difference": np.where(others, difference, np.nan),
        "difference_low": np.where(others, difference - reach, np.nan),
        "difference_high": np.where(others, difference + reach, np.nan),
        "p": p,
        "p_holm": adjusted,
    }
