"""Models of a shape of one's own, random and untrained, as folders that any loader takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from trainers.tiny import MODELS_DIR
from trainers.tiny.tokenizer import END, PAD, build_tokenizer


def save_as_mistral(folder: Path) -> Path:
    """Write tiny-64-llama under the name of another family, whose layers have the same names."""
    shutil.copytree(MODELS_DIR / "tiny-64-llama", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_random_model(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    scale: float = 1.0,
    **shape: Any,
) -> Qwen2ForCausalLM:
    """Write a Qwen2 model with the tiny world's tokenizer and return it.

    Args:
        folder: where to.
        dtype: of the weights.
        device: where it is made, by that device's random numbers, and stays.
        scale: factor on every weight; above 1 it moves logits away from ties.
        shape: of ``Qwen2Config``; the vocabulary is the tokenizer's unless it is given.
    """
    tokenizer = build_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in (("pad", PAD), ("eos", END))}
    config = Qwen2Config(
        **{"vocab_size": len(tokenizer), **shape},
        bos_token_id=None,
        eos_token_id=ids["eos"],
        pad_token_id=ids["pad"],
        dtype=str(dtype).removeprefix("torch."),
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
