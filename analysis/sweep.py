"""What ``from analysis import open_sweep`` opens: the data of a sweep, and the tables made of them.

sweep = open_sweep("outputs/quickstart")
sweep.where(lr=1e-4).runs()
sweep.cells(by="model")
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from analysis.data.axes import words_of
from analysis.data.sweep import SweepData
from analysis.output.markup import in_notebook, lines_html, table_html, title_html
from analysis.output.table import ReportTable
from analysis.tables.cell_table import cell_table
from orchestrator.store.layout import OUTCOMES
from sweeps.grid.axes import short_names
from sweeps.grid.filters import write_term
from sweeps.spec.errors import UserError
from sweeps.spec.text import counted, label

FINISHED_AT, FINISHED = "finished_at", "finished"
"""Unix seconds as they are stored, and the column of ``runs()`` that has them as times (UTC)."""

WIDE = 90
"""Columns from which a frame is put into one piece first: pandas warns from a hundred pieces on."""

SHOWN_VALUES = 8
"""Values of an axis that a notebook lists."""


class Sweep(SweepData):
    """The runs of one or more sweep directories, and their table of cells."""

    def where(self, *filters: str, **values: Any) -> Self:
        """Narrow to runs that match every filter: ``axis=value``, ``!axis=value``, ``axis>=1`` and so on.

        The grammar is that of :mod:`sweeps.grid.filters`; the keys are the axes, ``outcome``, and
        ``sweep`` where several directories are open. ``where(model="tiny-64", lr=[1e-4, 2e-4])`` says the
        same by keyword: that very value, or any of several.

        Raises:
            UserError, SpecError: for an unknown axis or a value that no run has.
        """
        return super().where(*filters, *(_term(key, value) for key, value in values.items()))

    def runs(self, columns: str | Sequence[str] | None = None) -> pd.DataFrame:
        """One row per run of the manifest: identity, outcome, axes, metrics, cost, attempts.

        ``finished`` is the time of ``finished_at`` (Unix seconds) as a date with its zone, UTC.
        """
        names = None if columns is None else words_of(columns)
        stored = names and [FINISHED_AT if name == FINISHED else name for name in names]
        frame = super().runs(stored if stored is None else list(dict.fromkeys(stored)))
        asked = names is None or FINISHED in names
        if not asked or FINISHED_AT not in frame or FINISHED in frame:
            return frame
        times = _times(frame[FINISHED_AT].to_numpy(dtype=float, na_value=np.nan))
        place = frame.columns.get_loc(FINISHED_AT) + 1
        if len(frame.columns) >= WIDE:
            frame = frame.copy()  # in one piece, which an insertion into many would warn of
        frame.insert(place, FINISHED, times)
        return frame if names is None or FINISHED_AT in names else frame.drop(columns=FINISHED_AT)

    def cells(
        self, by: str | Sequence[str] | None = None, metric: str | None = None, over: str | None = None
    ) -> pd.DataFrame:
        """One row per cell, or per combination of the axes ``by``, such as ``"lr"`` or ``"model,lr"``; see
        :func:`analysis.tables.cell_table.cell_table`.
        """
        return self.cell_table(by, metric, over=over).frame

    def cell_table(
        self, by: str | Sequence[str] | None = None, metric: str | None = None, **options: Any
    ) -> ReportTable:
        """The same with its footnotes, ready to be written as text, Markdown, CSV, LaTeX or Parquet."""
        return cell_table(self, by=by, metric=metric, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as where it lies and how it is narrowed; it is opened anew where it is unpickled."""
        places = [directory.absolute() for directory in self.directories]
        return partial(type(self), live=self.live, filters=self.filters), (places,)

    def _repr_html_(self) -> str:
        counts = self.counts()
        outcomes = " · ".join(f"{counts[name]:,} {name}" for name in OUTCOMES if counts.get(name))
        rows = [
            (short, key, str(len(axis.values)), _some(axis.values))
            for axis, (key, short) in zip(self.axes, short_names(self.axis_keys).items(), strict=True)
        ]
        said = [f"{counted(sum(counts.values()), 'run')}: {outcomes}", *self.warnings]
        if self.metrics:
            said.append(f"metrics: {', '.join(self.metrics)}")
        title = ", ".join(str(directory) for directory in self.directories)
        where = f" where {' '.join(self.filters)}" if self.filters else ""
        table = table_html(("axis", "key", "values", ""), ("text", "text", "", "text"), rows)
        return in_notebook(title_html(title + where), lines_html(said), table)


def open_sweep(*directories: str | Path, live: bool = False) -> Sweep:
    """Open one sweep directory, or several that are then read as one; see :meth:`SweepData.open`."""
    return Sweep.open(*directories, live=live)


def _times(unix_s: np.ndarray) -> pd.DatetimeIndex:
    """Unix seconds as times; a quarter of the time of :func:`pandas.to_datetime`."""
    known = ~np.isnan(unix_s)
    times = np.full(len(unix_s), "NaT", dtype="datetime64[us]")
    times[known] = np.round(unix_s[known] * 1e6).astype("int64").view("datetime64[us]")
    return pd.DatetimeIndex(times, tz="UTC")


def _term(key: str, value: Any) -> str:
    """A keyword as a term of the grammar; of several values any will do."""
    if isinstance(value, (list, tuple, set, frozenset, range)):
        if not value:
            raise UserError(f"where {key}={value!r}: holds no value; give one, or several in a list")
        first, *others = (write_term(key, one) for one in value)
        return ",".join([first, *(term.partition("=")[2] for term in others)])
    return write_term(key, value)


def _some(values: Sequence[Any]) -> str:
    shown = [label(value) for value in values[:SHOWN_VALUES]]
    return ", ".join(shown) + (f", … {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else "")
