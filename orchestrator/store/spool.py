"""Append-only files of checksummed lines: one writer a file, one ``write()`` a record.

A line is ``{"crc":"<8 hex>",<header fields>[,"result":<object>]}`` and a newline. The checksum is the CRC-32
of the bytes between ``"crc":"…",`` and the newline. The bulky ``result`` comes last, so that a reader which
only needs to know *that* a run finished parses the header and leaves the rest alone.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sweeps.manifest.atomic import fsync_path

_PREFIX = b'{"crc":"'
_BODY = b',"result":'
_START = len(_PREFIX) + 10
"""Offset of the first checksummed byte: the prefix, 8 hex digits, a quote and a comma."""

READ_BYTES = 8 * 2**20
"""Bytes read at once: large enough that a spool of a million lines costs few calls, small beside the memory
budget.
"""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_decode = json.JSONDecoder().raw_decode
"""A rebuild takes 15 % less time so than with ``json.loads`` of bytes, which looks for their encoding."""


def encode_line(header: Mapping[str, Any], result: Mapping[str, Any] | None = None) -> bytes:
    """Return one record as a checksummed line, newline included.

    Raises:
        ValueError: for a NaN or an infinity, which JSON cannot hold.
        TypeError: for a value that is not plain JSON.
    """
    text = _encode(header)[1:-1].encode()
    if result is not None:
        text += _BODY + _encode(result).encode()
    text += b"}"
    return b'%b%08x",%b\n' % (_PREFIX, zlib.crc32(text), text)


class Line(NamedTuple):
    """A valid line and where it lies."""

    header: dict[str, Any]
    """Every field but ``crc`` and ``result``."""
    body: bytes | None
    """The ``result`` as JSON text, not yet parsed; ``None`` when the record has none."""
    offset: int
    """First byte of the line in its file."""
    length: int
    """Bytes of the line, newline included."""

    def result(self) -> dict[str, Any]:
        """Parse the ``result``."""
        assert self.body is not None
        found: dict[str, Any] = _decode(self.body.decode())[0]
        return found


def decode_line(line: bytes, offset: int = 0) -> Line | None:
    """Parse one line with its newline; ``None`` when it is torn or corrupt."""
    if not line.startswith(_PREFIX) or line[-1:] != b"\n":
        return None
    text = line[_START:-1]
    if line[_START - 10 : _START] != b'%08x",' % zlib.crc32(text):
        return None
    at = text.find(_BODY)
    while at >= 0:
        try:
            header = _decode("{" + text[:at].decode() + "}")[0]
        except json.JSONDecodeError:  # a field within another one's value is called so
            at = text.find(_BODY, at + 1)
        else:
            return Line(header, text[at + len(_BODY) : -1], offset, len(line))
    return Line(_decode("{" + text.decode())[0], None, offset, len(line))


@dataclass(kw_only=True)
class SpoolHealth:
    """What a reader met besides valid lines."""

    num_valid: int = 0
    """Valid lines."""
    num_corrupt: int = 0
    """Complete lines whose checksum is wrong."""
    num_torn: int = 0
    """Files that end in an incomplete line."""
    num_fenced: int = 0
    """Valid lines that a replaced driver or its workers appended too late."""
    read_bytes: dict[str, int] = field(default_factory=dict)
    """Bytes read of each file, an incomplete last line left out."""
    garbled: set[str] = field(default_factory=set)
    """Files whose last line is whole but for its last byte."""
    corrupt_at: list[tuple[str, int]] = field(default_factory=list)
    """File name and offset of each bad line, the first :data:`MAX_NOTED` of them."""

    def note(self, name: str, offset: int) -> None:
        """Remember where a bad line lies."""
        if len(self.corrupt_at) < MAX_NOTED:
            self.corrupt_at.append((name, offset))


MAX_NOTED = 100
"""Bad lines remembered with their place; a message names no more than that."""


def read_spool(
    path: Path,
    health: SpoolHealth,
    start: int = 0,
    *,
    live: bool = False,
    mentioning: Sequence[bytes] = (),
    end: int | None = None,
) -> Iterator[Line]:
    """Yield the valid lines of a spool from byte ``start`` on; skip, count and note the others.

    Args:
        path: the file.
        health: what is met is counted here.
        start: offset of the first line to read.
        live: leave an incomplete last line for the next read and do not count it: its writer may still be at
            it.
        mentioning: pass over lines that hold none of these texts, unread; empty reads all.
        end: lines from this byte on are void and only counted.
    """
    offset, rest = start, b""
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(READ_BYTES):
            lines = (rest + chunk).splitlines(keepends=True) if rest else chunk.splitlines(keepends=True)
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            for raw in lines:
                if mentioning and not any(text in raw for text in mentioning):
                    offset += len(raw)
                    continue
                line = decode_line(raw, offset)
                if end is not None and offset >= end:
                    health.num_fenced += line is not None
                elif line is not None:
                    health.num_valid += 1
                    yield line
                else:
                    health.num_corrupt += 1
                    health.note(path.name, offset)
                offset += len(raw)
    health.read_bytes[path.name] = offset
    if rest and not live and (end is None or offset < end):
        # A record is one write(): a torn one lacks its end; one that is whole but for its last byte was
        # damaged.
        if decode_line(rest[:-1] + b"\n") is not None:
            health.num_corrupt += 1
            health.garbled.add(path.name)
        else:
            health.num_torn += 1
        health.note(path.name, offset)


class LineReader:
    """Reads single lines of the spools in one folder, each file opened once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fds: dict[str, int] = {}

    def read(self, name: str, offset: int, length: int) -> Line | None:
        """Return the line at ``offset`` of the file ``name``; ``None`` when it is not valid there."""
        if name not in self._fds:
            try:
                self._fds[name] = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
        return decode_line(os.pread(self._fds[name], length, offset), offset)

    def close(self) -> None:
        """Close the files."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


class SpoolWriter:
    """Appends records to one new file; the caller is its only writer.

    Raises:
        FileExistsError: when the file is already there, which would mean two writers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = 0
        self._dirty = False
        fsync_path(path.parent)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def append(self, line: bytes) -> int:
        """Write one encoded line and return its offset; durable only after :meth:`sync`.

        Raises:
            OSError: when the disk is full or fails; the file is left as it was before the call.
        """
        offset = self._size
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                # A nearly full disk takes a part; trying the rest raises the reason.
                os.write(self._fd, line[written:])
                raise OSError(5, "record written in two parts")
        except OSError:
            os.ftruncate(self._fd, offset)
            raise
        self._size += len(line)
        self._dirty = True
        return offset

    def sync(self) -> None:
        """Force what was appended to the disk."""
        if self._dirty:
            os.fdatasync(self._fd)
            self._dirty = False

    def close(self) -> None:
        """Sync and close."""
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1
