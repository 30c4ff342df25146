"""What the rows of a training set hold, one after another: prompt, system message, right answer, difficulty.

The layouts that such files commonly have are told by their first row: ``prompt`` or ``problem`` with
``answer``, chat ``messages``, verl's ``prompt`` list with ``reward_model.ground_truth``, GSM8K's ``question``
with an answer behind ``####``. What a field may hold is the rule of :mod:`sweeps.manifest.row_fields`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from sweeps.manifest.given_rows import (
    Given,
    GivenColumns,
    before,
    given_columns,
    given_from_json,
    read_given,
)
from sweeps.manifest.row_fields import Source, answer_of, field_of, question_in, require_place
from sweeps.manifest.row_files import dig, stream_rows
from sweeps.manifest.set_files import files_of
from sweeps.spec import DataSpec, SpecError
from sweeps.spec.errors import cut

PROMPT_FIELDS = ("prompt", "messages", "problem", "question")
"""Columns that hold the prompt where none is named, the first that is there."""

ANSWER_FIELDS = ("reward_model.ground_truth", "answer")
"""Columns that hold the right answer where none is named, the first that is there."""

ANSWER_MARK = "####"
"""What stands before the answer proper in GSM8K's solutions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRow:
    """One row of a training set, as it is used."""

    prompt: str
    system: str | None
    """The row's own system message."""
    answer: str | None
    difficulty: float | None
    given_json: str | None = None
    """What it gives to train on, as text; ``None`` where the objective reads nothing of it."""

    @property
    def given(self) -> Given:
        """What it gives to train on."""
        assert self.given_json is not None
        return given_from_json(self.given_json)

    @property
    def content(self) -> bytes:
        """What of the row is part of a run's identity."""
        return _as_line([*self._asked, *([] if self.given_json is None else [self.given_json])])

    @property
    def asked_content(self) -> bytes:
        """The same without what it gives, so that objectives which read it take the same subset as others."""
        return _as_line(self._asked)

    @property
    def _asked(self) -> list[str | None]:
        difficulty = [] if self.difficulty is None else [repr(self.difficulty)]
        return [self.prompt, self.system, self.answer, *difficulty]


def _as_line(values: list[str | None]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def rows_used(data: DataSpec) -> Iterator[TrainingRow]:
    """The rows that a training set uses, in the order of its file, or of its files one after another.

    The limit comes before the share: of the rows that ``limit`` leaves, ``subset`` takes a part.

    Raises:
        SpecError: for a file that cannot be read, or a row that lacks a field or holds something else there.
    """
    if data.limit_by == "content" and data.limit:
        rows = ((_share(asked, data.subset_seed), n, row) for n, (row, asked) in enumerate(_every_row(data)))
        drawn = sorted(heapq.nsmallest(data.limit, rows), key=lambda found: found[1])
        yield from (row for share, _, row in drawn if share < data.subset)
        return
    for row in _all_rows(data, data.limit or None):
        if data.subset == 1 or _share(row.asked_content, data.subset_seed) < data.subset:
            yield row


READ_ONCE_BYTES = 2**22
"""Files up to this size are read once for all draws from them: a sweep may draw for each of its seeds."""


def _every_row(data: DataSpec) -> Iterable[tuple[TrainingRow, bytes]]:
    """Every row of a set, with what its draw depends on."""
    whole = dataclasses.replace(
        data, name="", digest="", num_rows=0, limit=0, limit_by="file", subset=1.0, subset_seed=0
    )
    stats = [file.stat() for file in files_of(data) if file.is_file()]
    if sum(stat.st_size for stat in stats) > READ_ONCE_BYTES:
        return ((row, row.asked_content) for row in _all_rows(whole, None))
    return _rows_read_once(whole, tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats))


@lru_cache(maxsize=16)
def _rows_read_once(
    data: DataSpec, stamps: tuple[tuple[int, int, int], ...]
) -> list[tuple[TrainingRow, bytes]]:
    return [(row, row.asked_content) for row in _all_rows(data, None)]


def _all_rows(data: DataSpec, limit: int | None) -> Iterator[TrainingRow]:
    stream = stream_rows(files_of(data), "data.path")
    columns: _Columns | None = None
    for number, (place, row) in enumerate(islice(stream, limit)):
        columns = columns or _columns(data, row, f"{data.path} {place}")
        yield _row(data, columns, row, place, number)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """Names of the columns that are read."""

    prompt: str
    answer: str | None
    answer_may_lack: bool
    """Whether nobody asked for the answers, so that a row without one is no mistake."""
    difficulty: str
    sign: int
    """−1 where the column is larger for easier rows."""
    given: GivenColumns | None
    """``None`` where nothing is trained on but rollouts."""
    passed_over: tuple[tuple[str, str, str], ...]
    """Columns that come first where they hold anything, as the first row does not: each with the key that
    names it and the column that was taken instead.
    """


