"""Base models: a folder or a hub id in, tokenizer and weights out.

Owns no files. The same ``from_pretrained`` calls load a shipped tiny model, a user's folder and a hub model,
which is on this node's disk by then.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from sweeps.manifest.data_files import local_path
from sweeps.spec import ModelSpec, SpecError
from trainers.model.adapter import add_adapter
from trainers.model.download import local_folder
from trainers.model.folder_check import attention_refused, check_weights
from trainers.model.stop_ids import stop_ids
from trainers.model.stored_weights import StoredWeights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Torch types of ``engine.precision``."""


DEFAULT_TOP_K = 50
"""What transformers' ``generate`` keeps where a model's generation config has no word on it."""


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """What of a model is shared by all runs that start from it."""

    location: str
    tokenizer: Any
    eos_ids: tuple[int, ...]
    """Tokens that end a completion."""
    pad_id: int
    """Token that fills rows; any id serves, since padding is told by position."""
    top_k: int = DEFAULT_TOP_K
    """Most likely tokens that ``sampling.top_k=model`` keeps; 0 keeps all."""


def load_base(spec: ModelSpec) -> BaseModel:
    """Load the tokenizer and the generation settings of a model.

    Raises:
        SpecError: if the model has no end-of-sequence token to stop a rollout at.
    """
    location = _location(spec)
    tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=spec.trust_remote_code)
    config = AutoConfig.from_pretrained(location, trust_remote_code=spec.trust_remote_code)
    vocabulary = int(config.get_text_config().vocab_size)
    eos_ids = stop_ids(Path(location), tokenizer.eos_token_id, vocabulary)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos_ids[0]
    return BaseModel(
        location=location,
        tokenizer=tokenizer,
        eos_ids=eos_ids,
        pad_id=pad_id,
        top_k=generation_top_k(Path(location)),
    )


def generation_top_k(folder: Path) -> int:
    """``top_k`` of a model's generation config, as ``generate`` takes it.

    Raises:
        SpecError: for a value that is no number of tokens.
    """
    file = folder / "generation_config.json"
    data = json.loads(file.read_text()) if file.is_file() else {}
    value = data.get("top_k", DEFAULT_TOP_K)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SpecError(f"{file}: top_k={value!r}: must be a number of tokens, 0 for all; write it so")
    return value


def vocabulary_size(module: torch.nn.Module) -> int:
    """V of the model's logits."""
    return int(cast(Any, module).config.get_text_config().vocab_size)


def _location(spec: ModelSpec) -> str:
    if spec.hub_id is None:
        return str(local_path(spec.path))
    revision = spec.commit or spec.revision or "main"
    return str(local_folder(spec.hub_id, revision, remote_code=spec.trust_remote_code))


@lru_cache(maxsize=8)
def _wrapper_prefix(folder: Path, trust_remote_code: bool) -> str:
    """Check what a folder's weight files hold; return what a wrapper put before every key."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return check_weights(folder, config, trust_remote_code)


def stored_weights(spec: ModelSpec) -> StoredWeights:
    """The weights of a model where they lie."""
    folder = Path(_location(spec))
    return StoredWeights(folder, _wrapper_prefix(folder, spec.trust_remote_code))


def load_weights(spec: ModelSpec, *, precision: str, attention: str) -> torch.nn.Module:
    """Load the model onto the host in the run's precision, in evaluation mode (no dropout: the policy that
    is trained is the policy that is sampled).

    Raises:
        SpecError: where the files lack a tensor that the model needs, or hold one of another shape (it would
            be random), or the architecture does not take this attention.
    """
    transformers_logging.disable_progress_bar()  # a worker has no terminal
    folder = Path(_location(spec))
    prefix = _wrapper_prefix(folder, spec.trust_remote_code)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=DTYPES[precision],
            attn_implementation=attention,
            trust_remote_code=spec.trust_remote_code,
            use_safetensors=True,
            key_mapping={f"^{re.escape(prefix)}": ""} if prefix else None,
        )
    except (ValueError, ImportError) as error:
        if "attention" not in str(error).lower() and "attn" not in str(error).lower():
            raise
        raise attention_refused(attention, spec.name or str(folder), error) from error
    if spec.adapter != "none":
        add_adapter(model, spec)
    return model.eval()
