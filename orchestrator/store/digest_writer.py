"""Replaces files together with their digests. Owns ``digests.json``, whose form :mod:`.digests` describes.

Only the holder of the lock calls what is here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.store.digests import (
    ABSENT,
    Digests,
    FileDigest,
    checksum,
    name_of,
    parse_digests,
    read_digests,
    sha256_of,
    table_files,
)
from orchestrator.store.layout import Layout
from sweeps.manifest.atomic import beside, fsync_path, write_atomically
from sweeps.spec.errors import DamagedError


class Replacement:
    """Files that take their names together, and their digests with them; as a context manager.

    Leaving the block makes everything durable in this order: contents, digests that allow old and new, names,
    digests of the new alone. When the block raises, nothing has changed.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._temporary: dict[Path, Path] = {}
        self._going: list[Path] = []

    def writing(self, path: Path) -> Path:
        """The name to write to what is to become ``path``."""
        self._temporary[path] = beside(path)
        return self._temporary[path]

    def removing(self, paths: Iterable[Path]) -> None:
        """Files that go once the others are there."""
        self._going += paths

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        try:
            if kind is None:
                self._replace()
        finally:
            for temporary in self._temporary.values():
                temporary.unlink(missing_ok=True)

    def _replace(self) -> None:
        layout, known = self._layout, dict(_written(self._layout))
        new: dict[str, FileDigest] = {}
        for path, temporary in self._temporary.items():
            fsync_path(temporary)
            new[name_of(layout, path)] = FileDigest(temporary.stat().st_size, (sha256_of(temporary),))
        either = {
            name: digest._replace(sha256=(*digest.sha256, *_earlier(layout, known, name)))
            for name, digest in new.items()
        }
        going = {name_of(layout, path): path for path in self._going}
        leaving = {
            name: d._replace(sha256=tuple(dict.fromkeys((*d.sha256, ABSENT))))
            for name, d in known.items()
            if name in going
        }
        if either or leaving:
            _write(layout, known | either | leaving)
        for path, temporary in self._temporary.items():
            temporary.replace(path)
        for path in going.values():
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in (*self._temporary, *going.values())}:
            fsync_path(folder)
        if either or leaving:
            _write(layout, {n: d for n, d in (known | new).items() if n not in going or n in new})


def _earlier(layout: Layout, known: Digests, name: str) -> tuple[str, ...]:
    if name in known and (layout.root / name).exists():
        return known[name].sha256
    return (ABSENT,)


def remove_recorded(layout: Layout, paths: Iterable[Path]) -> None:
    """Remove files, and what was recorded of them."""
    with Replacement(layout) as change:
        change.removing(paths)


def record(layout: Layout, *paths: Path) -> None:
    """Take down what these files hold now."""
    found = {name_of(layout, path): FileDigest(path.stat().st_size, (sha256_of(path),)) for path in paths}
    _write(layout, {**_written(layout), **found})


def record_beginnings(layout: Layout, num_bytes: Mapping[Path, int]) -> None:
    """Take down the first bytes of files that count from now on no further, unless that was done before."""
    known = _written(layout)
    found = {
        name_of(layout, path): FileDigest(num, (sha256_of(path, num),))
        for path, num in num_bytes.items()
        if name_of(layout, path) not in known
    }
    if found:
        _write(layout, {**known, **found})


def forget(layout: Layout, names: Iterable[str]) -> None:
    """Drop what was recorded of files that are gone, or about to change."""
    gone = set(names)
    known = _written(layout)
    if gone & set(known):
        _write(layout, {name: digest for name, digest in known.items() if name not in gone})


def begin_digests(layout: Layout) -> None:
    """Make sure that there are digests, for the holder of the lock.

    In a directory of format 1 every file counts as it is. Where digests are lost or damaged, tables and
    parts go, for what they hold cannot be told any more and they are written anew; the frozen files must be
    those of the journals, which whoever opens them compares.
    """
    try:
        if read_digests(layout) is not None:
            return
        frozen = (layout.config, layout.manifest)
        record(layout, *(path for path in (*frozen, *table_files(layout)) if path.is_file()))
    except DamagedError:
        if layout.digests.is_dir():
            raise
        _write(layout, {})
        for path in table_files(layout):
            if path.is_file() or path.is_symlink():
                path.unlink()


def start_afresh(layout: Layout) -> None:
    """Record nothing."""
    _write(layout, {})


def write_recorded(layout: Layout, path: Path, data: bytes) -> None:
    """Replace a file durably, and its digest."""
    with Replacement(layout) as change:
        change.writing(path).write_bytes(data)


def _written(layout: Layout) -> Digests:
    """What the holder of the lock has written; nothing yet in a new directory."""
    return parse_digests(layout.digests.read_bytes()) if layout.digests.exists() else {}


def _write(layout: Layout, digests: Digests) -> None:
    files = {name: {"bytes": d.num_bytes, "sha256": list(d.sha256)} for name, d in sorted(digests.items())}
    text = json.dumps({"crc": checksum(files), "files": files}, separators=(",", ":"))
    write_atomically(layout.digests, text.encode(), durable=True)
