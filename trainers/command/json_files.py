"""Metrics that a command writes as JSON: lines of a file that grows, or one file at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainers.command.printed import Row

MAX_BYTES = 64 * 2**20
"""Largest JSON file that is read for its metrics."""


class JsonLines:
    """A file of one JSON object a line, read as far as it goes; rows without a step hold for the run."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._rest, self._number = path, 0, b"", 0

    def rows(self, *, final: bool) -> Iterator[Row]:
        """Rows that have come since the last call.

        Raises:
            ValueError: for a line that is no JSON object.
        """
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if final:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._number += 1
            if line.strip():
                yield _row(line, f"{self._path.name} line {self._number}")


class LastJson:
    """A JSON file that holds the run's metrics once the command has ended."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, *, final: bool) -> Iterator[Row]:
        """Its one row, once the command has ended.

        Raises:
            ValueError: for a file that is no JSON object.
        """
        if not final or not self._path.is_file():
            return
        if self._path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{self._path.name}: is larger than {MAX_BYTES >> 20} MiB; write metrics alone")
        _, values = _row(self._path.read_bytes(), self._path.name)
        yield None, values


def _row(text: bytes, where: str) -> Row:
    try:
        values: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: is no JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f'{where}: must be a JSON object, such as {{"step": 3, "loss": 0.5}}')
    step = values.pop("step", None)
    return (int(step) if isinstance(step, float) and step.is_integer() else step), values
