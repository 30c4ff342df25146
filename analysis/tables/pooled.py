"""Every cell's mean, partially pooled over all cells: shrunk towards what the axes predict.

    emsweep pooled outputs/quickstart

With four seeds a cell's own interval is three times as wide as with many, because its noise is estimated from
four values. A mixed model takes the noise from all cells, and draws each mean towards the prediction of the
axes' main effects as far as its own seeds leave it open. Differences from the average cell have simultaneous
intervals: with 95 % all of them hold at once.
"""

from __future__ import annotations

import numpy as np
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
from analysis.stats.intervals import mean_of
from analysis.stats.mixed import Variances, fit_mixed, freedom_of, simultaneous_quantile
from analysis.tables.bounds import bounds_of
from analysis.tables.cell_table import require_runs
from analysis.tables.designs import cell_runs, main_effects
from sweeps.spec.metrics import MetricInfo


def pooled_cells(sweep: SweepData, *, metric: str | None = None) -> ReportTable:
    """One row per cell.

    Columns of the frame: the axes, ``own`` (mean of the cell's seeds), ``pooled`` with its 95 % interval
    ``low, high``, ``difference`` from the average cell with its simultaneous interval ``difference_low,
    difference_high``, ``n`` (seeds).

    Raises:
        UserError: for an unknown metric, or too few or too many cells.
    """
    require_runs(sweep)
    metric = sweep.metric(metric)
    info = sweep.info(metric)
    runs = cell_runs(sweep, metric)
    design = main_effects(runs.frame, sweep.cell_keys)
    cells = len(runs.frame)
    # As many effects as half of the cells leave nothing to pool towards: then towards the average cell.
    matrix = design.matrix if design.matrix.shape[1] <= cells / 2 else np.ones((cells, 1))
    fit = fit_mixed(runs.value, runs.cell, runs.seed, matrix)
    assert fit.cells_covariance is not None
    variance = np.diag(fit.cells_covariance)
    quantile = special.stdtrit(freedom_of(fit, variance, with_seeds=True), 0.975)
    half = quantile * np.sqrt(np.maximum(variance, 0))
    centre = np.eye(cells) - 1 / cells
    between = centre @ fit.cells_covariance @ centre.T
    bound = simultaneous_quantile(between, fit.residual_freedom)
    difference = centre @ fit.cells
    reach = bound * np.sqrt(np.maximum(np.diag(between), 0))
    low, high = bounds_of(info, runs.value)
    frame = runs.frame.assign(
        own=mean_of(runs.table),
        pooled=fit.cells,
        low=np.maximum(fit.cells - half, low),
        high=np.minimum(fit.cells + half, high),
        difference=difference,
        difference_low=difference - reach,
        difference_high=difference + reach,
        n=(~np.isnan(runs.table)).sum(axis=1),
    )
    frame = frame.sort_values("pooled", ascending=info.direction == "min", ignore_index=True)
    return ReportTable(
        title=f"{metric} of {cells:,} cells, partially pooled",
        frame=frame,
        layout=(
            *axis_columns(sweep.cell_keys),
            ReportColumn(header="own mean", source="own", kind=value_kind(info)),
            interval_column("pooled", "pooled", value_kind(info)),
            interval_column(
                "from the average cell",
                "difference",
                change_kind(info),
                ("difference_low", "difference_high"),
            ),
            ReportColumn(header="seeds", source="n", kind="count"),
        ),
        notes=(
            "Mixed model by REML, cells and seeds crossed: standard deviations "
            f"{_roots(fit.variances, info)}. "
            "Pooled towards "
            f"{'the main effects of the axes' if matrix.shape[1] > 1 else 'the average cell'}. "
            "Interval of the mean: 95 %, over other seeds. Interval of the difference: simultaneous, 95 % "
            "that "
            f"all {cells:,} hold. One noise is taken for all cells: where some collapse, look at them apart.",
            *([f"{runs.num_missing:,} cells have no value and take no part."] if runs.num_missing else []),
            *sweep.warnings,
        ),
    )


def _roots(variances: Variances, info: MetricInfo) -> str:
    scale, unit = (100, " points") if info.is_share else (1, "")
    parts = (("cells", variances.cells), ("seeds", variances.seeds), ("noise of a run", variances.noise))
    return ", ".join(f"{name} {scale * np.sqrt(value):.3g}{unit}" for name, value in parts)