def _columns(data: DataSpec, row: Mapping[str, Any], where: str) -> _Columns:
    prompt = data.prompt_field or next((name for name in PROMPT_FIELDS if _has(row, name)), "")
    if not prompt and data.targets != "pairs":
        empty = [name for name in PROMPT_FIELDS if name in row]
        told = f" ({empty[0]} holds nothing there)" if empty else ""
        raise SpecError(
            f"{where} has {cut(', '.join(map(str, row)))}: none of {', '.join(PROMPT_FIELDS)}{told}; name "
            "the column of the prompts with data.prompt_field"
        )
    answer, found = data.answer_field, False
    if answer == "":
        answer, found = next((name for name in ANSWER_FIELDS if _has(row, name)), None), True
    difficulty = data.difficulty_field if data.reads_difficulty else ""
    sign = -1 if difficulty.startswith("-") else 1
    given = given_columns(data, row, prompt, where) if data.targets else None
    passed_over = []
    if not data.prompt_field and prompt:
        passed_over += [("prompt_field", name, prompt) for name in before(PROMPT_FIELDS, prompt)]
    if found and answer is not None:
        passed_over += [("answer_field", name, answer) for name in before(ANSWER_FIELDS, answer)]
    if given is not None:
        taken = given.completions[0] if given.completions else given.prompt
        passed_over += [("completion_field", name, taken) for name in given.passed_over]
    return _Columns(
        prompt=prompt,
        answer=answer,
        answer_may_lack=found,
        difficulty=difficulty.removeprefix("-"),
        sign=sign,
        given=given,
        passed_over=tuple(passed_over),
    )


def _has(row: Mapping[str, Any], field: str) -> bool:
    if row.get(field) is not None:
        return True
    if "." not in field:
        return False
    try:
        return dig(row, field) is not None
    except KeyError:
        return False


def _row(data: DataSpec, columns: _Columns, row: Mapping[str, Any], place: str, number: int) -> TrainingRow:
    assert data.path is not None

    def source(key: str, field: str) -> Source:
        return Source(path=data.path or "", number=number, key=f"data.{key}", field=field, place=place)

    for key, name, taken in columns.passed_over:
        if _has(row, name):
            raise source(key, name).refusal(
                dig(row, name),
                f"stands where the first row has nothing, so that {taken!r} would be read of every row; mend "
                f"the first row, or name the column with data.{key}",
            )
    given = None
    if columns.given is None:
        asked = source("prompt_field", columns.prompt)
        question = question_in(_without_answer(field_of(row, asked)), asked)
        require_place(question, data.format, asked)
    else:
        question, given = read_given(data, columns.given, row, source)
    answer = None
    if columns.answer is not None and not (columns.answer_may_lack and not _has(row, columns.answer)):
        text = str(answer_of(row, source("answer_field", columns.answer)))
        answer = text.rpartition(ANSWER_MARK)[2].strip() or text
    difficulty = None
    if columns.difficulty:
        of_difficulty = source("difficulty_field", columns.difficulty)
        difficulty = columns.sign * _number(field_of(row, of_difficulty), of_difficulty)
        if data.order == "cyclic" and not difficulty > 0:
            raise of_difficulty.refusal(
                difficulty, "must be above 0 where rows are drawn the likelier the easier they are"
            )
    return TrainingRow(
        prompt=question.text,
        system=question.system,
        answer=answer,
        difficulty=difficulty,
        given_json=given.to_json() if given else None,
    )


def _without_answer(value: Any) -> Any:
    """Chat messages up to the last answer, which a completion of ours stands in for."""
    if isinstance(value, (list, tuple)) and len(value) > 1 and isinstance(value[-1], Mapping):
        return value[:-1] if value[-1].get("role") == "assistant" else value
    return value


def _number(value: Any, source: Source) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise source.refusal(value, "is no number; give every row one")
    return number


def _share(content: bytes, seed: int) -> float:
    """Where in [0, 1) a row falls, whatever stands beside it."""
    digest = hashlib.sha256(f"{seed}\n".encode() + content).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
