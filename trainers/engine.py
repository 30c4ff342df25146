"""DeepSpeed engines: built once per model and layout, reset in place between runs.

Building an engine costs a second or more, a tiny run a tenth of one. So a worker keeps a few engines
(:class:`EnginePool`, least recently used goes) and, before each run, puts every piece of state back to what
a fresh build has: weights, fp32 master partitions, moments, step counts, loss scale and engine counters.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import deepspeed
import torch
from torch import Tensor

from sweeps.spec import EngineSpec, OptimSpec, RunSpec
from trainers.gang import Gang
from trainers.model import load_weights

_UNUSED_BATCH = 1
"""DeepSpeed insists on a batch size; with unmanaged accumulation the number of micro batches is ours to
vary per step.
"""


class Engine:
    """One DeepSpeed engine and its base weights."""

    def __init__(self, model: torch.nn.Module, optim: OptimSpec, engine: EngineSpec, gang: Gang) -> None:
        self._gang = gang
        self._zero_stage = engine.zero_stage
        self._base = {name: p.detach().clone() for name, p in model.named_parameters()}
        self._grad_norm = float("nan")
        self._grad_clip = optim.grad_clip
        # DeepSpeed clips but reports no norm without ZeRO in fp32; there the clipping is done in a hook of
        # ours.
        self._clips_itself = engine.zero_stage == 0 and engine.precision == "fp32"
        optimizer = _optimizer(model, optim, engine, gang)
        if self._clips_itself:
            optimizer.register_step_pre_hook(self._clip)
        if engine.gradient_checkpointing:
            model.gradient_checkpointing_enable()
            model.train()
        self._ds, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=_config(optim, engine, clip=not self._clips_itself),
        )
        self._optimizer = optimizer
        self._shards = _shards(self._ds) if self._zero_stage == 3 else []
        self._shard_base = [s.detach().clone() for s in self._shards]
        self._scaler_base = _scaler_state(self._ds)

    @property
    def module(self) -> torch.nn.Module:
        """The model itself, for decoding and evaluation."""
        return self._ds.module

    @property
    def loss_scale(self) -> float:
        """Current loss scale; 1 without fp16."""
        return float(getattr(self._ds.optimizer, "loss_scale", 1.0))

    def forward(self, **inputs: Any) -> Any:
        """Forward through DeepSpeed, so that its hooks see the pass."""
        return self._ds(**inputs)

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients of this rank's share of the loss; :meth:`step` adds the ranks' shares up."""
        # DeepSpeed averages gradients over ranks; the objective is a global sum already divided by the
        # global count.
        self._ds.backward(loss * self._gang.world_size)

    def step(self, lr: float) -> float:
        """Take one optimizer step and return the global gradient norm before clipping.

        With fp16 the norm is not finite, and no weight moves, when the scaled gradients overflowed.
        """
        for group in self._ds.optimizer.param_groups:
            group["lr"] = lr
        self._ds.step()
        if not self._clips_itself:
            self._grad_norm = float(self._ds.get_global_grad_norm())
        return self._grad_norm

    @property
    def step_was_skipped(self) -> bool:
        """Whether the last step moved nothing because fp16 gradients overflowed."""
        return not self._ds.was_step_applied()

    def reset(self) -> None:
        """Return to the state of a fresh build, in place."""
        with torch.no_grad():
            if self._zero_stage == 3:
                for shard, base in zip(self._shards, self._shard_base, strict=True):
                    shard.copy_(base)
                for name, p in self.module.named_parameters():
                    if p.ds_persist and p.data.numel() == p.ds_numel:
                        p.data.copy_(self._base[name].view(p.ds_shape))
            else:
                for name, p in self.module.named_parameters():
                    p.copy_(self._base[name])
                if hasattr(self._ds.optimizer, "refresh_fp32_params"):
                    self._ds.optimizer.refresh_fp32_params()
            for state in self._optimizer.state.values():
                for value in state.values():
                    if torch.is_tensor(value):
                        value.zero_()
        self._ds.zero_grad()
        self._ds.global_steps = self._ds.global_samples = self._ds.micro_steps = self._ds.skipped_steps = 0
        _restore_scaler(self._ds, self._scaler_base)
        self._grad_norm = float("nan")

    def close(self) -> None:
        """Free the engine's hooks and buffers."""
        self._ds.destroy()

    def _clip(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        parameters = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        limit = self._grad_clip or float("inf")
        self._grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))


class EnginePool:
    """A worker's hot engines."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._engines: OrderedDict[tuple, Engine] = OrderedDict()

    def acquire(self, spec: RunSpec) -> Engine:
        """Return an engine in base state for the run, building it if none is hot."""
        key = _engine_key(spec)
        engine = self._engines.pop(key, None)
        if engine is None:
            while len(self._engines) >= spec.engine.max_hot_engines:
                self._engines.popitem(last=False)[1].close()
            model = load_weights(spec.model, precision=spec.engine.precision, attention=spec.engine.attention)
            engine = Engine(model.to(self._gang.device), spec.optim, spec.engine, self._gang)
        else:
            engine.reset()
        self._engines[key] = engine
        return engine

    def discard(self, spec: RunSpec) -> None:
        """Forget the run's engine: after an exception its buckets and hooks may hold half a step."""
        engine = self._engines.pop(_engine_key(spec), None)
        if engine is not None:
            engine.close()

    def close(self) -> None:
        """Free every engine."""
        while self._engines:
            self._engines.popitem()[1].close()


def _engine_key(spec: RunSpec) -> tuple:
    model = spec.model
    identity = (model.path, model.hub_id, model.revision, model.digest, model.adapter)
    optim = spec.optim
    fixed = (optim.name, optim.beta1, optim.beta2, optim.eps, optim.weight_decay, optim.grad_clip)
    e = spec.engine
    layout = (
        e.precision,
        e.zero_stage,
        e.offload,
        e.gradient_checkpointing,
        e.attention,
        spec.resources.world_size,
    )
    return identity + fixed + layout


def _optimizer(
    model: torch.nn.Module, optim: OptimSpec, engine: EngineSpec, gang: Gang
) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {
        "lr": optim.lr,
        "betas": (optim.beta1, optim.beta2),
        "eps": optim.eps,
        "weight_decay": optim.weight_decay,
    }
    parameters = [p for p in model.parameters() if p.requires_grad]
    if engine.offload and gang.device.type == "cuda":
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(parameters, adamw_mode=True, **settings)
    return torch.optim.AdamW(parameters, fused=True, **settings)


def _config(optim: OptimSpec, engine: EngineSpec, *, clip: bool) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": engine.zero_stage}
    if engine.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": _UNUSED_BATCH,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": optim.grad_clip if clip else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }
    if engine.precision != "fp32":
        config[engine.precision] = {"enabled": True}
    return config


def _shards(ds: Any) -> list[Tensor]:
    """ZeRO-3: every tensor that holds weights on this rank, 16-bit shards and fp32 masters."""
    shards = [p.ds_tensor for p in ds.module.parameters()]
    return [*shards, *(p.data for p in ds.optimizer.fp32_partitioned_groups_flat)]


def _scaler_state(ds: Any) -> dict[str, Any]:
    scaler = getattr(ds.optimizer, "loss_scaler", None)
    return dict(vars(scaler)) if scaler is not None else {}


def _restore_scaler(ds: Any, state: dict[str, Any]) -> None:
    scaler = getattr(ds.optimizer, "loss_scaler", None)
    if scaler is not None:
        vars(scaler).update(state)
