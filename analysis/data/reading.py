"""Runs SQL over a sweep's files, and says which of them is damaged where its pages are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from sweeps.spec.errors import UserError

_DAMAGED = re.compile(r'Failed to read file "(?P<file>[^"]+)":(?P<why>[^\n]*)')
"""How DuckDB words it."""


def read(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] = ()) -> pa.Table:
    with damage_named():
        return connection.sql(sql, params=list(values) or None).to_arrow_table()


@contextmanager
def damage_named() -> Iterator[None]:
    """Say which file is damaged where its footer is whole and its pages are not."""
    try:
        yield
    except duckdb.Error as error:
        damage = _DAMAGED.search(str(error))
        if damage is None:
            raise
        folder = Path(damage["file"]).parent
        raise UserError(
            f"{damage['file']}: damaged ({damage['why'].strip()}); mend it with: emsweep repair {folder}"
        ) from error
