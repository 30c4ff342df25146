"""A model folder against what it will be fed, before any run starts.

    python -m trainers.model.folder_check < request.json

Run in a process of its own, for it imports transformers: a request on standard input (see :class:`Use`), the
problems and what was looked at on standard output, both JSON. No weight is loaded and no network asked.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sweeps.spec import SpecError
from trainers.model.prompt_check import Examination, Use, check_use, first_line
from trainers.model.stop_ids import stop_ids
from trainers.model.weight_files import require_numbers, require_weights, some, stored_tensors, unread_weights

NO_WRITERS = (
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "RewardModel",
)
"""Ends of the names of architectures whose head is not that of a language model that writes text."""

NO_WRITER_FIX = "give a causal language model: whatever head this one has, it was not trained to write"

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""Files by which the library applies an adapter to a model."""


def examine(
    folder: Path, uses: Sequence[Use], *, trust_remote_code: bool = False, attentions: Sequence[str] = ()
) -> Examination:
    """Hold a model folder against its uses.

    Args:
        attentions: values of ``engine.attention`` that runs ask for.
    """
    seen = Examination()
    config = _config(folder, trust_remote_code, seen)
    if config is None:
        return seen
    vocabulary = int(config.get_text_config().vocab_size)
    prefix = _collect(seen, folder, lambda: check_weights(folder, config, trust_remote_code))
    if prefix:
        rule = f"every weight's key begins with {prefix!r}, which a wrapper wrote"
        seen.refuse("model.path", str(folder), rule, "it is stripped when loaded", mended=True)
    if prefix is not None:
        seen.found(
            "weights", f"every tensor of {type(config).__name__.removesuffix('Config')}, {_size(folder)}"
        )
        for attention in attentions:
            _collect(seen, folder, partial(check_attention, config, attention, trust_remote_code))
    tokenizer = _tokenizer(folder, trust_remote_code, seen)
    if tokenizer is None:
        return seen
    ids = _collect(seen, folder, lambda: stop_ids(folder, tokenizer.eos_token_id, vocabulary))
    if isinstance(ids, tuple):
        seen.found("stop ids", ", ".join(f"{i} {tokenizer.decode([i])!r}" for i in ids))
    for use in uses:
        check_use(use, tokenizer, vocabulary, _positions(config), _is_absolute(config), seen)
    return seen


def _config(folder: Path, trust: bool, seen: Examination) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:  # transformers raises what its files make it raise
        rule = f"its config.json cannot be read ({first_line(error)})"
        seen.refuse("model.path", str(folder), rule, "copy the model's folder again")
        return None
    if kind := next((a for a in config.architectures or () if a.endswith(NO_WRITERS)), None):
        seen.refuse("model.path", str(folder), f"its config.json says that it is a {kind}", NO_WRITER_FIX)
        return None
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        method = (
            quantised.get("quant_method", "") if isinstance(quantised, dict) else type(quantised).__name__
        )
        rule = f"is quantised ({method}), and codes cannot be trained"
        seen.refuse("model.path", str(folder), rule, "give the model before it was quantised")
        return None
    if (folder / ADAPTER).is_file() and not (folder / ADAPTER_WEIGHTS).is_file():
        rule = f"its {ADAPTER} applies an adapter whose {ADAPTER_WEIGHTS} is not here"
        seen.refuse(
            "model.path", str(folder), rule, "copy it too, or remove the configuration of a merged adapter"
        )
        return None
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not (remote and trust):
        rule = f"model_type {config.model_type!r} is no language model that writes text"
        seen.refuse("model.path", str(folder), rule, "give a causal language model")
        return None
    return config


def check_weights(folder: Path, config: Any, trust_remote_code: bool) -> str:
    """Hold a folder's weight files against the model that its configuration describes.

    Returns:
        What a wrapper put before every stored key, to be stripped.

    Raises:
        SpecError: where a tensor is missing, of another shape, or a file is not what it should be.
    """
    import torch
    from transformers import AutoModelForCausalLM

    stored = stored_tensors(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    needed = {key: tuple(value.shape) for key, value in model.named_parameters(remove_duplicate=False)}
    require_numbers(folder, stored, needed)
    try:
        prefix = require_weights(folder, stored, needed, tied_keys(model))
    except SpecError:
        # The library renames keys of older files (GPT-NeoX's head, for one): it has the last word.
        if _loads_whole(folder, trust_remote_code):
            return ""
        raise
    ignored = [
        re.compile(pattern) for pattern in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    ]
    ours = unread_weights(stored, needed, prefix)
    if spare := [key for key in ours if not any(pattern.search(key) for pattern in ignored)]:
        raise SpecError(
            f"model folder {folder}: its weights hold {some(spare)} that config.json has no place for; copy "
            "weights and config.json of one model"
        )
    return prefix


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


def check_attention(config: Any, attention: str, trust_remote_code: bool) -> None:
    """Refuse an implementation of attention that the architecture does not have.

    Raises:
        SpecError: naming ``engine.attention=eager``, which every architecture has.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if attention not in ("sdpa", "eager") and attention.isidentifier() and "attention" in attention:
        return  # flash_attention_2 and the like: their packages lie where the runs are
    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(
                config, trust_remote_code=trust_remote_code, attn_implementation=attention
            )
    except (ValueError, ImportError) as error:
        raise attention_refused(attention, config.model_type, error) from None


def attention_refused(attention: str, model_type: str, error: Exception) -> SpecError:
    """What is said where a model does not take an implementation of attention."""
    return SpecError(
        f"engine.attention={attention!r}: models of type {model_type} do not take it ({first_line(error)}); "
        "set engine.attention=eager"
    )


def _tokenizer(folder: Path, trust: bool, seen: Examination) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:  # transformers raises what its files make it raise
        rule = f"its tokenizer cannot be read ({first_line(error)})"
        seen.refuse("model.path", str(folder), rule, "copy tokenizer.json and its configuration")
        return None


def _positions(config: Any) -> int | None:
    """Positions that the model has; ``None`` where it states none."""
    text = config.get_text_config()
    return next(
        (getattr(text, k) for k in ("max_position_embeddings", "n_positions") if getattr(text, k, None)), None
    )


def _is_absolute(config: Any) -> bool:
    """Whether each position has an embedding of its own, so that one beyond the last is an error."""
    return not getattr(config.get_text_config(), "rope_parameters", None)


def _size(folder: Path) -> str:
    stored = stored_tensors(folder)
    return f"{len(stored):,} stored, {sum(math.prod(tensor.shape) for tensor in stored.values()):,} numbers"


def _collect(seen: Examination, folder: Path, check: Callable[[], Any]) -> Any:
    """What a check returns; ``None`` after noting why it refuses."""
    try:
        return check()
    except SpecError as error:
        rule, _, fix = str(error).rpartition("; ")
        key = "engine.attention" if rule.startswith("engine.attention=") else "model.path"
        seen.refuse(key, str(folder), rule or fix, fix if rule else "")
    except Exception as error:  # building a model of a strange configuration raises anything
        rule = f"no model can be built from its config.json ({first_line(error)})"
        seen.refuse("model.path", str(folder), rule, "copy the model's folder again")
    return None


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    uses = [Use(**use) for use in request["uses"]]
    seen = examine(
        Path(request["folder"]),
        uses,
        trust_remote_code=request["trust_remote_code"],
        attentions=request["attentions"],
    )
    json.dump(asdict(seen), sys.stdout)


if __name__ == "__main__":
    main()
