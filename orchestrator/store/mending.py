"""Takes the damage out of one spool or journal: mends what one flipped bit did, replaces what nothing can
mend. Pure.

A CRC-32 tells every single flipped bit of a line from every other, and from none, as long as lines stay far
below 512 MiB; so a line that becomes valid by turning one bit back, and by no other, is what was written. A
stretch that cannot be mended is replaced by a valid line of the same length, kind ``unknown``, so that every
other line stays at its offset.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.store.spool import decode_line

_PREFIX_BYTES = 18
"""``{"crc":"`` and 8 hex digits, a quote and a comma."""

_FILLER = b'"kind":"unknown","pad":"%b"}'

_EMPTY = b'"kind":""}'
"""Filler where there is no room for more."""

_TABLE = [0] * 256
for _byte in range(256):
    _rest = _byte
    for _ in range(8):
        _rest = (_rest >> 1) ^ (0xEDB88320 if _rest & 1 else 0)
    _TABLE[_byte] = _rest

_TOP = {entry >> 24: number for number, entry in enumerate(_TABLE)}
"""A table entry by its top byte: what was shifted out last."""

_OF_ONE_BIT = {_TABLE[1 << bit]: 1 << bit for bit in range(8)}
"""What one flipped bit in the last byte does to a CRC-32."""


class Stretch(NamedTuple):
    """Bytes of a file that are no valid line, and what stands in their place."""

    offset: int
    """The first of them."""
    found: bytes
    """What was there."""
    put: bytes
    """What is there now, as long; the same where the bytes are too few to say anything in."""
    mended: bool
    """Whether that is what was written."""


def stretches(data: bytes) -> list[Stretch]:
    """The damaged stretches of a file, in order; a torn last line, which a killed writer leaves, is none."""
    found = []
    for start, end in _damaged(data):
        region = data[start:end]
        mended = _mended(region)
        if mended is None and not region.endswith(b"\n"):
            continue
        found.append(Stretch(start, region, mended or _filler(region), mended is not None))
    return found


def replaced(data: bytes, changes: list[Stretch]) -> bytes:
    """The file with every stretch replaced."""
    new = bytearray(data)
    for change in changes:
        new[change.offset : change.offset + len(change.found)] = change.put
    return bytes(new)


def _damaged(data: bytes) -> Iterator[tuple[int, int]]:
    """Beginning and end of each run of lines that are not valid."""
    offset, start = 0, -1
    for raw in data.splitlines(keepends=True) if b"\r" not in data else _lines(data):
        if decode_line(raw) is not None:
            if start >= 0:
                yield start, offset
            start = -1
        elif start < 0:
            start = offset
        offset += len(raw)
    if start >= 0:
        yield start, offset


def _lines(data: bytes) -> list[bytes]:
    """Lines by newline alone: a flipped bit may make a carriage return."""
    found = [line + b"\n" for line in data.split(b"\n")]
    found[-1] = found[-1][:-1]
    return [line for line in found if line]


def _mended(region: bytes) -> bytes | None:
    """The region with the one bit turned back that makes it valid, or ``None``."""
    lines = _lines(region)
    candidates: set[bytes] = set()
    if len(lines) == 1:
        candidates.update(_in_line(region))
        candidates.update(_at_end(region))
    for position in [i for i, byte in enumerate(region[:-1]) if byte == 0x0A]:
        candidates.update(c for bit in range(8) if _is_valid(c := _flipped(region, position, 1 << bit)))
    return candidates.pop() if len(candidates) == 1 else None


def _in_line(line: bytes) -> Iterator[bytes]:
    """A line whose text or checksum has one wrong bit."""
    if not line.endswith(b"\n") or len(line) <= _PREFIX_BYTES:
        return
    text = line[_PREFIX_BYTES:-1]
    crc = zlib.crc32(text)
    whole = b'{"crc":"%08x",' % crc + line[_PREFIX_BYTES:]
    if _num_bits(whole[:_PREFIX_BYTES], line[:_PREFIX_BYTES]) == 1:
        yield whole
    try:
        wanted = int(line[8:16], 16)
    except ValueError:
        return
    syndrome = crc ^ wanted
    for position in range(len(text) - 1, -1, -1):  # what the error would be if it lay in this byte
        mask = _OF_ONE_BIT.get(syndrome)
        if mask is not None:
            candidate = _flipped(line, _PREFIX_BYTES + position, mask)
            if _is_valid(candidate):
                yield candidate
            return
        number = _TOP[syndrome >> 24]
        syndrome = ((syndrome ^ _TABLE[number]) << 8 | number) & 0xFFFFFFFF


def _at_end(region: bytes) -> Iterator[bytes]:
    """Two lines whose newline in between has a wrong bit, or a last one without a newline."""
    start = region.find(b'{"crc":"', 1)
    while start > 0:
        if bin(region[start - 1] ^ 0x0A).count("1") == 1:
            candidate = _flipped(region, start - 1, region[start - 1] ^ 0x0A)
            if _is_valid(candidate):
                yield candidate
        start = region.find(b'{"crc":"', start + 1)
    if not region.endswith(b"\n") and bin(region[-1] ^ 0x0A).count("1") == 1:
        candidate = region[:-1] + b"\n"
        if _is_valid(candidate):
            yield candidate


def _is_valid(region: bytes) -> bool:
    return all(decode_line(line) is not None for line in _lines(region))


def _flipped(region: bytes, position: int, mask: int) -> bytes:
    return region[:position] + bytes([region[position] ^ mask]) + region[position + 1 :]


def _num_bits(left: bytes, right: bytes) -> int:
    return sum(bin(a ^ b).count("1") for a, b in zip(left, right, strict=True))


def _filler(region: bytes) -> bytes:
    """A valid line as long as the region; the region itself where there is no room for one."""
    room = len(region) - _PREFIX_BYTES - 1
    if room < len(_EMPTY):
        return region
    pad = room - len(_FILLER % b"")
    text = _FILLER % (b" " * pad) if pad >= 0 else _EMPTY[:-2] + b" " * (room - len(_EMPTY)) + _EMPTY[-2:]
    return b'{"crc":"%08x",%b\n' % (zlib.crc32(text), text)
