"""Means of an axis's values on equal terms, and their contrasts, where the grid is not balanced.

    emsweep adjust outputs/ladder steps

Where one value of an axis was run beside better values of another, its plain mean flatters it. The adjusted
mean is what a mixed model with the main effects of all axes predicts for the value, every other axis taken at
the average of its values; contrasts are its differences from the first value. What the cells cannot tell, a
value that was only run in step with one of another axis, has none.
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
from analysis.tables.designs import Design, EqualTerms, cell_runs, equal_terms, main_effects
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
    base = _reference(values, key, reference)
    terms = equal_terms(runs.frame, design, key, base)
    if not terms.has_contrast.any():
        others = ", ".join(design.confounded) or "the other axes together"
        raise UserError(
            f"axis {key!r} cannot be told from {others}: none of its values was run on equal terms with "
            f"{key}={label(values[base])}; give another reference"
        )
    table = _estimates(fit, terms)
    low, high = bounds_of(info, runs.value)
    by_cell = pd.Series(runs.value).groupby(runs.cell).mean()
    codes = pd.factorize(runs.frame[key].astype(object), use_na_sentinel=False)[0]
    frame = pd.DataFrame({key: values}).assign(
        plain=[by_cell[codes == number].mean() for number in range(len(values))], **table
    )
    frame["low"], frame["high"] = np.maximum(frame["low"], low), np.minimum(frame["high"], high)
    frame["cells"] = np.bincount(codes, minlength=len(values))
    average = "the average of its values" if terms.equal_weights else "its average over the cells"
    unknown = [label(values[n]) for n in np.flatnonzero(~terms.has_contrast) if n != base]
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
            f"axis at {average}. "
            "Interval of a mean: 95 %; of the contrasts: simultaneous, 95 % that all hold; what cells differ "
            "by beyond main effects counts as noise.",
            *(
                [
                    f"No contrast of {', '.join(unknown)}: the cells do not tell it from other axes "
                    f"({', '.join(design.confounded)})."
                ]
                if unknown
                else []
            ),
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


def _reference(values: list, key: str, reference: str | None) -> int:
    if reference is None:
        return 0
    term = parse_filter(f"{key}={reference}").terms[0]
    found = next((number for number, value in enumerate(values) if term.matches(value)), None)
    if found is None:
        listed = ", ".join(label(value) for value in values[:30])
        raise UserError(f"{key}={reference}: no run has this value; it takes {listed}")
    return found


def _estimates(fit: MixedFit, terms: EqualTerms) -> dict[str, np.ndarray]:
    mean = terms.means_LP @ fit.fixed
    variance = np.einsum("lp,pq,lq->l", terms.means_LP, fit.fixed_covariance, terms.means_LP)
    half = special.stdtrit(freedom_of(fit, variance, with_seeds=True), 0.975) * np.sqrt(variance)
    covariance = terms.contrasts_LP @ fit.fixed_covariance @ terms.contrasts_LP.T
    told = terms.has_contrast
    error = np.sqrt(np.maximum(np.diag(covariance), 0))
    freedom = float(freedom_of(fit, error[told].max() ** 2, with_seeds=False))
    reach = simultaneous_quantile(covariance[np.ix_(told, told)], freedom) * error
    difference = terms.contrasts_LP @ fit.fixed
    p = np.where(told, two_sided_p(difference, error, freedom), np.nan)
    adjusted = p.copy()
    adjusted[told] = holm(p[told])
    return {
        "adjusted": np.where(terms.has_mean, mean, np.nan),
        "low": np.where(terms.has_mean, mean - half, np.nan),
        "high": np.where(terms.has_mean, mean + half, np.nan),
        "difference": np.where(told, difference, np.nan),
        "difference_low": np.where(told, difference - reach, np.nan),
        "difference_high": np.where(told, difference + reach, np.nan),
        "p": p,
        "p_holm": adjusted,
    }
