"""What a row gives to train on: a completion, a chosen and a rejected one, or one with a label.

A completion is text, or the chat messages after the prompt, the last of them an answer. Prompt and
completions are told apart as TRL does it: by columns; in ``messages`` by the first answer; of a pair without
a column of prompts by what both begin with.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.manifest.row_fields import (
    NOTHING,
    Question,
    Source,
    field_of,
    message_texts,
    question_in,
    require_place,
    text_fault,
)
from sweeps.manifest.row_files import dig
from sweeps.spec import DataSpec, SpecError
from sweeps.spec.errors import shown

COMPLETION_FIELDS = ("completion", "solution", "answer")
"""Columns that hold the completion where none is named, the first that is there."""

Message = Mapping[str, str]
"""``role`` and ``content`` of one turn."""

Completion = str | Sequence[Message]


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What a row gives to train on."""

    completions: tuple[Completion, ...]
    """One; of a pair the chosen one, then the rejected one."""
    context: tuple[Message, ...] = ()
    """Turns up to the completion where they are more than one question; empty otherwise."""
    desirable: bool | None = None
    """Whether a labelled completion is."""

    def to_json(self) -> str:
        """Text that is the same for equal values, read back by :func:`given_from_json`."""
        values: dict[str, Any] = {"completions": self.completions}
        if self.context:
            values["context"] = self.context
        if self.desirable is not None:
            values["desirable"] = self.desirable
        return json.dumps(values, ensure_ascii=False, sort_keys=True)


