"""What DeepSpeed is given to build an engine: the optimizer, its groups, the configuration."""

from __future__ import annotations

from typing import Any, cast

import torch

from sweeps.spec import EngineSpec, OptimSpec
from trainers.engine.gang import Gang
from trainers.engine.optimizers import new_optimizer

_UNUSED_BATCH = 1
"""DeepSpeed insists on a batch size; with unmanaged accumulation the number of micro batches is ours to
vary per step.
"""


def parts_groups(optim: OptimSpec, engine: EngineSpec) -> bool:
    """Whether every parameter must be a group of its own: to freeze some of them under ZeRO."""
    return bool(optim.half_every_steps and engine.zero_stage)


def optimizer_of(
    model: torch.nn.Module, optim: OptimSpec, engine: EngineSpec, gang: Gang
) -> torch.optim.Optimizer:
    """The optimizer over the trained parameters; on the host where the engine offloads from a GPU."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    on_host = engine.offload and gang.device.type == "cuda"
    return new_optimizer(named, optim, apart=parts_groups(optim, engine), on_host=on_host)


def checkpoint_activations(model: torch.nn.Module) -> None:
    """Have the model recompute activations in the backward pass, dropout left off."""
    cast(Any, model).activation_checkpointing_enable()
    for part in model.modules():  # training mode must not bring dropout along
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if hasattr(part, "attention_dropout"):
            part.attention_dropout = 0.0  # type: ignore[assignment]


def deepspeed_config(optim: OptimSpec, engine: EngineSpec, *, clip: bool, on_gpu: bool) -> dict[str, Any]:
    """DeepSpeed's configuration.

    Args:
        on_gpu: whether a GPU's memory can be spared.
    """
    # DeepSpeed's own linear layer has other bits in bf16, and would stay in the place of torch's for good.
    zero: dict[str, Any] = {"stage": engine.zero_stage, "memory_efficient_linear": False}
    if engine.offload and on_gpu:  # without a GPU the optimizer is in host memory anyway
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": _UNUSED_BATCH,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": optim.grad_clip if clip else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
        "timers": {"throughput": {"enabled": False}},  # it would wait for the GPU twice a step
    }
    if engine.precision != "fp32":
        config[engine.precision] = {"enabled": True}
    return config
