"""Prompts against the models that will read them, before any run starts: chat template and length.

Needs the model's files: a local folder, or a hub model in the cache. What is not here cannot be checked
here; then, and for a tokenizer without ``tokenizer.json``, the trainer's own checks are the first.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from sweeps.manifest.data_files import local_path
from sweeps.manifest.hf_cache import snapshot
from sweeps.manifest.training_set import training_set
from sweeps.spec import SpecError
from sweeps.spec.curation import CurateSpec
from sweeps.spec.data_groups import EvalSpec, ExampleSpec, ModelSpec
from sweeps.spec.errors import cut, shown
from sweeps.spec.objective import ObjectiveSpec
from sweeps.spec.train_groups import SamplingSpec
from sweeps.spec.training_set import DataSpec

PROMPTS_COUNTED = 64
"""Prompts of a training set whose tokens are counted: the longest in characters, among which the longest in
tokens is, but for texts of several scripts.
"""

TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
"""Files of a model folder that hold chat templates beside ``tokenizer_config.json``."""


def check_formats(model: ModelSpec, example: ExampleSpec, data: DataSpec, evaluation: EvalSpec) -> None:
    """Refuse the chat format where the model's tokenizer has no chat template.

    Raises:
        SpecError: naming the group whose format must change.
    """
    folder = _folder(model)
    if folder is None or _has_chat_template(folder):
        return
    asked = {
        "example": example.prompts and example.format,
        "data": data.is_set and data.format,
        "eval": evaluation.path and evaluation.format,
    }
    for key, format in asked.items():
        if format == "chat":
            raise SpecError(
                f"{key}.format='chat': model {model.name!r} has no chat template; set {key}.format=plain to "
                "feed the text as it is"
            )


def check_lengths(model: ModelSpec, example: ExampleSpec, sampling: SamplingSpec) -> None:
    """Refuse a prompt that is too long for certain: a chat template can only add to the tokens counted here.

    Raises:
        SpecError: with the prompt's tokens, the limit and how to have it cut.
    """
    folder = _folder(model)
    if folder is None or sampling.overlong == "truncate":
        return
    for number, prompt in enumerate(example.prompts):
        text = example.template.replace("{problem}", prompt)
        what = f"example {shown(example.name)}: prompt {number}"
        _require_length(folder, text, example.format == "chat", what, model, sampling)


def check_set_lengths(
    model: ModelSpec, data: DataSpec, objective: ObjectiveSpec, curate: CurateSpec, sampling: SamplingSpec
) -> None:
    """The same for a training set, of whose rows the longest are counted: their prompts where rollouts are
    drawn, with the completions that are trained on.

    Raises:
        SpecError: as :func:`check_lengths` does.
    """
    folder = _folder(model)
    if folder is None or not data.is_set or _tokenizer(folder) is None:
        return
    if objective.targets and data.overlong == "refuse":
        _check_given_lengths(folder, model, data)
    if sampling.overlong == "truncate" or not (objective.draws_rollouts or curate.is_on):
        return
    for row in training_set(data).longest(PROMPTS_COUNTED):
        text = data.template.replace("{problem}", row.prompt)
        what = f"data {shown(data.label)}: the prompt {shown(cut(row.prompt, 80))}"
        _require_length(folder, text, data.format == "chat", what, model, sampling)


def _check_given_lengths(folder: Path, model: ModelSpec, data: DataSpec) -> None:
    for row in training_set(data).longest(PROMPTS_COUNTED, given=True):
        given = row.given
        turns = [turn["content"] for turn in given.context] or [
            data.template.replace("{problem}", row.prompt)
        ]
        for completion in given.completions:
            of_it = [completion] if isinstance(completion, str) else [turn["content"] for turn in completion]
            tokens = sum(_count(folder, text) for text in (*turns, *of_it))
            if tokens > data.max_tokens:
                raise SpecError(
                    f"data {shown(data.label)}: the prompt {shown(cut(row.prompt, 80))} and its completion "
                    f"have at least {tokens:,} tokens of model {model.name!r}, above data.max_tokens="
                    f"{data.max_tokens:,}; raise it, or set data.overlong=truncate to drop the end"
                )


def check_labels(data: DataSpec, curate: CurateSpec) -> None:
    """Refuse completions of a labeler in which the filter would find no answer, by the first of them.

    Raises:
        SpecError: with such a completion.
    """
    if not (curate.is_on and curate.labels and curate.answer_pattern):
        return
    for row in training_set(data).rows(range(min(PROMPTS_COUNTED, data.num_rows))):
        [completion] = row.given.completions
        text = completion if isinstance(completion, str) else completion[-1]["content"]
        if not re.search(curate.answer_pattern, text):
            raise SpecError(
                f"data {shown(data.label)}: the completion {shown(cut(text, 80))} holds no answer that "
                f"curate.answer_pattern={shown(curate.answer_pattern)} finds, so that the labeler would "
                "teach what the filter drops; name a column that is written so (data.completion_field), or "
                "change the pattern"
            )


def _require_length(
    folder: Path, text: str, is_chat: bool, what: str, model: ModelSpec, sampling: SamplingSpec
) -> None:
    tokens = _count(folder, text)
    if tokens > sampling.max_prompt_tokens:
        atleast = "at least " if is_chat else ""
        raise SpecError(
            f"{what} has {atleast}{tokens:,} tokens of model {model.name!r}, above "
            f"sampling.max_prompt_tokens={sampling.max_prompt_tokens:,}; raise it, or set "
            "sampling.overlong=truncate to drop the prompt's beginning"
        )


def _folder(model: ModelSpec) -> Path | None:
    folder = snapshot(model.hub_id, model.revision or "main") if model.hub_id else local_path(model.path)
    return folder if folder and folder.is_dir() else None


@lru_cache(maxsize=256)
def _has_chat_template(folder: Path) -> bool:
    """Whether there is a chat template, or the file that would hold it is not here."""
    if any((folder / name).exists() for name in TEMPLATE_FILES):
        return True
    config = folder / "tokenizer_config.json"
    return not config.is_file() or bool(json.loads(config.read_text()).get("chat_template"))


def _count(folder: Path, text: str) -> int:
    """Tokens of a text, without the special ones around it; 0 where they cannot be counted."""
    tokenizer = _tokenizer(folder)
    return len(tokenizer.encode(text, add_special_tokens=False).ids) if tokenizer else 0


@lru_cache(maxsize=8)
def _tokenizer(folder: Path) -> Any:
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception:  # all that the library raises for a file it does not understand; transformers may
        return None
