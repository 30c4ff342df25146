"""Low-rank additions to frozen weights (LoRA, arXiv 2106.09685), put into the model by peft.

The base model's layers stay where they are; each gets two small matrices, W + (α/r)·B·A. B starts at zero, so
that the policy starts as the base model, and A is drawn from the run's seed as peft draws it.

All that emsweep uses of peft is here: a test holds the names that it gives to parameters against
:data:`CHECKED_VERSION`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sweeps.manifest.atomic import give_usual_mode
from sweeps.spec import ModelSpec, SpecError
from trainers.noise import Stream, uniforms

CHECKED_VERSION = "0.21.2"
"""The version of peft whose names were read."""

DOWN, UP = ".lora_A.default.weight", ".lora_B.default.weight"
"""How peft's parameters end: A, from a layer's inputs to the rank, and B, from there to its outputs."""
_BASE = ".base_layer."


def add_adapter(model: torch.nn.Module, spec: ModelSpec) -> None:
    """Put the adapter into a model and freeze everything else.

    Raises:
        SpecError: for targets that the model has not, or where peft is not installed.
    """
    try:
        from peft import inject_adapter_in_model
    except ImportError:
        raise SpecError(
            f"model.adapter={spec.adapter!r}: needs peft; install it with pip install 'emsweep[lora]'"
        ) from None

    linear = {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    unknown = [target for target in spec.adapter_targets if target not in linear]
    if unknown:
        raise SpecError(
            f"model.adapter_targets={unknown[0]!r}: no linear layer of {spec.name} is called so; "
            f"choose among {', '.join(sorted(linear))}"
        )
    inject_adapter_in_model(_config(spec, list(spec.adapter_targets) or "all-linear"), model)


def _config(spec: ModelSpec, targets: list[str] | str) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=spec.adapter_rank,
        lora_alpha=spec.adapter_alpha,  # type: ignore[arg-type]  # any number scales
        target_modules=targets,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=spec.hub_id or spec.path,
        revision=spec.revision,
    )


def save_adapter(folder: Path, adapter: Mapping[str, Tensor], spec: ModelSpec) -> None:
    """Write matrices, by their names in the model, as a folder that ``peft.PeftModel.from_pretrained`` reads
    for the base model.
    """
    folder.mkdir()
    targets = sorted({name.removesuffix(DOWN).rpartition(".")[2] for name in adapter if name.endswith(DOWN)})
    _config(spec, targets).save_pretrained(folder)
    renamed = {f"base_model.model.{n.replace('.default.', '.')}": t.contiguous() for n, t in adapter.items()}
    save_file(renamed, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    give_usual_mode(folder / "adapter_model.safetensors")


def adapter_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's matrices among a model's weights."""
    return {name: weight for name, weight in weights.items() if name.endswith((DOWN, UP))}


def adapter_shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    """Names and shapes of the adapter's matrices, before an engine shards them."""
    return {n: p.shape for n, p in model.named_parameters() if n.endswith((DOWN, UP))}


def fresh_adapter(shapes: Mapping[str, torch.Size], seed: int) -> dict[str, Tensor]:
    """What the adapter starts from: A uniform in ±1/√inputs by the seed, B zero; float32, by name."""
    weights_by_name = {}
    for number, (name, shape) in enumerate(shapes.items()):
        if name.endswith(UP):
            weights_by_name[name] = torch.zeros(shape)
            continue
        unit = torch.from_numpy(uniforms(seed, Stream.ADAPTER, 0, number, math.prod(shape)))
        weights_by_name[name] = ((2 * unit - 1) / math.sqrt(shape[1])).float().reshape(shape)
    return weights_by_name


def merged(weights: Mapping[str, Tensor], spec: ModelSpec) -> dict[str, Tensor]:
    """Weights under the base model's names, the adapter added to them in float32."""
    if spec.adapter == "none":
        return dict(weights)
    scale, weights_by_name = spec.adapter_alpha / spec.adapter_rank, {}
    for name, weight in weights.items():
        if name.endswith((DOWN, UP)):
            continue
        layer = name.removesuffix(".weight").removesuffix(_BASE.rstrip("."))
        if layer != name and layer + DOWN in weights:
            low_rank = weights[layer + UP].float() @ weights[layer + DOWN].float()
            weight = (weight.float() + scale * low_rank).to(weight.dtype)
        weights_by_name[name.replace(_BASE, ".")] = weight.contiguous()
    return weights_by_name
