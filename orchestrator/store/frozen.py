"""The frozen files, ``manifest.parquet`` and ``sweep.yaml``, inside the journals: the spools then suffice.

A file travels as ``manifest`` records of the epoch that first saw it, a part each: compressed, in base64, so
that a line stays a line. A later content is written by the epoch that finds it; the last whole one counts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.store import digest_writer, digests
from orchestrator.store.fencing import journal_lines
from orchestrator.store.layout import Layout
from orchestrator.store.records import ManifestRecord, record_of
from orchestrator.store.spool import SpoolHealth
from sweeps.spec.errors import DamagedError, UserError

FROZEN = ("manifest.parquet", "sweep.yaml")
"""Names of the files that a launch freezes."""

PART_BYTES = 2**20
"""Bytes of a file per record: bounds the memory of writer and reader."""


def parts_of_file(path: Path, at: float) -> Iterator[tuple[ManifestRecord, dict[str, str]]]:
    """The records of a file and their bodies, in order."""
    digest, parts = digests.sha256_of(path), max(1, -(-path.stat().st_size // PART_BYTES))
    with path.open("rb") as file:
        for part in range(parts):
            data = base64.b64encode(zlib.compress(file.read(PART_BYTES), 1)).decode()
            record = ManifestRecord(at=at, name=path.name, sha256=digest, part=part, parts=parts)
            yield record, {"data": data}


def frozen_file(layout: Layout, name: str) -> bytes | None:
    """The last whole content of a frozen file that the journals hold, or ``None``."""
    content, parts = None, list[bytes]()
    for line in journal_lines(layout, SpoolHealth(), live=True, mentioning=(b'"kind":"manifest"',)):
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


def damage_of_frozen(layout: Layout, path: Path) -> str:
    """What is wrong with a frozen file, empty when nothing is; where there is no digest to hold it against,
    the journals have it.
    """
    with contextlib.suppress(DamagedError):
        why = digests.damage_of(layout, path) if path.is_file() else _is_no_file(path)
        if not why or why != digests.NOT_RECORDED:
            return why
    if not path.is_file():
        return _is_no_file(path)
    content = frozen_file(layout, path.name)
    if content is not None and hashlib.sha256(content).hexdigest() == digests.sha256_of(path):
        return ""
    return "cannot be told from a damaged one: its digest is lost"


def require_frozen(layout: Layout) -> None:
    """Raise unless this is a sweep directory whose frozen files are whole.

    Raises:
        UserError: when it is no sweep directory.
        DamagedError: naming the file and the fix.
    """
    found = frozen_damage(layout)
    if found:
        raise DamagedError(f"{found[0][0]}: {found[0][1]}; {fix_of_frozen(layout, found[0][0])}")


def require_launchable(layout: Layout) -> None:
    """Raise unless a launch may freeze its runs here: nothing is overwritten that the journals can restore.

    Raises:
        UserError: when it is no sweep directory.
        DamagedError: naming the file and the fix.
    """
    for path, why in frozen_damage(layout):
        if frozen_file(layout, path.name) is not None:
            raise DamagedError(f"{path}: {why}; {fix_of_frozen(layout, path)}")


def frozen_damage(layout: Layout) -> list[tuple[Path, str]]:
    """The frozen files that are missing or damaged, and how.

    Raises:
        UserError: when it is no sweep directory.
    """
    if not layout.root.is_dir():
        raise UserError(f"directory {str(layout.root)!r}: does not exist; give that of a launched sweep")
    paths = [layout.root / name for name in FROZEN]
    if not any(path.exists() for path in paths) and not layout.journal_paths():
        raise UserError(
            f"directory {str(layout.root)!r}: not a sweep (it has no sweep.yaml and manifest.parquet); "
            "give a directory that `emsweep launch` made"
        )
    return [(path, why) for path in paths if (why := damage_of_frozen(layout, path))]


def fix_of_frozen(layout: Layout, path: Path) -> str:
    """How a frozen file comes back."""
    if frozen_file(layout, path.name) is not None:
        return f"the journals hold it; restore it with: emsweep repair {layout.root}"
    return (
        f"the journals do not hold it; emsweep repair {layout.root} says what can be had, and a launch with "
        f"the words of the first one and --dir {layout.root} writes it anew and keeps every result"
    )


def adopt_frozen(layout: Layout) -> None:
    """Take down the digests of frozen files that the journals vouch for, where digests were lost."""
    known = digests.read_digests(layout) or {}
    for path in (layout.root / name for name in FROZEN):
        if path.name not in known and path.is_file() and not damage_of_frozen(layout, path):
            digest_writer.record(layout, path)


def _is_no_file(path: Path) -> str:
    return "is no file" if path.exists() or path.is_symlink() else "is missing"
