"""A sweep seed by seed: one row per group of cells and seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.data.axes import SEED
from analysis.data.sweep import SweepData
from analysis.output.table import ReportColumn, ReportTable, axis_columns, value_kind
from analysis.stats.seed_means import means


def seed_table(sweep: SweepData, by: Sequence[str], metric: str) -> ReportTable:
    """One row per group and seed: the mean of the seed's cells, which one seed gives no interval."""
    kind = value_kind(sweep.info(metric))
    keys = [*(key for key in by if key != SEED), SEED]
    columns = sweep.columns([metric])
    groups = columns.group(keys)
    value_R = columns.metric(metric)
    frame = columns.frame(groups).assign(
        mean=means(value_R, groups.number, groups.size),
        n=groups.count(~np.isnan(value_R)),
        expected=groups.count(~columns.is_outcome("skipped")),
    )
    frame["missing"] = frame["expected"] - frame["n"]
    cells = int(frame["expected"].max())
    layout = [*axis_columns(keys), ReportColumn(header="mean", source="mean", kind=kind)]
    layout.append(ReportColumn(header="cells", source="n", kind="count"))
    layout += (
        [ReportColumn(header="missing", source="missing", kind="count")] if frame["missing"].any() else []
    )
    notes = ["A single seed has no interval: what others would give is in the rows without the seed."]
    if cells > 1:
        notes.append(
            f"Mean over the cells that a seed has, of {cells}; seeds that lack some are not comparable."
        )
    where = f", runs where {' '.join(sweep.filters)}" if sweep.filters else ""
    return ReportTable(
        title=f"{metric} by {', '.join(keys)}{where}",
        frame=frame,
        layout=tuple(layout),
        notes=(*notes, *sweep.warnings),
    )