def given_from_json(text: str) -> Given:
    values = json.loads(text)
    completions = tuple(c if isinstance(c, str) else tuple(c) for c in values["completions"])
    return Given(
        completions=completions,
        context=tuple(values.get("context", ())),
        desirable=values.get("desirable"),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenColumns:
    """Names of the columns that are read."""

    prompt: str
    """Empty where a pair holds its prompt itself."""
    completions: tuple[str, ...]
    """Empty where the column of the prompt holds a conversation."""
    desirable: str = ""
    passed_over: tuple[str, ...] = ()
    """Columns that would have been taken before that of the completion, had the first row a value there."""


def given_columns(data: DataSpec, row: Mapping[str, Any], prompt: str, where: str) -> GivenColumns:
    """Which columns hold what is given, by the first row.

    Args:
        prompt: The column of the prompts; empty if the row has none.

    Raises:
        SpecError: for a row that gives nothing to train on.
    """
    if data.targets == "pairs":
        pair = (data.chosen_field or "chosen", data.rejected_field or "rejected")
        own = prompt and (data.prompt_field or not _holds_prompt(row, prompt, pair[0]))
        return GivenColumns(prompt=prompt if own else "", completions=pair)
    named = data.completion_field
    passed_over: tuple[str, ...] = ()
    if not named and not _is_conversation(row, prompt):
        named = next((name for name in COMPLETION_FIELDS if _has(row, name)), "")
        if not named and not data.prompt_field and _is_conversation(row, "messages"):
            prompt = "messages"
        elif not named:
            empty = [name for name in COMPLETION_FIELDS if name in row]
            told = f" ({empty[0]} holds nothing there)" if empty else ""
            raise SpecError(
                f"{where} has {shown(list(row))}: none of {', '.join(COMPLETION_FIELDS)}{told}, nor chat "
                "messages that end with an answer; name the column to train on with data.completion_field"
            )
        passed_over = before(COMPLETION_FIELDS, named)
    return GivenColumns(
        prompt=prompt,
        completions=(named,) if named else (),
        desirable=(data.desirable_field or "label") if data.targets == "labels" else "",
        passed_over=passed_over,
    )


def before(names: Sequence[str], taken: str) -> tuple[str, ...]:
    """The names that come before one in an order of preference; all, where it is none of them."""
    return tuple(itertools.takewhile(lambda name: name != taken, names))


def read_given(
    data: DataSpec, columns: GivenColumns, row: Mapping[str, Any], source: Callable[[str, str], Source]
) -> tuple[Question, Given]:
    """The question of a row and what it gives to train on.

    Args:
        source: Makes the place of a key's field for messages.

    Raises:
        SpecError: for an empty completion, a pair of equal ones, messages that end with no answer.
    """
    keys = ("chosen_field", "rejected_field") if data.targets == "pairs" else ("completion_field",)
    asked = source("prompt_field", columns.prompt)
    if columns.completions:
        places = [source(key, name) for key, name in zip(keys, columns.completions, strict=True)]
        values = [_completion_value(field_of(row, place), place) for place in places]
        if len(values) == 2 and values[0] == values[1]:
            raise places[0].refusal(values[0], f"equals {columns.completions[1]}; a pair needs two")
        if columns.prompt:
            prompt = _prompt_value(field_of(row, asked))
        else:
            prompt, values = _shared_beginning(values, places[0])
            asked = places[0]
    else:
        places = [asked]
        prompt, completion = _cut_at_first_answer(_messages(field_of(row, asked), asked), asked)
        values = [completion]
    completions = tuple(_completion(value, place) for value, place in zip(values, places, strict=True))
    context: tuple[Message, ...] = ()
    if isinstance(prompt, list) and [m.get("role") for m in prompt] not in (["user"], ["system", "user"]):
        context = tuple(_messages(prompt, asked))
        if context[-1]["role"] != "user":
            raise asked.refusal(prompt, "is a prompt whose last message is not the user's; end it with one")
        system = context[0]["content"] if context[0]["role"] == "system" else None
        question = Question(text=context[-1]["content"], system=system)
    else:
        question = question_in(prompt, asked)
    require_place(question, data.format, asked)
    if data.format == "plain" and (context or not all(isinstance(c, str) for c in completions)):
        raise asked.refusal(prompt, "is a conversation, which data.format=plain has no place for; use chat")
    desirable = _label(row, source("desirable_field", columns.desirable)) if columns.desirable else None
    return question, Given(completions=completions, context=context, desirable=desirable)


def _label(row: Mapping[str, Any], source: Source) -> bool:
    value = field_of(row, source)
    known = {True: True, False: False, "true": True, "false": False}
    word = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(word, (bool, str)) or word not in known:
        raise source.refusal(value, "is no label; give true or false")
    return known[word]


def _has(row: Mapping[str, Any], field: str) -> bool:
    try:
        return dig(row, field) is not None
    except KeyError:
        return False


def _is_conversation(row: Mapping[str, Any], prompt: str) -> bool:
    """Whether a prompt's column holds chat messages, among them an answer at the end."""
    value = dig(row, prompt) if prompt and _has(row, prompt) else None
    if not isinstance(value, (list, tuple)) or len(value) < 2:
        return False
    return isinstance(value[-1], Mapping) and value[-1].get("role") == "assistant"


def _holds_prompt(row: Mapping[str, Any], prompt: str, chosen: str) -> bool:
    """Whether completions are whole conversations beside a prompt in text, as TRL tells it."""
    is_list = [isinstance(dig(row, name), (list, tuple)) for name in (prompt, chosen) if _has(row, name)]
    return is_list == [False, True]


def _prompt_value(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _completion_value(value: Any, source: Source) -> Any:
    if isinstance(value, Mapping) and "role" in value:
        return [value]
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise source.refusal(value, "is no completion; give text, or chat messages that end with an answer")
    return value


def _shared_beginning(values: Sequence[Any], source: Source) -> tuple[Any, list[Any]]:
    """What both completions of a pair begin with, and the rest of each (``extract_prompt`` of TRL)."""
    chosen, rejected = values
    if type(chosen) is not type(rejected):
        raise source.refusal(
            chosen, "is of another form than the rejected one; give both as text or messages"
        )
    num = 0
    while num < min(len(chosen), len(rejected)) and chosen[num] == rejected[num]:
        num += 1
    if isinstance(chosen, str) and num > 0 and chosen[num - 1 : num] == " ":
        num -= 1
    if not num:
        raise source.refusal(
            chosen,
            "shares no beginning with the rejected one; name the column of prompts with data.prompt_field",
        )
    return chosen[:num], [chosen[num:], rejected[num:]]


def _cut_at_first_answer(messages: Sequence[Message], source: Source) -> tuple[list[Message], list[Message]]:
    first = next((k for k, message in enumerate(messages) if message["role"] == "assistant"), 0)
    if not first:
        raise source.refusal(
            list(messages), "holds no answer after a question; give the assistant's turns too"
        )
    return list(messages[:first]), list(messages[first:])


def _messages(value: Any, source: Source) -> list[Message]:
    """Chat messages with the text of each."""
    return [
        {"role": role, "content": text}
        for role, text in message_texts(_completion_value(value, source), source)
    ]


def _completion(value: Any, source: Source) -> Completion:
    """A completion as it is trained on; one answer is its text."""
    if isinstance(value, str):
        fault = "the completion is empty; fill it or drop the row" if not value.strip() else text_fault(value)
        if not fault and value.strip() in NOTHING:
            fault = "is what a program writes where it has no completion; fill it or drop the row"
        if fault:
            raise source.refusal(value, fault)
        return value
    messages = _messages(value, source)
    if not messages or messages[0]["role"] != "assistant" or messages[-1]["role"] != "assistant":
        raise source.refusal(
            value, "is no completion: its first and last message must be the assistant's; cut the prompt off"
        )
    return messages[0]["content"] if len(messages) == 1 else tuple(messages)
