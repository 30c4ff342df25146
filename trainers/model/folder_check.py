"""A model folder against what it will be fed, before any run starts.

    python -m trainers.model.folder_check < request.json

Run in a process of its own, for it imports transformers: a request on standard input (see :class:`Use`), a
list of problems on standard output, both JSON. No weight is loaded and no network asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweeps.spec import SpecError
from trainers.model.stop_ids import stop_ids
from trainers.model.weight_files import require_weights, stored_shapes


@dataclass(frozen=True, kw_only=True)
class Use:
    """One way in which a model will be asked."""

    key: str
    """Group of the run that asks, ``example`` or ``eval``."""
    format: str
    """``chat`` or ``plain``."""
    system: str | None = None
    text: str = ""
    """The longest prompt, in its template."""
    max_new_tokens: int = 0
    """Tokens that may follow it."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a model cannot be used as asked, or what was mended in it for this sweep."""

    key: str
    """What is wrong: a key of the run, or ``model.path``."""
    value: str
    rule: str
    fix: str
    mended: bool = False
    """Whether it is dealt with when the model is loaded, and only said."""


def problem(*, key: str, value: str, text: str, mended: bool = False) -> Problem:
    """A problem from a message of the form ``rule; fix``."""
    rule, _, fix = text.rpartition("; ")
    return Problem(key=key, value=value, rule=rule or fix, fix=fix if rule else "", mended=mended)


def problems_of(folder: Path, uses: Sequence[Use], *, trust_remote_code: bool = False) -> list[Problem]:
    """Everything that is wrong with a model folder for these uses; empty if nothing."""
    found: list[Problem] = []
    loaded = _config(folder, trust_remote_code, found)
    if loaded is None:
        return found
    config, vocabulary = loaded
    prefix = _collect(found, folder, lambda: check_weights(folder, config, trust_remote_code))
    if prefix:
        rule = f"every weight's key begins with {prefix!r}, which a wrapper wrote; it is stripped when loaded"
        found.append(problem(key="model.path", value=str(folder), text=rule, mended=True))
    tokenizer = _tokenizer(folder, trust_remote_code, found)
    if tokenizer is None:
        return found
    _collect(found, folder, lambda: stop_ids(folder, tokenizer.eos_token_id, vocabulary))
    for use in uses:
        found += _problems_of_use(use, tokenizer, vocabulary, _positions(config))
    return found


def _config(folder: Path, trust: bool, found: list[Problem]) -> tuple[Any, int] | None:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:  # transformers raises what its files make it raise
        rule = f"its config.json cannot be read ({_first_line(error)}); copy the model's folder again"
        found.append(problem(key="model.path", value=str(folder), text=rule))
        return None
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not (remote and trust):
        rule = (
            f"model_type {config.model_type!r} is no language model that writes text; give a "
            "causal language model"
        )
        found.append(problem(key="model.path", value=str(folder), text=rule))
        return None
    return config, int(config.get_text_config().vocab_size)


def check_weights(folder: Path, config: Any, trust_remote_code: bool) -> str:
    """Hold a folder's weight files against the model that its configuration describes.

    Returns:
        What a wrapper put before every stored key, to be stripped.

    Raises:
        SpecError: where a tensor is missing, of another shape, or a file is not what it should be.
    """
    import torch
    from transformers import AutoModelForCausalLM

    stored = stored_shapes(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    needed = {key: tuple(value.shape) for key, value in model.named_parameters(remove_duplicate=False)}
    try:
        return require_weights(folder, stored, needed, tied_keys(model))
    except SpecError:
        # The library renames keys of older files (GPT-NeoX's head, for one): it has the last word.
        if _loads_whole(folder, trust_remote_code):
            return ""
        raise


def _loads_whole(folder: Path, trust_remote_code: bool) -> bool:
    """Whether the library finds every weight of a model when it really loads it."""
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    except Exception:  # transformers raises what the files make it raise; the caller knows why
        return False
    _, info = loaded
    return not info["missing_keys"]


def tied_keys(model: Any) -> set[str]:
    """Parameters that share another's values, by every name they have but the first."""
    first: dict[int, str] = {}
    tied = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            tied.add(name)
    if getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        tied |= set(getattr(model, "_tied_weights_keys", None) or ())
    return tied


def _tokenizer(folder: Path, trust: bool, found: list[Problem]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:  # transformers raises what its files make it raise
        rule = (
            f"its tokenizer cannot be read ({_first_line(error)}); copy tokenizer.json and its configuration"
        )
        found.append(problem(key="model.path", value=str(folder), text=rule))
        return None


def _positions(config: Any) -> int | None:
    """Positions that the model has; ``None`` where it states none."""
    text = config.get_text_config()
    return next(
        (getattr(text, k) for k in ("max_position_embeddings", "n_positions") if getattr(text, k, None)), None
    )


def _problems_of_use(use: Use, tokenizer: Any, vocabulary: int, positions: int | None) -> Iterator[Problem]:
    if use.format == "chat":
        try:
            messages = [{"role": "system", "content": use.system}] if use.system else []
            messages.append({"role": "user", "content": use.text})
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template raises what it likes
            what = f"the chat template refuses it ({_first_line(error)})"
            if use.system:
                fix = f"set {use.key}.system=null, or {use.key}.format=plain"
                yield problem(key=f"{use.key}.system", value=_short(use.system), text=f"{what}; {fix}")
            else:
                yield problem(
                    key=f"{use.key}.format", value="chat", text=f"{what}; set {use.key}.format=plain"
                )
            return
    else:
        text = use.text
    ids = tokenizer(text, add_special_tokens=use.format == "plain")["input_ids"]
    if use.format == "plain" and ids and ids[-1] == tokenizer.eos_token_id:
        rule = (
            "the tokenizer ends every text with its end-of-sequence token, so that the model answers nothing"
        )
        fix = "set add_eos_token to false in tokenizer_config.json"
        yield problem(key=f"{use.key}.format", value="plain", text=f"{rule}; {fix}")
    if ids and max(ids) >= vocabulary:
        rule = (
            f"the tokenizer gives id {max(ids)} where the model has {vocabulary} embeddings; "
            "they do not belong together"
        )
        yield problem(key="model.path", value=_short(text), text=rule)
    if positions is not None and len(ids) + use.max_new_tokens > positions:
        key = "sampling.max_new_tokens" if use.key == "example" else "eval.max_new_tokens"
        rule = (
            f"a prompt of {len(ids)} tokens and these pass the model's {positions} positions; at "
            f"most {positions - len(ids)}"
        )
        yield problem(key=key, value=str(use.max_new_tokens), text=rule)


def _collect(found: list[Problem], folder: Path, check: Callable[[], object]) -> object:
    try:
        return check()
    except SpecError as error:
        found.append(problem(key="model.path", value=str(folder), text=str(error)))
    except Exception as error:  # building a model of a strange configuration raises anything
        rule = f"no model can be built from its config.json ({_first_line(error)})"
        found.append(problem(key="model.path", value=str(folder), text=rule))
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return _short(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}…"


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    uses = [Use(**use) for use in request["uses"]]
    found = problems_of(Path(request["folder"]), uses, trust_remote_code=request["trust_remote_code"])
    json.dump([asdict(problem) for problem in found], sys.stdout)


if __name__ == "__main__":
    main()
