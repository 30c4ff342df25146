"""The tokens that end a completion, read from a model folder as ``generate`` takes them.

``generation_config.json`` says it; without that, or without a word in it, ``config.json``; without that the
tokenizer. A value that is no token id of the vocabulary is refused: read as text it would stop at characters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sweeps.spec import SpecError

SOURCES = ("generation_config.json", "config.json")
"""Files that may name the stop ids, the first that does counts."""


def stop_ids(folder: Path, tokenizer_eos: int | None, vocabulary: int) -> tuple[int, ...]:
    """Ids that end a completion, ascending order of the file that names them.

    Args:
        folder: the model's files.
        tokenizer_eos: the tokenizer's own end-of-sequence id.
        vocabulary: number of token ids.

    Raises:
        SpecError: where there is none, or one is no id of the vocabulary; naming file, rule and fix.
    """
    for name in SOURCES:
        named = _named(folder / name)
        if named is not None:
            ids = tuple(named) if isinstance(named, list) else (named,)
            if not ids:
                raise SpecError(
                    f"{folder / name}: eos_token_id=[]: names no end of sequence, so that every rollout "
                    "would run to its limit; write the number of the token that ends an answer"
                )
            for value in ids:
                _require_id(value, f"{folder / name}: eos_token_id", vocabulary)
            return ids
    if tokenizer_eos is None:
        raise SpecError(
            f"model folder {folder}: names no end of sequence, so that every rollout would run to "
            "its limit; set "
            "eos_token_id in generation_config.json or eos_token in tokenizer_config.json"
        )
    _require_id(tokenizer_eos, f"{folder / 'tokenizer_config.json'}: eos_token", vocabulary)
    return (tokenizer_eos,)


def _named(file: Path) -> Any:
    """``eos_token_id`` of a configuration file, its text model's where it has several; ``None`` without
    one.
    """
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        eos = data.get("eos_token_id")
        return (data.get("text_config") or {}).get("eos_token_id") if eos is None else eos
    except (ValueError, AttributeError) as error:
        raise SpecError(
            f"{file}: is no JSON object of settings ({error}); copy it again, or remove it"
        ) from None


def _require_id(value: Any, where: str, vocabulary: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < vocabulary:
        raise SpecError(
            f"{where}={value!r}: must be a token id from 0 to {vocabulary - 1}; write the number of "
            "the token that "
            "ends an answer"
        )
