"""Runs whose numbers were computed by different versions, which readers of any table must know of."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa


def told_numerics(arrow: Callable[[str], pa.Table]) -> list[str]:
    """What there is to say of the versions of the runs' numbers; nothing where they are one.

    Args:
        arrow: runs SQL in a database with the view ``runs``.
    """
    if "numerics" not in arrow("SELECT * FROM runs LIMIT 0").column_names:
        return []
    counted = "SELECT numerics, count(*) AS n FROM runs WHERE numerics IS NOT NULL GROUP BY ALL ORDER BY 1"
    rows = arrow(counted).to_pylist()
    if len(rows) < 2:
        return []
    parts = " and ".join(f"{row['n']} of numerics {row['numerics']}" for row in rows)
    return [
        f"Runs of different numerics versions ({parts}): they can differ for that reason alone; see "
        "CHANGELOG.md, and replay the older ones before comparing across them."
    ]
