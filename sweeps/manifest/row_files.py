"""Files of rows: prompts, benchmarks, pools. JSON lines, CSV or Parquet, each also packed with gzip.

What a row's fields hold is read by :mod:`sweeps.manifest.row_fields`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from sweeps.manifest.data_files import local_path
from sweeps.spec import SpecError
from sweeps.spec.errors import cut

FORMS = "a JSON-lines, CSV or Parquet file (also .gz)"
"""What may be given, for messages."""

MAX_BYTES = 4 * 2**30
"""Unpacked bytes of a packed file: a few kilobytes can stand for terabytes."""

MAX_CELL_CHARACTERS = 2**27
"""Characters of one CSV cell; Python's own limit, 131,072, is less than a long document has."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    rows: Sequence[Mapping[str, Any]]
    places: Sequence[str]
    """How messages name each row: by its line, or in Parquet by its number from 0."""


def read_rows(path: str, what: str) -> list[Mapping[str, Any]]:
    """Return the rows of a file: ``.csv`` is read as CSV with a header, ``.parquet`` as Parquet, all else as
    JSON lines; ``.gz`` behind any of them is unpacked first.

    Args:
        path: local or ``pkg://`` path.
        what: the key that names the file, for messages.

    Raises:
        SpecError: if the file is missing, empty or not what its name says.
    """
    file = local_path(path)
    if not file.is_file():
        rule = "is a folder" if file.is_dir() else "no such file"
        raise SpecError(f"{what}={path!r}: {rule} ({file.absolute()}); give {FORMS}")
    rows = _read(file, what, file.stat().st_mtime_ns).rows
    if not rows:
        raise SpecError(f"{what}={path!r}: has no rows")
    return list(rows)


def row_name(path: str, number: int) -> str:
    """Return how messages name row ``number``, counted from 0: by its line, where the file has lines."""
    file = local_path(path)
    return f"{path} {_read(file, path, file.stat().st_mtime_ns).places[number]}"


def dig(row: Mapping[str, Any], field: str) -> Any:
    """Return a row's field; a dotted name reaches into nested objects, a number into a list.

    Raises:
        KeyError: if the row has no such field.
    """
    if field in row:
        return row[field]
    head, dot, rest = field.partition(".")
    inner = row.get(head) if dot else None
    if isinstance(inner, (list, tuple)):
        inner = {str(i): value for i, value in enumerate(inner)}
    if isinstance(inner, Mapping):
        return dig(inner, rest)
    raise KeyError(field)


@lru_cache(maxsize=16)
def _read(path: Path, what: str, _mtime_ns: int) -> _Rows:
    where = f"{what}={str(path)!r}"
    data = path.read_bytes()
    kind = path.suffix.lower()
    if kind == ".gz":
        data, kind = _unpacked(data, where), Path(path.stem).suffix.lower()
    if kind == ".parquet":
        return _parquet(data, where)
    if data.startswith(b"\x1f\x8b"):
        raise SpecError(f"{where}: is packed with gzip, which its name does not say; end its name in .gz")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{where} line {line}: is not UTF-8 text; save it as UTF-8, or give {FORMS}"
        ) from None
    return _csv(text, where) if kind == ".csv" else _json_lines(text, where)


def _unpacked(data: bytes, where: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            text = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SpecError(f"{where}: cannot be unpacked ({error}); copy the file again") from None
    if len(text) > MAX_BYTES:
        raise SpecError(f"{where}: holds more than {MAX_BYTES // 2**30} GiB; give fewer rows")
    return text


def _parquet(data: bytes, where: str) -> _Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SpecError(f"{where}: is not a Parquet file ({cut(str(error))})") from None
    return _Rows(rows=rows, places=[f"row {i}" for i in range(len(rows))])


def _csv(text: str, where: str) -> _Rows:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, places = [], []
    try:
        names = [name.strip() for name in next(reader, [])]
        doubled = [name for name in names if names.count(name) > 1]
        if doubled or (names and not all(names)):
            rule = f"names the column {doubled[0]!r} twice" if doubled else "has a column without a name"
            raise SpecError(f"{where} line 1: {rule}; give every column a name of its own")
        before = reader.line_num
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if len(cells) != len(names):
                raise SpecError(
                    f"{where} line {line}: has {len(cells)} cells under {len(names)} names; "
                    "quote cells that hold commas"
                )
            rows.append(dict(zip(names, cells, strict=True)))
            places.append(f"line {line}")
    except csv.Error as error:
        raise SpecError(f"{where} line {reader.line_num}: is not CSV ({error}); quote its cells") from None
    return _Rows(rows=rows, places=places)


def _json_lines(text: str, where: str) -> _Rows:
    rows, places = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_without_doubles, parse_float=_exactly)
        except (ValueError, RecursionError) as error:
            fix = "; write one JSON object a line" if text.lstrip()[:1] == "[" else ""
            raise SpecError(f"{where} line {number}: is not JSON ({error}){fix}") from None
        if not isinstance(row, dict):
            raise SpecError(
                f"{where} line {number}: must be a JSON object, not {type(row).__name__}; "
                "write one JSON object a line"
            )
        rows.append(row)
        places.append(f"line {number}")
    return _Rows(rows=rows, places=places)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ; JSON leaves open which of two equal ones counts."""
    names = [name for name, _ in pairs]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"it names the key {cut(doubled[0])!r} twice")
    return dict(pairs)


def _exactly(text: str) -> float | Decimal:
    """A number that is written with more digits than a float holds keeps them all."""
    value = float(text)
    return value if Decimal(repr(value)) == Decimal(text) else Decimal(text)
