"""Read a W&B offline run file: a LevelDB log of protocol-buffer records after a 7-byte header."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32768
_FILE_HEADER = 7
_RECORD_HEADER = 7
_FULL, _LAST = 1, 4


def read_wandb_file(path: Path) -> Iterator[Any]:
    """Yield the ``wandb_internal_pb2.Record`` objects of a ``.wandb`` file in order."""
    from wandb.proto import wandb_internal_pb2

    for data in _chunks(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record


def _chunks(content: bytes) -> Iterator[bytes]:
    offset, pending = _FILE_HEADER, b""
    while offset + _RECORD_HEADER <= len(content):
        left = _BLOCK - offset % _BLOCK
        if left < _RECORD_HEADER:
            offset += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, offset)
        offset += _RECORD_HEADER
        pending += content[offset : offset + length]
        offset += length
        if kind in (_FULL, _LAST):
            yield pending
            pending = b""
