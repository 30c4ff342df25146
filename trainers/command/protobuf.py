"""Protocol buffers as plain fields: enough to read the few that experiment trackers write, without their
libraries, which are the script's own affair.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message: whole numbers, or the bytes of everything else.

    Raises:
        ValueError: for bytes that are no message.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of kind {wire}")
        if at + size > len(data):
            raise ValueError("a field that is cut off")
        yield number, data[at : at + size]
        at += size


def signed(value: int) -> int:
    """A whole number of 64 bits as a signed one."""
    return value - (1 << 64) if value >> 63 else value


def float32(value: int | bytes) -> float:
    assert isinstance(value, bytes)
    number: float = struct.unpack("<f", value)[0]
    return number


def float64(value: int | bytes) -> float:
    assert isinstance(value, bytes)
    number: float = struct.unpack("<d", value)[0]
    return number


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number that is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
