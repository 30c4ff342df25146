"""Which files of a sweep directory do not hold what was written to them. Reads; writes nothing there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.pools.temp_folders import TemporaryFolder
from orchestrator.store import compaction
from orchestrator.store.digests import damage_of, has_no_digests, read_digests
from orchestrator.store.layout import TABLES, Layout
from orchestrator.store.run_index import RunIndex
from orchestrator.store.sqlite_path import state_path
from orchestrator.store.status import status_is_damaged
from sweeps.manifest import arrow
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_file import write_manifest
from sweeps.spec.errors import DamagedError


class Damage(NamedTuple):
    """One file that is not what it should be."""

    file: str
    """Its name, relative to the sweep directory."""
    why: str
    """What is wrong with it."""


def damaged_files(layout: Layout, *, live: bool, known: Collection[str]) -> list[Damage]:
    """The files whose digest is not the recorded one, but for those that are known already."""
    try:
        digests = read_digests(layout)
    except DamagedError as error:
        why = str(error).removeprefix(f"{layout.digests}: ").partition(";")[0]
        return [Damage(layout.digests.name, why)]
    found = [] if live or not status_is_damaged(layout) else [Damage("status.json", "its checksum is wrong")]
    if digests is None:
        return found + [Damage(*entry) for entry in _unreadable(layout)]
    for name in digests:
        path = state_path(layout) if name == layout.state.name else layout.root / name
        if name not in known and (why := _damage_of(layout, path)):
            found.append(Damage(name, why))
    unrecorded = (p for p in (*map(layout.table, TABLES), *layout.parts.glob("*.parquet")) if p.exists())
    for path in unrecorded:
        name = path.relative_to(layout.root).as_posix()
        if name not in digests and not live:
            found.append(Damage(name, "has no recorded digest"))
    return found


def _damage_of(layout: Layout, path: Path) -> str:
    try:
        return damage_of(layout, path)
    except FileNotFoundError:
        return ""  # a driver has merged its parts meanwhile


def _unreadable(layout: Layout) -> Iterator[tuple[str, str]]:
    """Tables of format 1 that are none; nothing else is known of them."""
    assert has_no_digests(layout)
    for path in map(layout.table, TABLES):
        if path.exists() or path.is_symlink():
            try:
                pq.read_table(path)
            except (OSError, pa.ArrowException, ValueError) as error:
                yield path.name, f"cannot be read ({' '.join(str(error).split())[:120]})"


def differing_tables(
    layout: Layout, manifest: Manifest, book: RunIndex, *, known: Collection[str]
) -> list[Damage]:
    """The tables in which a value is not the one that the spools give, with the first such cell."""
    found = []
    with TemporaryFolder("verify") as folder:
        scratch = Layout(folder.path / "sweep")
        scratch.create()
        scratch.spools.rmdir()
        scratch.spools.symlink_to(layout.spools.resolve())
        write_manifest(manifest, scratch.manifest)
        compaction.rebuild(scratch, manifest, book)
        for name in TABLES:
            file = layout.table(name).name
            if file not in known and layout.table(name).exists():
                why = _first_difference(layout.table(name), scratch.table(name))
                found += [Damage(file, why)] if why else []
    return found


def _first_difference(stored_at: Path, computed_at: Path) -> str:
    """Where two tables first differ, in words; empty when nowhere."""
    if not computed_at.exists():
        return "has rows, and the spools hold none"
    stored, computed = pq.ParquetFile(stored_at), pq.ParquetFile(computed_at)
    with stored, computed:
        if stored.metadata.num_rows != computed.metadata.num_rows:
            return f"has {stored.metadata.num_rows:,} rows, the spools {computed.metadata.num_rows:,}"
        names = [stored.schema_arrow.names, computed.schema_arrow.names]
        if sorted(names[0]) != sorted(names[1]):
            odd = sorted(set(names[0]) ^ set(names[1]))
            return f"differs from the spools in its columns: {', '.join(odd)}"
        files = (stored, computed)
        indices = [arrow.as_numpy(file.read(["index"])["index"]) for file in files]
        orders = [np.argsort(index, kind="stable") for index in indices]
        for name in names[0]:
            columns = [
                file.read([name])[name].take(pa.array(order))
                for file, order in zip(files, orders, strict=True)
            ]
            if not columns[0].equals(columns[1]):
                for row, (left, right) in enumerate(zip(*map(_values, columns), strict=True)):
                    if left != right and not (left != left and right != right):
                        return f"{name} in row {row:,} is {left!r}, the spools say {right!r}"
    return ""


def _values(column: Any) -> Iterator[Any]:
    for chunk in column.chunks:
        yield from chunk.to_pylist()
