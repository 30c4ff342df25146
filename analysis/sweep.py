"""What ``from analysis import open_sweep`` opens: the data of a sweep, and the tables made of them.

sweep = open_sweep("outputs/quickstart")
sweep.where("optim.lr=1e-4").runs()
sweep.cells(by=["model"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.sweep import SweepData
from analysis.output.table import ReportTable
from analysis.tables.cell_table import cell_table


class Sweep(SweepData):
    """The runs of one or more sweep directories, and their table of cells."""

    def cells(
        self, by: Sequence[str] | None = None, metric: str | None = None, over: str | None = None
    ) -> pd.DataFrame:
        """One row per cell, or per combination of the axes ``by``; see
        :func:`analysis.tables.cell_table.cell_table`.
        """
        return self.cell_table(by, metric, over=over).frame

    def cell_table(
        self, by: Sequence[str] | None = None, metric: str | None = None, **options: Any
    ) -> ReportTable:
        """The same with its footnotes, ready to be written as text, Markdown, CSV, LaTeX or Parquet."""
        return cell_table(self, by=by, metric=metric, **options)


def open_sweep(*directories: str | Path, live: bool = False) -> Sweep:
    """Open one sweep directory, or several that are then read as one; see :meth:`SweepData.open`."""
    return Sweep.open(*directories, live=live)
