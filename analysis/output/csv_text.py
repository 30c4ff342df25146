"""Frames as CSV that a spreadsheet takes for values: no cell of text begins a formula."""

from __future__ import annotations

from typing import Any

import pandas as pd

FORMULA = ("=", "@", "\t", "\n", "＝", "＋", "－", "＠")
"""What begins a formula, or is skipped before one, in Excel, LibreOffice or Sheets."""

SIGNS = ("+", "-")
"""What begins a formula unless a number follows."""


def csv_text(frame: pd.DataFrame, *, header: bool = True) -> str:
    """The frame without its index; a text that a spreadsheet would calculate has ``'`` before it."""
    safe = frame.copy(deep=False)
    safe.columns = pd.Index([neutral(name) for name in frame.columns])
    for position, kind in enumerate(frame.dtypes):
        column = frame.iloc[:, position]
        if isinstance(kind, pd.CategoricalDtype):
            renamed = [neutral(value) for value in column.cat.categories]
            if renamed != list(column.cat.categories):
                safe.isetitem(position, column.astype(object).map(neutral))
        elif not pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_datetime64_any_dtype(kind):
            safe.isetitem(position, column.map(neutral))
    return safe.to_csv(index=False, header=header)


def neutral(value: Any) -> Any:
    """A text as a cell that is only shown; every other value as it is."""
    if not isinstance(value, str) or not value:
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")  # an unquoted one would begin a new row
    begins = value.startswith(FORMULA) or (value.startswith(SIGNS) and not _is_number(value))
    return f"'{value}" if begins else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
