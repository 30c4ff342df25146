"""Files that a sweep names: where they lie, what their content hashes to, the rows they hold.

Owns one cache file, ``emsweep/digests.json`` in the user's cache folder: digests of large files by path, size
and mtime.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sweeps.manifest.atomic import write_atomically
from sweeps.spec import SpecError

PACKAGE_SCHEME = "pkg://"
"""Prefix of a path inside an installed package: ``pkg://trainers/tiny/data/examples.jsonl``."""

CACHE_FROM_BYTES = 16 * 2**20
"""Smaller files are hashed every time (16 MiB takes about 15 ms); for larger ones the digest is remembered.
"""


def local_path(path: str) -> Path:
    """Return where ``path`` lies on this machine, without importing the package it may name.

    Raises:
        SpecError: for a ``pkg://`` path into a package that is not installed.
    """
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
    cached = _read_cache().get(key)
    if cached is not None and cached[:2] == stamp:
        return str(cached[2])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(key, [*stamp, digest])
    return digest


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emsweep" / "digests.json"


def _read_cache() -> dict[str, list[Any]]:
    try:
        digests: dict[str, list[Any]] = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return digests


def _remember(key: str, entry: list[Any]) -> None:
    """Add to the cache; a cache that cannot be written only costs time."""
    target = _cache_file()
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json.dumps(_read_cache() | {key: entry}).encode())


def read_rows(path: str, what: str) -> list[Mapping[str, Any]]:
    """Return the rows of a JSON-lines or Parquet file.

    Args:
        path: local or ``pkg://`` path; ``.parquet`` is read as Parquet, all else as JSON lines.
        what: the key that names the file, for messages.

    Raises:
        SpecError: if the file is missing, empty or not what its name says.
    """
    file = local_path(path)
    if not file.is_file():
        raise SpecError(
            f"{what}={path!r}: no such file ({file.absolute()}); give a JSON-lines or Parquet file"
        )
    stat = file.stat()
    rows = _read_rows(file, what, stat.st_mtime_ns)
    if not rows:
        raise SpecError(f"{what}={path!r}: has no rows")
    return rows


@lru_cache(maxsize=16)
def _read_rows(path: Path, what: str, _mtime_ns: int) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            rows = pyarrow.parquet.read_table(path).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise SpecError(f"{what}={str(path)!r}: is not a Parquet file ({error})") from None
        return rows
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError(
            f"{what}={str(path)!r}: is not UTF-8 text; give a JSON-lines or Parquet file"
        ) from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SpecError(f"{what}={str(path)!r} line {number}: is not JSON ({error})") from None
        if not isinstance(row, dict):
            raise SpecError(
                f"{what}={str(path)!r} line {number}: must be a JSON object, not {type(row).__name__}"
            )
        rows.append(row)
    return rows


def row_name(path: str, number: int) -> str:
    """Return how messages name row ``number``, counted from 0: by its line, in a JSON-lines file."""
    if path.endswith(".parquet"):
        return f"{path} row {number}"
    lines = local_path(path).read_text(encoding="utf-8").split("\n")
    filled = [i for i, line in enumerate(lines, 1) if line.strip()]
    return f"{path} line {filled[number]}"


def dig(row: Mapping[str, Any], field: str) -> Any:
    """Return a row's field; a dotted name reaches into nested objects.

    Raises:
        KeyError: if the row has no such field.
    """
    if field in row:
        return row[field]
    head, dot, rest = field.partition(".")
    if dot and isinstance(row.get(head), Mapping):
        return dig(row[head], rest)
    raise KeyError(field)
