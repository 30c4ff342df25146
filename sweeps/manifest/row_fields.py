"""What a row of a file holds: a question, a right answer. One reader for examples, benchmarks and pools.

A question is text, or chat messages: one user message, after at most one system message, each with text or
text parts. An answer is text or a number, or a list of one. Whatever else stands there is refused with its
row: turned into text it would be a prompt that nobody wrote, or an answer that nobody can give.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sweeps.manifest.row_files import dig, read_rows, row_name
from sweeps.spec import EvalSpec, SpecError, nearest
from sweeps.spec.errors import cut, shown
from sweeps.spec.printable import half_character

NOTHING = frozenset({"None", "null", "NULL", "nan", "NaN", "<NA>", "NaT", "undefined"})
"""Texts that programs write where they have no value; none of them is an answer to a problem."""

_MESSAGES_AS_TEXT = re.compile(r"\s*\[?\s*\{\s*([\"'])(role|content|from)\1\s*:")
"""Chat messages that a program turned into text."""

_VALUE_AS_TEXT = re.compile(r"\s*[\[{]\s*[\"'].*[\"'\d]\s*[\]}]\s*", re.DOTALL)
"""A list of texts, or an object, that a program turned into text: ``['2']``, ``{'value': '2'}``."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a value stands, as messages name it."""

    path: str
    number: int
    """The row, from 0."""
    key: str
    """The key that names the field, such as ``eval.question_field``."""
    field: str
    place: str = ""
    """The row as messages name it, where that is known; else the file is read for it."""

    @property
    def row(self) -> str:
        if self.place:
            return f"{self.path} {self.place}"
        item = f" (item {self.number + 1})" if self.key.startswith("eval.") else ""
        return row_name(self.path, self.number) + item

    def refusal(self, value: object, rule: str) -> SpecError:
        return SpecError(
            f"{self.row}: {self.field}={shown(value)}: {rule} (the field is named by {self.key})"
        )


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a model is asked."""

    text: str
    system: str | None = None
    """The row's own system message."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question of a benchmark."""

    number: int
    """Its number in the file, from 1."""
    question: str
    gold: str
    system: str | None = None
    """The system message that the file gives it."""


def field_of(row: Mapping[str, Any], source: Source) -> Any:
    """The value of a row's field.

    Raises:
        SpecError: naming the row and the fields that it has.
    """
    try:
        return dig(row, source.field)
    except KeyError:
        columns = cut(", ".join(map(str, row)))
        close = nearest(source.field, map(str, row))
        raise SpecError(
            f"{source.key}={source.field!r}: {source.row} has {columns}{close}; choose one"
        ) from None


def question_of(row: Mapping[str, Any], source: Source) -> Question:
    """What a row asks.

    Raises:
        SpecError: for a field that holds neither text nor chat messages of one turn.
    """
    return question_in(field_of(row, source), source)


def question_in(value: Any, source: Source) -> Question:
    """What a field's value asks; raises as :func:`question_of` does."""
    if isinstance(value, Mapping) and "role" in value:
        value = [value]
    if isinstance(value, str):
        return Question(text=_text(value, source, "prompt"))
    if not isinstance(value, (list, tuple)) or not value:
        raise source.refusal(
            value, f"holds no prompt but {_kind(value)}; give text or a list of chat messages"
        )
    return _conversation(value, source)


def answer_of(row: Mapping[str, Any], source: Source) -> str | int | float:
    """The right answer of a row: text, or a number as it is stored.

    Raises:
        SpecError: for an empty answer, or one that is neither text nor a number.
    """
    value = field_of(row, source)
    if isinstance(value, (list, tuple)):
        if len(value) > 1:
            raise source.refusal(
                value, f"holds {len(value)} answers; name one of them, as {source.key}={source.field}.0"
            )
        value = value[0] if value else None
    if isinstance(value, str) and value.strip():
        if value.strip() in NOTHING:
            raise source.refusal(
                value, "is what a program writes where it has no answer; fill it or drop the row"
            )
        if _VALUE_AS_TEXT.match(value):
            raise source.refusal(
                value, "is a list or an object turned into text; store the answer in it, as text or a number"
            )
        if fault := text_fault(value):
            raise source.refusal(value, fault)
        return value
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise source.refusal(value, f"holds no answer but {_kind(value)}; give text or a number, or drop the row")


