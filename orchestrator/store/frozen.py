"""The frozen files, ``manifest.parquet`` and ``sweep.yaml``, inside the journals: the spools then suffice.

A file travels as ``manifest`` records of the epoch that first saw it, a part each: compressed, in base64, so
that a line stays a line. A later content is written by the epoch that finds it; the last whole one counts.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.store.layout import Layout
from orchestrator.store.records import ManifestRecord, record_of
from orchestrator.store.spool import SpoolHealth, read_spool

FROZEN = ("manifest.parquet", "sweep.yaml")
"""Names of the files that a launch freezes."""

PART_BYTES = 2**20
"""Bytes of a file per record: bounds the memory of writer and reader."""


def sha256_of(path: Path) -> str:
    """Digest of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parts_of_file(path: Path, at: float) -> Iterator[tuple[ManifestRecord, dict[str, str]]]:
    """The records of a file and their bodies, in order."""
    digest, parts = sha256_of(path), max(1, -(-path.stat().st_size // PART_BYTES))
    with path.open("rb") as file:
        for part in range(parts):
            data = base64.b64encode(zlib.compress(file.read(PART_BYTES), 1)).decode()
            record = ManifestRecord(at=at, name=path.name, sha256=digest, part=part, parts=parts)
            yield record, {"data": data}


def frozen_file(layout: Layout, name: str) -> bytes | None:
    """The last whole content of a frozen file that the journals hold, or ``None``."""
    content, parts = None, list[bytes]()
    for path in layout.journal_paths():
        for line in read_spool(path, SpoolHealth(), live=True):
            if line.header["kind"] != "manifest" or line.header["name"] != name:
                continue
            record = record_of(line.header)
            assert isinstance(record, ManifestRecord)
            parts = [
                *(parts if record.part else ()),
                zlib.decompress(base64.b64decode(line.result()["data"])),
            ]
            whole = b"".join(parts) if len(parts) == record.parts else b""
            if len(parts) == record.parts and hashlib.sha256(whole).hexdigest() == record.sha256:
                content = whole
    return content
