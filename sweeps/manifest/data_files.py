"""Files that a sweep names: where they lie and what their content hashes to.

Owns one cache file, ``emsweep/digests.json`` in the user's cache folder: digests of large files by path, size
and mtime, and what was found in large training sets.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from sweeps.manifest.atomic import write_atomically
from sweeps.spec import SpecError
from sweeps.spec.errors import shown

PACKAGE_SCHEME = "pkg://"
"""Prefix of a path inside an installed package: ``pkg://trainers/tiny/data/examples.jsonl``."""

CACHE_FROM_BYTES = 16 * 2**20
"""Smaller files are hashed every time (16 MiB takes about 15 ms); for larger ones the digest is remembered.
"""

NAME_BYTES = 255
"""Longest name that file systems take."""


def local_path(path: str) -> Path:
    """Return where ``path`` lies on this machine, without importing the package it may name.

    Raises:
        SpecError: for a ``pkg://`` path into a package that is not installed, or text that names no file.
    """
    if "\0" in path or any(len(part.encode(errors="replace")) > NAME_BYTES for part in path.split("/")):
        raise SpecError(f"{shown(path)}: is no path; give the path of a file or folder")
    if not path.startswith(PACKAGE_SCHEME):
        return Path(path).expanduser()
    package, _, rest = path.removeprefix(PACKAGE_SCHEME).partition("/")
    module = importlib.util.find_spec(package) if package.isidentifier() else None  # of a.b imports a
    if module is None or not module.submodule_search_locations:
        raise SpecError(f"{path!r}: the package {package!r} is not installed")
    return Path(module.submodule_search_locations[0]) / rest


def stable_path(path: str) -> str:
    """Return ``path`` so that it means the same in another working folder."""
    return path if path.startswith(PACKAGE_SCHEME) else str(local_path(path).absolute())


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex; large files are hashed once per (size, mtime)."""
    stat = path.stat()
    if stat.st_size < CACHE_FROM_BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    key, stamp = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
    if (known := recall(key, stamp)) is not None:
        return str(known)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    remember(key, stamp, digest)
    return digest


def cache_folder(name: str = "") -> Path:
    """Our folder of the user's cache, or one below it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emsweep" / name


def recall(key: str, stamp: list[int]) -> Any:
    """What was remembered of a file under a key, if the file still has that size and mtime; else ``None``."""
    known = _read_cache().get(key)
    return known[2] if known is not None and known[:2] == stamp else None


def remember(key: str, stamp: list[int], value: Any) -> None:
    """Add to the cache; a cache that cannot be written only costs time."""
    target = _cache_file()
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json.dumps(_read_cache() | {key: [*stamp, value]}).encode())


def _cache_file() -> Path:
    return cache_folder() / "digests.json"


def _read_cache() -> dict[str, list[Any]]:
    try:
        digests: dict[str, list[Any]] = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return digests