def read_items(
    path: str,
    *,
    what: str = "eval.path",
    question_field: str,
    answer_field: str,
    drop_items: Sequence[int] = (),
    limit: int = 0,
    system: str | None = None,
    format: str = "chat",
) -> list[Item]:
    """The items of a benchmark that are used; the arguments are those of :class:`sweeps.spec.EvalSpec`, and
    ``what`` names the file in messages.

    Raises:
        SpecError: for a row that cannot be read, an item to drop that is not there, or system messages of
            the file beside another.
    """
    rows = read_rows(path, what)
    if lost := [n for n in drop_items if not 1 <= n <= len(rows)]:
        raise SpecError(f"eval.drop_items={shown(list(lost))}: {path} has items 1 to {len(rows)}")
    kept = [n for n in range(len(rows)) if n + 1 not in drop_items][: limit or None]
    if not kept:
        raise SpecError(f"eval.drop_items={shown(list(drop_items))}: leaves no item of {path}; drop fewer")
    items = []
    for number in kept:
        asked = Source(path=path, number=number, key="eval.question_field", field=question_field)
        question = question_of(rows[number], asked)
        require_place(question, format, asked)
        if question.system is not None and system is not None and question.system != system:
            raise asked.refusal(
                question.system,
                f"is a system message beside eval.system={shown(system)}; eval.system=null takes the file's",
            )
        gold = answer_of(
            rows[number], Source(path=path, number=number, key="eval.answer_field", field=answer_field)
        )
        if isinstance(gold, float) and gold.is_integer() and abs(gold) < 2**63:
            gold = int(gold)  # files written by pandas hold 27.0 where 27 is meant
        items.append(Item(number=number + 1, question=question.text, gold=str(gold), system=question.system))
    return items


def require_place(question: Question, format: str, source: Source) -> None:
    """Refuse a system message of the file where the format has no place for one."""
    if question.system is not None and format == "plain":
        group = source.key.partition(".")[0]
        rule = f"is a system message, which {group}.format=plain has no place for; use chat, or leave it out"
        raise source.refusal(question.system, rule)


def items_of(spec: EvalSpec) -> list[Item]:
    """The items that a benchmark uses; raises as :func:`read_items` does."""
    assert spec.path is not None
    return read_items(
        spec.path,
        question_field=spec.question_field,
        answer_field=spec.answer_field,
        drop_items=spec.drop_items,
        limit=spec.limit,
        system=spec.system,
        format=spec.format,
    )


def message_texts(messages: Any, source: Source) -> list[tuple[str, str]]:
    """Role and text of each of some chat messages.

    Raises:
        SpecError: for what is no list of messages, or a message without text.
    """
    if isinstance(messages, str) or not messages:
        raise source.refusal(messages, "holds no chat messages; give a list of them")
    _require_messages(messages, source)
    return [(message["role"], _content(message, source)) for message in messages]


def _require_messages(messages: Sequence[Any], source: Source) -> None:
    if not all(isinstance(m, Mapping) and isinstance(m.get("role"), str) for m in messages):
        raise source.refusal(
            messages, "holds no chat messages, which have a role and a content each; give text or such a list"
        )


def _conversation(messages: Sequence[Any], source: Source) -> Question:
    """The question of chat messages."""
    _require_messages(messages, source)
    roles = [m["role"] for m in messages]
    if roles not in (["user"], ["system", "user"]):
        raise source.refusal(
            messages,
            f"holds messages of {', '.join(roles)}; give one user message, after at most one system message",
        )
    texts = [_content(m, source) for m in messages]
    return Question(text=texts[-1], system=texts[0] if len(texts) == 2 else None)


def _content(message: Mapping[str, Any], source: Source) -> str:
    """The text of one message: its content, or what its text parts hold, one after another."""
    content, role = message.get("content"), message["role"]
    if isinstance(content, (list, tuple)) and content:
        for part in content:
            is_text = isinstance(part, Mapping) and part.get("type", "text") == "text"
            if not is_text or not isinstance(part.get("text"), str):
                raise source.refusal(
                    part, f"is a part of the {role} message that holds no text; give text parts"
                )
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise source.refusal(
            content,
            f"is the content of the {role} message, which holds {_kind(content)}; give it text or drop it",
        )
    return _text(content, source, f"{role} message")


def prompt_fault(text: str) -> str | None:
    """What keeps a text from being a prompt, and how to mend it; ``None`` if nothing."""
    if not text.strip():
        return "is empty text; fill it or drop it"
    if _MESSAGES_AS_TEXT.match(text):
        return "is chat messages turned into text; store the list itself, as JSON lines or Parquet"
    return text_fault(text)


def text_fault(text: str) -> str | None:
    position = half_character(text)
    if position is None:
        return None
    return f"holds half a character (position {position}), which no tokenizer reads; mend the text"


def _text(value: str, source: Source, what: str) -> str:
    if fault := prompt_fault(value):
        raise source.refusal(value, f"the {what} {fault}")
    return value


def _kind(value: Any) -> str:
    """What stands in the place of text, in words."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, float) and not math.isfinite(value):
        return f"no number ({value})"
    if isinstance(value, str):
        return "empty text"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    return "an object" if isinstance(value, Mapping) else f"{type(value).__name__}"
