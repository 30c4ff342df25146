"""The digest of every file that is read as a whole, and its comparison.

:mod:`orchestrator.store.digest_writer` writes ``digests.json``::

    {"crc": "<8 hex>", "files": {"<name>": {"bytes": n, "sha256": ["<64 hex>", …]}, …}}

``crc`` is the CRC-32 of the JSON of ``files``, written with sorted keys and no spaces. A name is relative to
the sweep directory: ``sweep.yaml``, ``manifest.parquet``, every table and part, ``state.sqlite`` once its
writer has closed it, and the journal of every driver that has ended, of which the first ``bytes`` count.

The holder of the lock writes it: before a new content takes a file's name its digest is among the
acceptable ones, and afterwards it is the only one, so that a crash at any moment leaves no file without a
digest. Readers compare once per (device, inode, size, mtime) and process, right before they read:
:func:`require_intact`. Directories of format 1 have no digests; there nothing is
compared until a driver or ``emsweep repair`` has been at work.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.store.layout import TABLES, Layout
from sweeps.spec.errors import DamagedError

NOT_RECORDED = "has no recorded digest"
"""What is wrong with a file of which nothing was taken down."""

TRIES = 4
"""Looks at a file before it counts as damaged: its writer replaces it and the digests one after the other."""

TRY_AGAIN_S = 0.05
"""Pause between two looks."""

ABSENT = ""
"""Stands for the digest of a file that is not there yet, or about to go."""

READ_BYTES = 2**20
"""Bytes hashed at a time."""

_FORMAT_1 = re.compile(r"(?m)^\s*[\"']?format[\"']?:\s*1\s*,?\s*$")
"""How ``sweep.yaml`` says so."""


class FileDigest(NamedTuple):
    """What a file must hold."""

    num_bytes: int
    """Size of the content that was recorded last."""
    sha256: tuple[str, ...]
    """Acceptable digests, one but for the moment in which the file is replaced; :data:`ABSENT` among them
    while the file may be missing.
    """


Digests = Mapping[str, FileDigest]
"""By name relative to the sweep directory."""

_checked: dict[tuple[Any, ...], str] = {}
"""Stamp of a file's content to its digest, in this process."""

_last: dict[Path, tuple[tuple[int, ...], Digests]] = {}
"""What was parsed last of each ``digests.json``."""

_guard = threading.Lock()


def read_digests(layout: Layout) -> Digests | None:
    """The recorded digests; ``None`` where there are none, as in format 1.

    Raises:
        DamagedError: when the file is missing in a later format, or damaged.
    """
    try:
        return _parsed(layout.digests)
    except FileNotFoundError:
        if has_no_digests(layout):
            return None
        raise _damaged(layout, layout.digests, "is missing") from None
    except OSError as error:
        raise _damaged(layout, layout.digests, f"cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(layout, layout.digests, "is damaged") from None


def _parsed(path: Path) -> Digests:
    """The file's content, parsed once while nothing about it changes."""
    stat = path.stat()
    stamp = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    with _guard:
        known = _last.get(path)
    if known is None or known[0] != stamp:
        known = stamp, parse_digests(path.read_bytes())
        with _guard:
            _last[path] = known
    return known[1]


def parse_digests(text: bytes) -> Digests:
    """The digests that a file holds.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: for a text that is not whole.
    """
    document = json.loads(text)
    files = document["files"]
    if document["crc"] != checksum(files):
        raise ValueError("its checksum is wrong")
    return {name: FileDigest(entry["bytes"], tuple(entry["sha256"])) for name, entry in files.items()}


def has_no_digests(layout: Layout) -> bool:
    """Whether a directory is of format 1, by its ``sweep.yaml``."""
    try:
        return bool(_FORMAT_1.search(layout.config.read_text(errors="replace")))
    except OSError:
        return False


def name_of(layout: Layout, path: Path) -> str:
    """How the digests call a file."""
    if path == layout.state or path.suffix == ".sqlite":
        return layout.state.name
    return path.relative_to(layout.root).as_posix()


def require_intact(layout: Layout, path: Path) -> None:
    """Raise unless a file holds what was written to it.

    Raises:
        DamagedError: naming the file and the fix.
    """
    why = damage_of(layout, path)
    if why:
        raise _damaged(layout, path, why)


def damage_of(layout: Layout, path: Path) -> str:
    """What is wrong with a file, empty when nothing is.

    Raises:
        DamagedError: when the digests themselves cannot be read.
        FileNotFoundError: when a file has gone that is not recorded any more: a driver merges its parts.
    """
    why = ""
    for left in reversed(range(TRIES)):
        digests = read_digests(layout)
        if digests is None:
            return ""
        recorded = digests.get(name_of(layout, path))
        try:
            why = _mismatch(path, recorded)
        except FileNotFoundError:
            why = "is missing"
            if recorded is None and not left:
                raise
            if recorded is not None and ABSENT in recorded.sha256:
                return ""
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
        if not why:
            return ""
        if left:
            time.sleep(TRY_AGAIN_S)
    return why


def is_intact(layout: Layout, path: Path) -> bool:
    """Whether a file is recorded and holds that, at the first look; in format 1 always.

    Raises:
        DamagedError: when the digests themselves cannot be read.
        OSError: when the file cannot be.
    """
    digests = read_digests(layout)
    return digests is None or not _mismatch(path, digests.get(name_of(layout, path)))


def recorded_damage(layout: Layout, path: Path) -> str:
    """What is wrong with a file, as far as anything is recorded of it; empty when nothing is."""
    try:
        recorded = (read_digests(layout) or {}).get(name_of(layout, path))
        return _mismatch(path, recorded) if recorded is not None else ""
    except (OSError, DamagedError):
        return ""


def _mismatch(path: Path, recorded: FileDigest | None) -> str:
    if recorded is None:
        path.stat()
        return NOT_RECORDED
    if path.suffix == ".jsonl":
        if path.stat().st_size < recorded.num_bytes:
            return f"is cut off: {path.stat().st_size:,} of {recorded.num_bytes:,} bytes are left"
        found = sha256_of(path, recorded.num_bytes)
    else:
        found = sha256_of(path)
    return "" if found in recorded.sha256 else "does not hold what was written (its SHA-256 differs)"


def sha256_of(path: Path, num_bytes: int | None = None) -> str:
    """Digest of a file or of its first bytes, 64 hex digits; remembered while nothing about it changes."""
    with path.open("rb") as file:
        stat = path.stat()
        stamp = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, num_bytes)
        with _guard:
            known = _checked.get(stamp)
        if known is not None:
            return known
        digest = hashlib.sha256()
        left = stat.st_size if num_bytes is None else num_bytes
        while left > 0 and (chunk := file.read(min(READ_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
    with _guard:
        _checked[stamp] = digest.hexdigest()
    return digest.hexdigest()


def forget_what_was_seen() -> None:
    """Compare every file again, also those that seem unchanged."""
    with _guard:
        _checked.clear()
        _last.clear()


def table_files(layout: Layout) -> list[Path]:
    """Where tables and their parts lie, those that are not there included."""
    return [*map(layout.table, TABLES), *sorted(layout.parts.glob("*.parquet"))]


def checksum(files: Mapping[str, Any]) -> str:
    """CRC-32 of what ``digests.json`` says of files, eight hex digits."""
    text = json.dumps(files, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"


def _damaged(layout: Layout, path: Path, why: str) -> DamagedError:
    return DamagedError(f"{path}: {why}; mend it with: emsweep repair {layout.root}")
