"""Metrics that a command logs with TensorBoard or, offline, with W&B: read off the files that these write.

TensorBoard: files ``events.out.tfevents.*`` of TFRecords (length, checksum, message, checksum), each an
``Event`` whose scalars are taken. W&B: files ``*.wandb`` of LevelDB log records in blocks of 32 KiB, whose
``history`` are the steps and whose ``summary`` holds for the run. What is still being written is read later.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainers.command.printed import Row
from trainers.command.protobuf import fields, float32, float64, signed

BLOCK = 1 << 15
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


class EventFiles:
    """TensorBoard's files below a folder, read while they grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def rows(self, *, final: bool) -> Iterator[Row]:
        """Scalars that have come since the last call."""
        for path in sorted(self._folder.rglob("events.out.tfevents.*")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
            at = 0
            while at + 12 <= len(data):
                (size,) = struct.unpack_from("<Q", data, at)
                if at + 16 + size > len(data):
                    break
                yield from _scalars(data[at + 12 : at + 12 + size])
                at += 16 + size
            self._offsets[path] = self._offsets.get(path, 0) + at


def _scalars(event: bytes) -> Iterator[Row]:
    step, summaries = 0, []
    for number, value in fields(event):
        if number == 2 and isinstance(value, int):
            step = signed(value)
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for number, value in fields(summary):
            if number == 1 and isinstance(value, bytes):
                tag, scalar = _scalar(value)
                if scalar is not None:
                    yield step, {tag: scalar}


def _scalar(value: bytes) -> tuple[str, float | None]:
    tag, scalar = "", None
    for number, content in fields(value):
        if number == 1 and isinstance(content, bytes):
            tag = content.decode(errors="replace")
        elif number == 2:
            scalar = float32(content)
        elif number == 8 and isinstance(content, bytes):
            scalar = _of_tensor(content)
    return tag, scalar


def _of_tensor(tensor: bytes) -> float | None:
    """The one number of a ``TensorProto`` of type float or double; ``None`` for any other."""
    kind, raw, shape = 0, b"", b""
    for number, content in fields(tensor):
        if number == 1 and isinstance(content, int):
            kind = content
        elif number == 2 and isinstance(content, bytes):
            shape = content
        elif number in (4, 5, 6) and isinstance(content, bytes):
            raw = content
    if shape or kind not in (1, 2) or len(raw) != 4 * kind:
        return None
    return float32(raw) if kind == 1 else float64(raw)


class OfflineRuns:
    """Offline runs of W&B below a folder, read once the command has ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def rows(self, *, final: bool) -> Iterator[Row]:
        """All that they logged."""
        files = {path.resolve() for path in self._folder.rglob("*.wandb")} if final else set()
        for path in sorted(files):
            for record in _records(path.read_bytes()):
                yield from _logged(record)


def _records(data: bytes) -> Iterator[bytes]:
    at, begun = _HEADER.size, b""  # the file's own header is as long as a record's
    while at + _HEADER.size <= len(data):
        if BLOCK - at % BLOCK < _HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        part = data[at : at + size]
        if kind == 0 or len(part) < size:
            return  # cut off while it was written
        at += size
        begun = part if kind in (_FULL, _FIRST) else begun + part
        if kind in (_FULL, _LAST):
            yield begun


def _logged(record: bytes) -> Iterator[Row]:
    for number, content in fields(record):
        if number not in (2, 3) or not isinstance(content, bytes):
            continue
        values: dict[str, Any] = {}
        step = 0
        for inner, item in fields(content):
            if inner == 1 and isinstance(item, bytes):
                name, value = _item(item)
                if name == "_step":
                    step = int(value)
                elif name and not name.startswith("_") and isinstance(value, int | float | str):
                    values[name] = value
            elif inner == 2 and number == 2 and isinstance(item, bytes):
                step = next((v for n, v in fields(item) if n == 1 and isinstance(v, int)), step)
        if values:
            yield (step if number == 2 else None), values


def _item(item: bytes) -> tuple[str, Any]:
    key, nested, value = "", [], None
    for number, content in fields(item):
        if not isinstance(content, bytes):
            continue
        if number == 1:
            key = content.decode(errors="replace")
        elif number == 2:
            nested.append(content.decode(errors="replace"))
        elif number == 16:
            value = json.loads(content)
    return key or ".".join(nested), value
