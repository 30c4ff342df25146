"""Files of rows: prompts, benchmarks, pools. JSON lines, CSV, Parquet (each also in gzip) or Arrow.

What a row's fields hold is read by :mod:`sweeps.manifest.row_fields`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from sweeps.manifest.data_files import local_path
from sweeps.spec import SpecError
from sweeps.spec.errors import cut
from sweeps.spec.hub_names import DATA_SUFFIXES
from sweeps.spec.text import counted

FORMS = "a JSON-lines, CSV or Parquet file (also .gz)"
"""What may be given, for messages."""

MAX_BYTES = 4 * 2**30
"""Unpacked bytes of a packed file: a few kilobytes can stand for terabytes."""

MAX_CELL_CHARACTERS = 2**27
"""Characters of one CSV cell; Python's own limit, 131,072, is less than a long document has."""

PARQUET_ROWS = 4096
"""Rows of a Parquet or Arrow file that are turned into Python's values at once."""


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
    file = _existing(path, what)
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
    rows, places = [], []
    for place, row in _stream(path, what):
        rows.append(row)
        places.append(place)
    return _Rows(rows=rows, places=places)


def is_readable(name: str) -> bool:
    """Whether a file's name is that of rows, and not of a picture or a text beside them."""
    return name.lower().removesuffix(".gz").endswith(DATA_SUFFIXES)


def stream_rows(files: Sequence[Path], what: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The place and the fields of each row of files, one after another, so that those of any length take the
    memory of a few rows; the errors are those of :func:`read_rows`.
    """
    for file in files:
        name = f"{file.name} " if len(files) > 1 else ""
        for place, row in _stream(file, what):
            yield name + place, row


def _existing(path: str, what: str) -> Path:
    file = local_path(path)
    if not file.is_file():
        rule = "is a folder" if file.is_dir() else "no such file"
        raise SpecError(f"{what}={path!r}: {rule} ({file.absolute()}); give {FORMS}")
    return file


_Stream = Iterator[tuple[str, Mapping[str, Any]]]
"""Places and rows."""


def _stream(path: Path, what: str) -> _Stream:
    where = f"{what}={str(path)!r}"
    kind = path.suffix.lower()
    if path.exists() and not path.is_file():
        raise SpecError(f"{where}: is no file that can be read twice; give {FORMS}")
    with path.open("rb") as file:
        stream = file
        if kind == ".gz":
            kind = Path(path.stem).suffix.lower()
            stream = io.BufferedReader(_Unpacked(file, where))
        if kind == ".arrow":
            yield from _arrow(path, where)
            return
        if kind == ".parquet":
            yield from _parquet(stream if stream is file else io.BytesIO(stream.read()), where)
            return
        if stream is file and file.peek(2)[:2] == b"\x1f\x8b":
            raise SpecError(f"{where}: is packed with gzip, which its name does not say; end its name in .gz")
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="" if kind == ".csv" else "\n")
        try:
            yield from _csv(text, where) if kind == ".csv" else _json_lines(text, where)
        except UnicodeDecodeError:
            raise SpecError(
                f"{where} line {_undecodable_line(path, where)}: is not UTF-8 text; save it as UTF-8, or "
                f"give {FORMS}"
            ) from None


def _undecodable_line(path: Path, where: str) -> int:
    """The first line that is not UTF-8, from 1."""
    with path.open("rb") as file:
        is_packed = path.suffix.lower() == ".gz"
        stream = io.BufferedReader(_Unpacked(file, where)) if is_packed else file
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


class _Unpacked(io.RawIOBase):
    """What a file packed with gzip holds, up to :data:`MAX_BYTES`."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._gzip, self._where, self._left = gzip.GzipFile(fileobj=file), where, MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._gzip.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise SpecError(f"{self._where}: cannot be unpacked ({error}); copy the file again") from None
        self._left -= len(data)
        if self._left < 0:
            raise SpecError(f"{self._where}: holds more than {MAX_BYTES // 2**30} GiB; give fewer rows")
        buffer[: len(data)] = data
        return len(data)


def _parquet(file: BinaryIO, where: str) -> _Stream:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        opened = pyarrow.parquet.ParquetFile(file)
        _require_one_of_each(opened.schema_arrow.names, where)
        for batch in opened.iter_batches(PARQUET_ROWS):
            for row in batch.to_pylist():
                yield f"row {number}", row
                number += 1
    except SpecError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SpecError(f"{where}: is not a Parquet file ({cut(str(error))})") from None


def _arrow(path: Path, where: str) -> _Stream:
    """The rows of an Arrow file, or of a stream, as ``datasets`` writes them; mapped, not read as a whole."""
    import pyarrow

    number = 0
    try:
        with pyarrow.memory_map(str(path)) as source:
            try:
                opened = pyarrow.ipc.open_file(source)
                batches = map(opened.get_batch, range(opened.num_record_batches))
            except pyarrow.ArrowInvalid:
                source.seek(0)
                batches = pyarrow.ipc.open_stream(source)
            for batch in batches:
                _require_one_of_each(batch.schema.names, where)
                for start in range(0, batch.num_rows, PARQUET_ROWS):
                    for row in batch.slice(start, PARQUET_ROWS).to_pylist():
                        yield f"row {number}", row
                        number += 1
    except SpecError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SpecError(f"{where}: is not an Arrow file ({cut(str(error))}); save it again") from None


def _require_one_of_each(names: Sequence[str], where: str) -> None:
    if doubled := [name for name in names if names.count(name) > 1]:
        raise SpecError(
            f"{where}: names the column {doubled[0]!r} twice; give every column a name of its own"
        )


def _csv(text: TextIO, where: str) -> _Stream:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(text, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        _require_one_of_each(names, f"{where} line 1")
        if names and not all(names):
            raise SpecError(
                f"{where} line 1: has a column without a name; give every column a name of its own"
            )
        before = reader.line_num
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if len(cells) != len(names):
                has = f"has {counted(len(cells), 'cell')} under {counted(len(names), 'name')}"
                raise SpecError(f"{where} line {line}: {has}; quote cells that hold commas")
            yield f"line {line}", dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise SpecError(f"{where} line {reader.line_num}: is not CSV ({error}); quote its cells") from None


def _json_lines(text: TextIO, where: str) -> _Stream:
    first = ""
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        first = first or line.lstrip()[:1]
        try:
            row = json.loads(line, object_pairs_hook=_without_doubles, parse_float=_exactly)
        except (ValueError, RecursionError) as error:
            fix = "; write one JSON object a line" if first == "[" else ""
            raise SpecError(f"{where} line {number}: is not JSON ({error}){fix}") from None
        if not isinstance(row, dict):
            raise SpecError(
                f"{where} line {number}: must be a JSON object, not {type(row).__name__}; "
                "write one JSON object a line"
            )
        yield f"line {number}", row


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
