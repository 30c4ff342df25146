"""Values as people read them: typed columns of runs, and analysis tables sorted by a header."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from analysis.dashboard.links import one_of
from analysis.output.table import ReportTable, percent, value_kind
from sweeps.grid.axes import resolve, short_names
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.text import label

SHORT_ID = 8
"""Digits of a run id in a table: enough to tell most of a million runs apart; the link has all."""

NOTHING = "–"
"""What stands where there is no value."""


@dataclass(frozen=True, kw_only=True)
class ShownColumn:
    """A column of the table of runs."""

    key: str
    header: str
    unit: str
    kind: str
    """``axis``, ``points``, ``gain``, ``number``, ``change``, ``time`` or ``text``."""

    @property
    def is_number(self) -> bool:
        """Whether it is set flush right."""
        return self.kind not in ("text", "axis")

    def text(self, value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return NOTHING
        if self.key == "run_id":
            return str(value)[:SHORT_ID]
        if self.key == "finished_at":
            return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        if self.kind in ("points", "gain"):
            return percent(value, signed=self.kind == "gain")
        if self.kind == "axis":
            return label(value)
        if isinstance(value, float):
            return f"{value:.4g}"
        return f"{value:,}" if isinstance(value, int) and self.kind in ("number", "change") else str(value)


def shown_columns(
    keys: Sequence[str], axes: Collection[str], metrics: Mapping[str, MetricInfo]
) -> list[ShownColumn]:
    headers = short_names(keys)
    columns = []
    for key in keys:
        info = metrics.get(key) if key not in axes else None
        kind = "axis" if key in axes else value_kind(info) if info else "text"
        unit = info.axis_unit if info else ""
        columns.append(ShownColumn(key=key, header=headers[key], unit=unit, kind=kind))
    return columns


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An analysis table with the order of its rows chosen by the reader."""

    table: ReportTable
    sort: str
    """Column it is sorted by; empty for its own order."""
    descending: bool
    total: int
    """Rows there are; the table holds the first of them."""

    @classmethod
    def of(cls, table: ReportTable, params: Mapping[str, str], others: Sequence[str], limit: int) -> Shown:
        """Sort by the column named in the address, unless it is one of ``others``, which this table lacks.

        Raises:
            UserError: for an unknown column.
        """
        descending = one_of(params, "way", ("up", "down")) == "down"
        word = params.get("sort", "")
        frame, sort = table.frame, ""
        if word and (word in frame or word not in others):
            sort = resolve(word, [str(c) for c in frame.columns], "column")
            frame = frame.sort_values(sort, ascending=not descending, na_position="last", kind="stable")
        total = len(frame)
        frame = frame.head(limit).reset_index(drop=True)
        return cls(table=replace(table, frame=frame), sort=sort, descending=descending, total=total)
