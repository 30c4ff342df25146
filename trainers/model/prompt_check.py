"""Prompts against the model that will read them: template, tokens, positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeps.spec.errors import cut
from trainers.model.chat import chat_messages

SHOWN_CHARACTERS = 60
"""Characters of a rendered prompt that a table shows."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """One way in which a model will be asked."""

    key: str
    """Group of the run that asks, ``example`` or ``eval``."""
    format: str
    """``chat`` or ``plain``."""
    system: str | None = None
    system_role: str = "system"
    """What becomes of the system message: a turn of its own, or ``fold``."""
    text: str = ""
    """The longest prompt, in its template."""
    shortest: str | None = None
    """The shortest one, where there are several."""
    max_new_tokens: int = 0
    """Tokens that may follow it."""
    given: str = ""
    """The completion that is trained on behind it."""
    max_tokens: int = 0
    """Longest prompt with such a completion."""
    cuts: bool = False
    """Whether longer ones lose their end."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a model cannot be used as asked, or what is only said of it."""

    key: str
    """What is wrong: a key of the run, or ``model.path``."""
    value: str
    rule: str
    fix: str
    mended: bool = False
    """Whether it is dealt with when the model is loaded or asked, and only said."""


@dataclass(kw_only=True)
class Examination:
    """What was looked at in a model folder."""

    problems: list[Problem] = field(default_factory=list)
    checked: list[tuple[str, str]] = field(default_factory=list)
    """What was looked at, and what was found there, in words."""

    def refuse(self, key: str, value: str, rule: str, fix: str, *, mended: bool = False) -> None:
        self.problems.append(Problem(key=key, value=cut(value), rule=rule, fix=fix, mended=mended))

    def found(self, what: str, words: str) -> None:
        self.checked.append((what, words))


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return cut(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def check_use(
    use: Use, tokenizer: Any, vocabulary: int, positions: int | None, is_absolute: bool, seen: Examination
) -> None:
    """Render, tokenise and bound-check the longest prompt of one use.

    Args:
        positions: how many the model has; ``None`` where it states none.
        is_absolute: whether each position has an embedding of its own, so that there is none beyond.
    """
    text = _rendered(use, use.text, tokenizer, seen)
    if text is None:
        return
    ids = _ids(text, use.format, tokenizer)
    _check_tokens(use, text, ids, tokenizer, vocabulary, seen)
    if positions is not None:
        _check_positions(use, ids, tokenizer, positions, is_absolute, seen)


def _rendered(use: Use, text: str, tokenizer: Any, seen: Examination) -> str | None:
    """The prompt as the model is given it; ``None`` where its template refuses it."""
    if use.format == "plain":
        return text
    messages = chat_messages(text, system=use.system, system_role=use.system_role)
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template raises what it likes
        rule = f"the chat template refuses it ({first_line(error)})"
        if use.system and use.system_role != "fold":
            fix = (
                f"set {use.key}.system_role=fold to put it before the question, {use.key}.system=null, or "
                f"{use.key}.format=plain"
            )
            seen.refuse(f"{use.key}.system", use.system, rule, fix)
        else:
            seen.refuse(f"{use.key}.format", "chat", rule, f"set {use.key}.format=plain")
        return None


def _ids(text: str, format: str, tokenizer: Any) -> list[int]:
    return list(tokenizer(text, add_special_tokens=format == "plain")["input_ids"])


def _check_tokens(
    use: Use, text: str, ids: Sequence[int], tokenizer: Any, vocabulary: int, seen: Examination
) -> None:
    beyond = max(ids, default=0)
    unknown = sum(i == tokenizer.unk_token_id for i in ids) if tokenizer.unk_token_id is not None else 0
    if not ids:
        seen.refuse(
            f"{use.key}.template", text, "the prompt has no tokens", "mend the template, or give it text"
        )
        return
    if beyond >= vocabulary:
        rule = f"the tokenizer gives id {beyond} where the model has {vocabulary} embeddings"
        seen.refuse("model.path", text, rule, "give the tokenizer and the weights of one model")
    if use.format == "plain" and ids and ids[-1] == tokenizer.eos_token_id:
        rule = (
            "the tokenizer ends every text with its end-of-sequence token, so that the model answers nothing"
        )
        fix = "set add_eos_token to false in tokenizer_config.json, or take it out of tokenizer.json"
        seen.refuse(f"{use.key}.format", "plain", rule, fix)
    if use.system and use.format == "chat" and use.system.strip() not in text:
        rule = "the chat template leaves the system message out, so that no model reads it"
        fix = f"set {use.key}.system_role=fold to put it before the question, or {use.key}.system=null"
        seen.refuse(f"{use.key}.system", use.system, rule, fix)
    if use.text.strip() and use.text.strip() not in text:
        rule = "the chat template leaves the question out or changes it"
        seen.refuse(f"{use.key}.format", "chat", rule, f"set {use.key}.format=plain, or mend the template")
    named = f", {unknown / len(ids):.0%} of them unknown to the tokenizer" if unknown else ""
    seen.found(
        f"{use.key} prompt", f"{use.format}, {len(ids):,} tokens{named}: {cut(text, SHOWN_CHARACTERS)!r}"
    )


def _check_positions(
    use: Use, ids: Sequence[int], tokenizer: Any, positions: int, is_absolute: bool, seen: Examination
) -> None:
    if use.given:
        _check_given(use, len(ids) + len(_ids(use.given, "chat", tokenizer)), positions, seen)
    if not use.max_new_tokens:
        return
    key = "eval.max_new_tokens" if use.key == "eval" else "sampling.max_new_tokens"
    seen.found(f"{use.key} length", f"{len(ids):,} + {use.max_new_tokens:,} new of {positions:,} positions")
    if len(ids) + use.max_new_tokens <= positions:
        return
    shortest = ids
    if use.shortest is not None and not is_absolute:
        shortest = _ids(_rendered(use, use.shortest, tokenizer, seen) or "", use.format, tokenizer)
    some = len(shortest) + use.max_new_tokens <= positions
    seen.refuse(
        key,
        str(use.max_new_tokens),
        f"a prompt of {len(ids)} tokens and these pass the model's {positions} positions",
        f"at most {max(0, positions - len(ids))}" + (", for the longest prompt" if some else ""),
        mended=some,
    )


def _check_given(use: Use, tokens: int, positions: int, seen: Examination) -> None:
    """Bound-check the longest prompt with its given completion."""
    longest = min(tokens, use.max_tokens) if use.cuts else tokens
    seen.found("data length", f"{longest:,} of {positions:,} positions, the completion included")
    if longest > positions:
        seen.refuse(
            "data.max_tokens",
            str(use.max_tokens),
            f"a prompt with its completion, {longest:,} tokens, passes the model's {positions:,} positions",
            f"set data.max_tokens={positions} and data.overlong=truncate, or leave such rows out",
        )
