"""A training set, read once and then looked up row by row, from memory or from a file that is mapped into it.

Owns ``emsweep/training-sets/<digest>-<SHA-256 of the file>.arrow`` in the user's cache folder: the rows that
a large set uses, as Arrow. A set of 10⁶ rows so costs a process the pages that it touches. A file that is not
what its name says is passed over and made anew; all of them can be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweeps.manifest import arrow
from sweeps.manifest.data_files import (
    CACHE_FROM_BYTES,
    cache_folder,
    file_digest,
    recall,
    remember,
)
from sweeps.manifest.set_files import files_of, place_of
from sweeps.manifest.training_rows import TrainingRow, rows_used
from sweeps.spec import DataSpec, SpecError
from sweeps.spec.mix import parts_of

BATCH_ROWS = 8192
"""Rows that are held as Python's values at once while a set is read."""

ROWS_KEPT = 1024
"""Rows that are kept as Python's values once they were looked up, which takes as long as a small tensor's
arithmetic.
"""

PACKED_RATIO = 8
"""How much larger than itself what a packed file holds may be: text in gzip or Parquet."""

_SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("system", pa.string()),
        ("answer", pa.string()),
        ("difficulty", pa.float64()),
        ("given_json", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What identifies a training set, and what is checked before a launch."""

    digest: str
    num_rows: int
    has_answers: bool


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The rows that a training set uses, by their number from 0; of a mix those of its sets, one after
    another.
    """

    table: pa.Table

    def rows(self, numbers: Sequence[int]) -> list[TrainingRow]:
        return [self._row(number) for number in numbers]

    @cached_property
    def _row(self) -> Callable[[int], TrainingRow]:
        """A row by its number; those used last are kept, which of a small set are all of them."""
        columns = dict(zip(self.table.column_names, self.table.columns, strict=True))
        return lru_cache(maxsize=ROWS_KEPT)(
            lambda number: TrainingRow(**{name: column[number].as_py() for name, column in columns.items()})
        )

    @cached_property
    def difficulty(self) -> np.ndarray | None:
        """How hard each row is, float64 of shape (rows,), where the order of some depends on it; NaN for rows
        of other sets of a mix.
        """
        column = self.table["difficulty"]
        if column.null_count == len(column):
            return None
        return arrow.as_numpy(pc.fill_null(column, np.nan))

    def longest(self, num: int, *, given: bool = False) -> list[TrainingRow]:
        """The rows with the longest prompts, in characters, the longest first.

        Args:
            given: Count the completions that they give, too.
        """
        lengths = arrow.as_numpy(pc.utf8_length(self.table["prompt"]))
        if given:
            lengths = lengths + arrow.as_numpy(pc.utf8_length(self.table["given_json"]))
        return self.rows(np.argsort(-lengths, kind="stable")[:num].tolist())


def content_of(data: DataSpec) -> Content:
    """Read a training set for what identifies it; that of a large file is remembered.

    Raises:
        SpecError: for a file or a row that cannot be used, or a set without rows.
    """
    assert data.path is not None
    files = files_of(data)
    memo = f"training set {place_of(data).resolve()} {json.dumps(_how_read(data), sort_keys=True)}"
    stamp = _stamp(files) if _is_large(files) else None
    if stamp and (known := recall(memo, stamp)):
        return Content(**known)
    content = _build(data).content
    if stamp:
        remember(memo, stamp, asdict(content))
    return content


@lru_cache(maxsize=8)
def training_set(data: DataSpec) -> TrainingSet:
    """Open the training set, or the mix, of a run.

    Raises:
        SpecError: where the file holds other rows than those that the sweep was composed with.
    """
    if data.mix:
        return TrainingSet(pa.concat_tables([training_set(part.data).table for part in parts_of(data)]))
    if (cached := _mapped(data.digest, data.num_rows)) is not None:
        return TrainingSet(cached)
    built = _build(data)
    if built.content.digest != data.digest:
        raise SpecError(
            f"data.path={data.path!r}: holds other rows than when the sweep was composed (SHA-256 "
            f"{built.content.digest[:12]}…, expected {data.digest[:12]}…); put the old file back, or launch "
            "into a new directory"
        )
    return TrainingSet(built.table)


def _how_read(data: DataSpec) -> Mapping[str, Any]:
    """All that decides which rows are used and what is read of them."""
    where = ["split", "config", "limit", "limit_by", "subset", "subset_seed"]
    what = ["prompt_field", "answer_field", "format", "order"]
    if data.targets:
        what += ["targets", "completion_field", "chosen_field", "rejected_field", "desirable_field"]
    difficulty = data.difficulty_field if data.reads_difficulty else ""
    return {field: getattr(data, field) for field in (*where, *what)} | {"difficulty": difficulty}


@dataclass(frozen=True, kw_only=True)
class _Built:
    content: Content
    table: pa.Table


def _build(data: DataSpec) -> _Built:
    """Read a set, batch by batch: a large one into a file of the cache, where that can be written."""
    if _is_large(files_of(data)):
        with contextlib.suppress(OSError):
            cache_folder("training-sets").mkdir(parents=True, exist_ok=True)
            part = cache_folder("training-sets") / f".{uuid4().hex}.part"
            try:
                with pa.OSFile(str(part), "wb") as sink:
                    content = _write(data, sink)
                with part.open("rb") as file:
                    own = hashlib.file_digest(file, "sha256").hexdigest()
                part.replace(part.with_name(f"{content.digest}-{own}.arrow"))
            finally:
                part.unlink(missing_ok=True)
            if (table := _mapped(content.digest, content.num_rows)) is not None:
                return _Built(content=content, table=table)
    memory = pa.BufferOutputStream()
    content = _write(data, memory)
    return _Built(content=content, table=pa.ipc.open_file(memory.getvalue()).read_all())


def _write(data: DataSpec, sink: Any) -> Content:
    digest, num_rows, has_answers = hashlib.sha256(), 0, True
    with pa.ipc.new_file(sink, _SCHEMA) as writer:
        for rows in _batches(data):
            for row in rows:
                digest.update(row.content)
            num_rows += len(rows)
            has_answers = has_answers and all(row.answer is not None for row in rows)
            writer.write_batch(_as_arrow(rows))
    if not num_rows:
        few = f"data.subset={data.subset:g} of it leaves none" if data.subset < 1 else "is empty"
        raise SpecError(f"data.path={data.path!r}: {few}; a training set needs rows")
    return Content(digest=digest.hexdigest(), num_rows=num_rows, has_answers=has_answers)


def _batches(data: DataSpec) -> Iterator[list[TrainingRow]]:
    rows = rows_used(data)
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch


def _as_arrow(rows: Sequence[TrainingRow]) -> pa.RecordBatch:
    prompt, system, answer, given = (
        arrow.texts([getattr(row, name) for row in rows])
        for name in ("prompt", "system", "answer", "given_json")
    )
    missing = np.array([row.difficulty is None for row in rows])
    difficulty = np.array([row.difficulty or 0.0 for row in rows], dtype=np.float64)
    return pa.record_batch(
        [prompt, system, answer, arrow.numbers(difficulty, missing), given], schema=_SCHEMA
    )


def _is_large(files: Sequence[Path]) -> bool:
    sizes = [
        file.stat().st_size * (PACKED_RATIO if file.suffix.lower() in (".gz", ".parquet") else 1)
        for file in files
        if file.is_file()
    ]
    return sum(sizes) >= CACHE_FROM_BYTES


def _stamp(files: Sequence[Path]) -> list[int]:
    """What tells whether files have changed since: size and mtime of one, or all that of several, hashed."""
    stats = [file.stat() for file in files]
    if len(files) == 1:
        return [stats[0].st_size, stats[0].st_mtime_ns]
    told = [
        (str(file.resolve()), stat.st_size, stat.st_mtime_ns) for file, stat in zip(files, stats, strict=True)
    ]
    digest = hashlib.sha256(json.dumps(told).encode()).digest()
    return [sum(stat.st_size for stat in stats), int.from_bytes(digest[:6], "big")]


def _mapped(digest: str, num_rows: int) -> pa.Table | None:
    """A set of the cache, mapped; ``None`` if there is none, or it is not what was written."""
    for file in cache_folder("training-sets").glob(f"{digest}-*.arrow"):
        with contextlib.suppress(OSError, pa.ArrowException):
            if file.stem != f"{digest}-{file_digest(file)}":
                continue
            table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
            if table.schema.equals(_SCHEMA) and table.num_rows == num_rows:
                return table
    return None
