"""What runs that diverged could change: bounds of each mean, whatever those runs would have come to.

    emsweep bounds outputs/quickstart --by optim.lr

A diverged run has no value, and a mean of the others is that of survivors: where rates above a limit diverge
more often, it flatters them. Without any assumption the mean of all runs lies between those with every
diverged run at the worst and at the best end of the metric's range (Manski 1989).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.data.axes import SEED, words_of
from analysis.data.sweep import SweepData
from analysis.output.table import SEEDS, ReportColumn, ReportTable, axis_columns, interval_column, value_kind
from analysis.tables.cell_table import headline_axis, require_runs
from analysis.tables.seed_values import SeedGroups, gather
from sweeps.spec.errors import UserError


def survivor_bounds(
    sweep: SweepData, *, by: str | Sequence[str] | None = None, metric: str | None = None
) -> ReportTable:
    """One row per combination of the axes ``by`` (default: the headline's).

    Columns of the frame: the axes, ``mean`` of the survivors, ``worst`` and ``best`` with every diverged run
    at that end of the range, ``low, high``: the 95 % interval over seeds of the first's lower and the
    second's upper end, ``diverged``, ``valued``, ``n``.

    Raises:
        UserError: for a metric without a range.
    """
    require_runs(sweep)
    metric = sweep.metric(metric)
    info = sweep.info(metric)
    low, high = info.range
    if low is None or high is None:
        raise UserError(
            f"metric {metric!r} has no range, so that a diverged run could come to anything; say it in the "
            "sweep "
            f"file: trainer.metrics.{metric}: {{range: [0, 1]}}"
        )
    by = [sweep.axis(word).key for word in words_of(by)] if by is not None else headline_axis(sweep)
    by = [key for key in by if key != SEED]
    gathered = gather(sweep, by, metric)
    arranged = SeedGroups(gathered.columns, by)
    value_R = arranged.columns.metric(metric)
    lost_R = np.isnan(value_R) & arranged.columns.is_outcome("diverged")
    ends = (low, high) if info.sign > 0 else (high, low)
    worst, best = (arranged.interval(np.where(lost_R, float(end), value_R), info) for end in ends)
    frame = gathered.groups[[*by, "diverged", "valued"]].assign(
        mean=gathered.interval().value,
        worst=worst.value,
        best=best.value,
        low=np.minimum(worst.low, best.low),
        high=np.maximum(worst.high, best.high),
        n=worst.n,
    )
    kind = value_kind(info)
    return ReportTable(
        title=f"{metric} with whatever diverged runs would have come to",
        frame=frame,
        layout=(
            *axis_columns(by),
            ReportColumn(header="survivors", source="mean", kind=kind),
            ReportColumn(header="if all lost are worst", source="worst", kind=kind),
            interval_column("if best", "best", kind),
            ReportColumn(header="diverged", source="diverged", kind="count"),
            SEEDS,
        ),
        notes=(
            f"Worst and best: every diverged run at {ends[0]:g} and at {ends[1]:g}, the ends of the metric's "
            "range. Interval: 95 %, over seeds, from the lower end of the one to the upper end of the "
            "other. Runs "
            "that failed or have not run are left out here too.",
            *sweep.warnings,
        ),
    )
