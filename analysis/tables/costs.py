"""What a sweep cost: seconds of work by part, and the time it took."""

from __future__ import annotations

import pandas as pd

from analysis.data.sweep import SweepData
from analysis.data.views import finite_sql, quoted
from analysis.output.table import ReportColumn, ReportTable
from sweeps.spec.text import counted


def cost_table(sweep: SweepData) -> ReportTable:
    """Seconds per run by part (``…_s`` metrics), in total and per model where there are several."""
    parts = [name for name in sweep.metrics if name.endswith("_s")]
    by = "model" if "model" in sweep.axis_keys and len(sweep.axis("model").values) > 1 else None
    sums = ", ".join(f"avg({finite_sql(name)}) AS {quoted([name])}" for name in parts)
    select = f"count(*) AS runs, sum(coalesce(attempt, 0)) AS retries{', ' + sums if sums else ''}"
    finished = "FROM runs WHERE outcome IN ('done', 'diverged')"
    frame = sweep.query(f"SELECT {select} {finished}").assign(model="all")
    if by:
        per_model = sweep.query(f"SELECT model, {select} {finished} GROUP BY model").sort_values("model")
        frame = pd.concat([per_model.astype({"model": str}), frame], ignore_index=True)
    if "wall_s" in frame:
        frame["hours"] = frame["wall_s"] * frame["runs"] / 3600
    columns = [
        ReportColumn(header="model", source="model"),
        ReportColumn(header="finished runs", source="runs", kind="count"),
        *([ReportColumn(header="worker hours", source="hours", kind="number")] if "hours" in frame else []),
        *(
            ReportColumn(header=f"{name.removesuffix('_s')}, s a run", source=name, kind="number")
            for name in parts
        ),
        ReportColumn(header="retries", source="retries", kind="count"),
    ]
    return ReportTable(title="Time spent", frame=frame, layout=tuple(columns), notes=(_span(sweep),))


def _span(sweep: SweepData) -> str:
    if "finished_at" not in sweep.arrow("SELECT * FROM runs LIMIT 0").column_names:
        return "When runs ended is not recorded."
    row = sweep.arrow(
        "SELECT max(finished_at) - min(finished_at) AS span_s, count(finished_at) AS n, "
        "count(DISTINCT worker) AS workers, count(DISTINCT host) AS hosts FROM runs"
    ).to_pylist()[0]
    if not row["n"]:
        return "When runs ended is not recorded." if sweep.counts().get("done") else "No run has finished."
    rate = f", {row['n'] / row['span_s']:.2f} runs a second" if row["span_s"] else ""
    where = f"{counted(row['workers'], 'worker')} on {counted(row['hosts'], 'host')}"
    return (
        f"From the first result to the last: {row['span_s']:,.0f} s{rate}; {where}. Retries are attempts "
        "beyond the first of finished runs."
    )
