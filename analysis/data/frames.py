"""From Arrow tables to tidy pandas frames: axes typed and in YAML order, outcomes in the order of a run's
life.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.store.layout import OUTCOMES
from sweeps.grid.axes import Axis


def to_frame(table: pa.Table, axes: Sequence[Axis]) -> pd.DataFrame:
    """Return ``table`` as a frame; text axes and the outcome become ordered categoricals, numbers stay
    numbers.
    """
    orders: dict[str, Sequence[Any]] = {
        axis.key: axis.values for axis in axes if axis.kind in ("str", "bool")
    }
    orders["outcome"] = OUTCOMES
    columns = {}
    for name in dict.fromkeys(table.column_names):
        column = table.column(name)
        columns[name] = _categorical(column, orders[name]) if name in orders else column.to_pandas()
    return pd.DataFrame(columns, copy=False)


def _categorical(column: pa.ChunkedArray, order: Sequence[Any]) -> pd.Categorical:
    """Codes are looked up once per distinct value, so a million rows cost milliseconds."""
    encoded = pc.dictionary_encode(column).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # combine_chunks keeps an empty column chunked
        return pd.Categorical([], categories=list(order), ordered=True)
    distinct = encoded.dictionary.to_pylist()
    categories = [*order, *(value for value in distinct if value not in order)]
    position = np.array([categories.index(value) for value in distinct] or [0], dtype=np.int32)
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return pd.Categorical.from_codes(np.where(codes < 0, -1, position[codes]), categories, ordered=True)
