"""From a row's prompt and given completions to token ids, and which of them the loss counts.

As TRL's ``SFTTrainer`` encodes them: prompt and completion are tokenised as one text, and what is counted
begins where that differs from the tokenised prompt. A completion of one turn is counted to its end, with what
the chat template writes behind it; of a longer one every answer is, found by the template's
``{% generation %}`` where it has such, else by what rendering one more turn adds. A row ends with an
end-of-sequence token, which is counted: where nothing of the last answer stops a rollout, one is added.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from sweeps.manifest.given_rows import Completion, Message
from sweeps.manifest.training_rows import TrainingRow
from sweeps.spec import DataSpec, SpecError
from sweeps.spec.errors import cut, shown
from trainers.model.base_model import BaseModel
from trainers.model.chat import chat_messages
from trainers.model.prompt_encoding import encode

_MARKED = re.compile(r"{%-?\s*generation\b")
"""A chat template that marks answers."""

Role = Literal["target", "chosen", "rejected"]


@dataclass(frozen=True, kw_only=True)
class GivenSequence:
    """A prompt with a given completion."""

    ids: tuple[int, ...]
    counted: tuple[int, ...]
    """Places in ``ids`` of the tokens that the loss counts, ascending; at least one, none of them the first.
    """
    role: Role = "target"
    desirable: bool | None = None
    """Whether a labelled completion is."""

    @property
    def is_example(self) -> bool:
        """Whether it is to be followed: neither the rejected one of a pair nor one that is not desirable."""
        return self.role != "rejected" and self.desirable is not False


def encode_given(rows: Sequence[TrainingRow], data: DataSpec, base: BaseModel) -> list[GivenSequence]:
    """The sequences that the rows of a step give, in their order; of a pair the chosen one first.

    Raises:
        SpecError: for a row that is too long, or a chat template that does not tell which tokens are answers.
    """
    sequences = []
    for row in rows:
        given = row.given
        roles: Sequence[Role] = ("chosen", "rejected") if len(given.completions) == 2 else ("target",)
        for role, completion in zip(roles, given.completions, strict=True):
            ids, counted = _encode(row, completion, data, base)
            sequences.append(GivenSequence(ids=ids, counted=counted, role=role, desirable=given.desirable))
    return sequences


def prompt_messages(row: TrainingRow, data: DataSpec) -> list[Message]:
    """The chat messages of a row up to its completion."""
    context = row.given.context if row.given_json is not None else ()
    turns = [turn for turn in context if turn["role"] != "system"]
    system = row.system if row.system is not None else data.system
    text = turns[0]["content"] if turns else data.template.replace("{problem}", row.prompt)
    return [*chat_messages(text, system=system, system_role=data.system_role), *turns[1:]]


def _encode(
    row: TrainingRow, completion: Completion, data: DataSpec, base: BaseModel
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    tokenizer = base.tokenizer
    if data.format == "plain":
        assert isinstance(completion, str)
        prompt = data.template.replace("{problem}", row.prompt)
        end = tokenizer.eos_token or ""
        text = prompt + completion + ("" if end and completion.endswith(end) else end)
        ids, before = (encode(t, tokenizer, format="plain") for t in (text, prompt))
        counted = list(range(_common(ids, before), len(ids)))
    else:
        messages = prompt_messages(row, data)
        turns = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
        ids, counted = _of_chat([*messages, *turns], len(messages), tokenizer)
    if not counted:
        raise SpecError(
            "data.format='chat': the model's chat template leaves given answers out; use a template that "
            "writes them, or data.format=plain"
        )
    if not any(ids[k] in base.eos_ids for k in counted[_last_stretch(counted) :]):
        end_id = tokenizer.eos_token_id
        ids, counted = [*ids, base.eos_ids[0] if end_id is None else end_id], [*counted, len(ids)]
    if len(ids) > data.max_tokens:
        ids, counted = _limited(ids, counted, row, data)
    return tuple(ids), tuple(k for k in counted if k > 0)


def _limited(
    ids: list[int], counted: list[int], row: TrainingRow, data: DataSpec
) -> tuple[list[int], list[int]]:
    what = f"data {shown(data.label)}: the prompt {shown(cut(row.prompt, 80))}"
    if data.overlong == "refuse":
        raise SpecError(
            f"{what} and its completion have {len(ids):,} tokens, above data.max_tokens={data.max_tokens:,}; "
            "raise it, or set data.overlong=truncate to drop the end"
        )
    kept = [k for k in counted if k < data.max_tokens]
    if not kept:
        raise SpecError(
            f"{what} leaves nothing of its completion within data.max_tokens={data.max_tokens:,}; raise it, "
            "or drop the row"
        )
    return ids[: data.max_tokens], kept


def _of_chat(messages: Sequence[Message], first: int, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and the places of those to count from the message ``first`` on."""
    if not getattr(tokenizer, "chat_template", None):
        raise SpecError("data.format='chat': the tokenizer has no chat template; set data.format=plain")
    text = _rendered(messages, tokenizer)
    ids = encode(text, tokenizer, format="chat")
    before = _common(ids, encode(_rendered(messages[:first], tokenizer, True), tokenizer, format="chat"))
    if len(messages) == first + 1:
        return ids, list(range(before, len(ids)))
    if _MARKED.search(str(tokenizer.chat_template)):
        marked = tokenizer.apply_chat_template(
            list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        counted = [k for k, is_one in enumerate(marked["assistant_masks"]) if is_one and k >= before]
        if list(marked["input_ids"]) == ids and counted:
            return ids, counted
    counted = []
    for number in range(first, len(messages)):
        if messages[number]["role"] != "assistant":
            continue
        begin, end = (
            _rendered(messages[:number], tokenizer, True),
            _rendered(messages[: number + 1], tokenizer),
        )
        if not (text.startswith(begin) and text.startswith(end) and len(end) > len(begin)):
            raise SpecError(
                "data.format='chat': the model's chat template renders the beginning of a conversation "
                "otherwise than the same turns within all of it, so that its answers cannot be told; cut "
                "conversations after their first answer, or use a template with {% generation %}"
            )
        own = [_common(ids, encode(part, tokenizer, format="chat")) for part in (begin, end)]
        counted += range(*own)
    return ids, counted


def _rendered(messages: Sequence[Message], tokenizer: Any, asks: bool = False) -> str:
    """The text of a conversation; with ``asks`` up to where the next answer begins."""
    text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks)
    return text


def _common(ids: Sequence[int], others: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, others, strict=False)))


def _last_stretch(counted: Sequence[int]) -> int:
    """Where in ``counted`` the last run of neighbours begins: the last answer."""
    begin = len(counted) - 1
    while begin > 0 and counted[begin - 1] == counted[begin] - 1:
        begin -= 1
    return max(0, begin)
