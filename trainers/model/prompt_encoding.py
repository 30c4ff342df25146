"""From prompt text to token ids: template, chat format, length limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.spec import ExampleSpec, RunSpec, SamplingSpec, SpecError
from trainers.model.base_model import BaseModel
from trainers.model.chat import chat_messages


def render(
    text: str,
    *,
    template: str,
    system: str | None,
    format: str,
    tokenizer: Any,
    key: str,
    system_role: str = "system",
) -> str:
    """Put a question into its template and the tokenizer's chat format.

    Args:
        template: Text around it, holding ``{problem}``.
        system: System message, for the chat format only.
        format: ``chat`` or ``plain``.
        key: Spec group named in errors, such as ``example``.
        system_role: What becomes of the system message (:func:`trainers.model.chat.chat_messages`).

    Raises:
        SpecError: if the chat format is asked for and the tokenizer has no chat template.
    """
    content = template.replace("{problem}", text)
    if format == "plain":
        return content
    if not getattr(tokenizer, "chat_template", None):
        raise SpecError(f"{key}.format='chat': the tokenizer has no chat template; set {key}.format=plain")
    messages = chat_messages(content, system=system, system_role=system_role)
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def encode(text: str, tokenizer: Any, *, format: str) -> list[int]:
    """Token ids of a rendered prompt; the chat template already wrote its own special tokens."""
    return tokenizer(text, add_special_tokens=format == "plain")["input_ids"]


def limit_length(ids: list[int], *, limit: int, overlong: str) -> list[int]:
    """Apply the prompt limit.

    Raises:
        SpecError: for a longer prompt under ``refuse``, saying how many tokens it has; for an empty prompt.
    """
    if not ids:
        raise SpecError("the prompt is empty after tokenisation: give example.prompts some text")
    if len(ids) <= limit:
        return ids
    if overlong == "truncate":
        return ids[-limit:]
    raise SpecError(
        f"the prompt has {len(ids)} tokens, above sampling.max_prompt_tokens={limit}: raise it, or set "
        "sampling.overlong=truncate to drop the prompt's beginning"
    )


def encode_prompts(spec: RunSpec, base: BaseModel) -> list[list[int]]:
    """Token ids of the run's prompts; raises as :func:`encode_example` does."""
    return encode_example(spec.example, spec.sampling, base)


def encode_example(
    example: ExampleSpec,
    sampling: SamplingSpec,
    base: BaseModel,
    systems: Sequence[str | None] | None = None,
) -> list[list[int]]:
    """Token ids of an example's prompts.

    Args:
        systems: each prompt's own system message, where they differ.

    Raises:
        SpecError: for a prompt that is too long or empty.
    """
    systems = systems or [example.system] * len(example.prompts)
    rendered = [
        render(
            text,
            template=example.template,
            system=system,
            format=example.format,
            tokenizer=base.tokenizer,
            key="example",
            system_role=example.system_role,
        )
        for text, system in zip(example.prompts, systems, strict=True)
    ]
    return [
        limit_length(
            encode(text, base.tokenizer, format=example.format),
            limit=sampling.max_prompt_tokens,
            overlong=sampling.overlong,
        )
        for text in rendered
    ]


def encode_messages(
    messages: Sequence[Mapping[str, str]], sampling: SamplingSpec, base: BaseModel
) -> list[int]:
    """Token ids of a conversation up to its next answer; raises as :func:`encode_example` does."""
    text = base.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    ids = encode(text, base.tokenizer, format="chat")
    return limit_length(ids, limit=sampling.max_prompt_tokens, overlong=sampling.overlong)
