"""What emsweep uses of DeepSpeed that DeepSpeed does not promise to keep: all of it is here.

Resetting an engine in place needs the tensors that DeepSpeed holds behind its optimizers: shards, flat fp32
partitions, the loss scaler, counters. A test holds every name against the version below.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

CHECKED_VERSION = "0.19.8"
"""The version of DeepSpeed whose source the names here were read in."""

COUNTERS = ("global_steps", "global_samples", "micro_steps", "skipped_steps")
"""What an engine counts from its first step on."""


class Internals:
    """The inside of one DeepSpeed engine."""

    def __init__(self, engine: Any, zero_stage: int) -> None:
        self._engine = engine
        self._zero_stage = zero_stage

    @property
    def _optimizer(self) -> Any:
        return self._engine.optimizer

    def masters(self) -> list[Tensor]:
        """This rank's flat fp32 partitions, one for each of the optimizer's groups; none without ZeRO."""
        if self._zero_stage == 3:
            return list(self._optimizer.fp32_partitioned_groups_flat)
        return list(self._optimizer.single_partition_of_fp32_groups) if self._zero_stage else []

    def partitions(self) -> list[tuple[list[torch.nn.Parameter], Tensor]]:
        """The parameters of each of ZeRO's groups, and this rank's flat fp32 part of them."""
        groups = self._optimizer.fp16_groups if self._zero_stage == 3 else self._optimizer.bit16_groups
        return list(zip(groups, self.masters(), strict=True))

    @property
    def loss_scaler(self) -> Any:
        return getattr(self._optimizer, "loss_scaler", None)

    def refresh_masters(self) -> None:
        """Let the fp32 partitions, if there are any, follow the module's weights."""
        if self._zero_stage:
            self._optimizer.refresh_fp32_params()

    def refresh_weights(self) -> None:
        """Let the module's weights follow the fp32 partitions of ZeRO-1 and 2; every rank must call it."""
        self._optimizer.update_lp_params()

    def forget_moments(self) -> None:
        """Have ZeRO-1 and 2 look up the optimizer's moments anew after its next step: they have been
        replaced, and would be kept alive.
        """
        if self._zero_stage in (1, 2):
            self._optimizer._hp_optimizer_states_linked = False

    def gather_persistent(self) -> None:
        """Under ZeRO-3 small parameters stay gathered between steps: gather them anew from their shards."""
        if self._zero_stage == 3 and (persistent := self._optimizer.persistent_parameters):
            persistent[0].partition(persistent)
            persistent[0].all_gather(persistent)

    def reset_counters(self) -> None:
        for name in COUNTERS:
            setattr(self._engine, name, 0)

    def forget_module(self) -> None:
        """Take the module off the list through which ZeRO-3 would keep it alive for good."""
        if self._zero_stage == 3:
            from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK

            FWD_MODULE_STACK[:] = [m for m in FWD_MODULE_STACK if m is not self._engine.module]


def is_sharded(parameter: Tensor) -> bool:
    """Whether ZeRO-3 keeps this rank's shard of it only."""
    return hasattr(parameter, "ds_tensor")


def shard_of(parameter: Tensor) -> Tensor:
    return parameter.ds_tensor  # type: ignore[attr-defined]


@contextmanager
def gathered(parameters: Sequence[Tensor], *, modified: bool = False) -> Iterator[None]:
    """Parameters whole for as long as this lasts; every rank must call it.

    Args:
        parameters: sharded ones are gathered, others are whole anyway.
        modified: whether rank 0 changes them, for all ranks.
    """
    if not any(map(is_sharded, parameters)):
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(list(parameters), modifier_rank=0 if modified else None):
        yield


def keep_gradients_in_place(engine: Any) -> None:
    """Leave gradients where the backward pass wrote them, in a world of one: DeepSpeed would flatten a copy
    of all of them to average it over a single rank.
    """
    engine.enable_backward_allreduce = False


def clear_gradients_of(engine: Any, parameters: Sequence[torch.nn.Parameter]) -> None:
    """Have the engine clear these parameters' gradients after its steps: no others have any, and DeepSpeed
    would walk through all modules to find them.
    """

    def zero_grad() -> None:
        for parameter in parameters:
            parameter.grad = None

    engine.zero_grad = zero_grad


def import_deepspeed() -> ModuleType:
    """DeepSpeed, for the first time in a process: without MLflow, which its autotuner would bring in where it
    is installed, and which would be more than a quarter of all that a worker imports.
    """
    unused = "mlflow" not in sys.modules
    if unused:
        sys.modules["mlflow"] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        import deepspeed
    finally:
        if unused:
            del sys.modules["mlflow"]
    return deepspeed


def skip_compiling() -> None:
    """Keep DeepSpeed from compiling a shared-memory all-reduce, half a minute with g++, for gangs on one CPU.
    Gloo reduces in one order whatever the hosts, and needs no compiler.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
