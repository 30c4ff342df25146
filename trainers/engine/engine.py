"""A DeepSpeed engine that can be reset in place.

Building an engine costs a second or more, a tiny run a tenth of one. So :meth:`Engine.reset` puts every piece
of state back to what a fresh build has: weights, fp32 master partitions, moments, step counts, loss scale and
engine counters. :mod:`trainers.engine.pool` keeps engines, :mod:`trainers.engine.setup` says what DeepSpeed
is given.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from sweeps.spec import EngineSpec, OptimSpec
from trainers.deepspeed_internals import (
    Internals,
    clear_gradients_of,
    gathered,
    keep_gradients_in_place,
    shard_of,
)
from trainers.engine.clipping import clip
from trainers.engine.freezing import Freezing
from trainers.engine.gang import Gang
from trainers.engine.optimizer_state import (
    STARTS_AT_ZERO,
    averaged,
    counts_of,
    moments_of,
    on_host,
    put_back,
)
from trainers.engine.setup import checkpoint_activations, deepspeed_config, optimizer_of, parts_groups
from trainers.engine.state import EngineState, Start
from trainers.model.adapter import adapter_shapes, fresh_adapter
from trainers.model.direct_forward import forward_of
from trainers.model.stored_weights import StoredWeights


class Engine:
    """One DeepSpeed engine, with a copy of the state it was built in."""

    def __init__(
        self,
        model: torch.nn.Module,
        optim: OptimSpec,
        engine: EngineSpec,
        gang: Gang,
        stored: StoredWeights | None = None,
    ) -> None:
        """Build an engine.

        Args:
            stored: Where the model's weights lie; large ones are read again instead of being kept a second
                time.
        """
        import deepspeed

        self._gang = gang
        self._zero_stage = engine.zero_stage
        self._grad_norm = float("nan")
        self._grad_clip = optim.grad_clip
        self._start: Start | None = None
        self._starts_at_zero = optim.name in STARTS_AT_ZERO
        self._adapter = adapter_shapes(model)
        # DeepSpeed clips but reports no norm without ZeRO in fp32; there a hook of ours does the clipping.
        self._clips_itself = engine.zero_stage == 0
        self._optimizer = optimizer_of(model, optim, engine, gang)
        self._freezing = Freezing(model, self._optimizer)
        if self._clips_itself:
            self._optimizer.register_step_pre_hook(self._clip)
        self._checkpoints_activations = engine.gradient_checkpointing
        if engine.gradient_checkpointing:
            checkpoint_activations(model)
        self._ds, *_ = deepspeed.initialize(
            model=model,
            optimizer=self._optimizer,
            config=deepspeed_config(
                optim, engine, clip=not self._clips_itself, on_gpu=gang.device.type == "cuda"
            ),
        )
        if engine.zero_stage == 0:
            clear_gradients_of(self._ds, self._trained())
            if gang.world_size == 1:
                keep_gradients_in_place(self._ds)
        # DeepSpeed's hooks must see the pass where it shards anything.
        self._forward = self._ds if engine.zero_stage else forward_of(self.module)
        self._internals = Internals(self._ds, engine.zero_stage)
        if parts_groups(optim, engine):
            self._freezing.follow(self.module, self._internals.partitions())
        self._built = self.capture()
        named = dict(self.module.named_parameters())
        is_whole = engine.zero_stage == 0 and not self._adapter
        self._stored = stored if stored is not None and is_whole and stored.are(named) else None
        if self._stored is not None:
            self._built = replace(self._built, weights=())

    @property
    def module(self) -> torch.nn.Module:
        return self._ds.module

    def forward(self, **inputs: Any) -> Any:
        """Forward for training, with keyword inputs of transformers."""
        if not self._checkpoints_activations:
            return self._forward(**inputs)
        # Transformers recomputes activations only in training mode, and keeps no KV cache there.
        self.module.train()
        try:
            return self._forward(**inputs)
        finally:
            self.module.eval()

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients of this rank's share of the loss; :meth:`step` adds the ranks' shares up."""
        if self._gang.world_size > 1:
            # DeepSpeed averages gradients over ranks, while the objective is a sum over all of them.
            loss = loss * self._gang.world_size
        if self._zero_stage:
            self._ds.backward(loss)
        else:
            loss.backward()

    def freeze(self, names: frozenset[str]) -> None:
        """Leave these parameters and their moments as they are, from the next backward on until a reset."""
        self._freezing.frozen = names

    def step(self, lr: float) -> float:
        """Take one optimizer step and return the global gradient norm before clipping."""
        for group in self._ds.optimizer.param_groups:
            group["lr"] = lr
        self._ds.step()
        if not self._clips_itself:
            norm = float(self._ds.get_global_grad_norm())
            self._grad_norm = norm if norm >= 0 else float("nan")  # DeepSpeed's -1 stands for NaN and Inf
        return self._grad_norm

    @property
    def gradients_can_be_kept(self) -> bool:
        """Whether gradients lie in the open between backward and step: without ZeRO they do."""
        return self._zero_stage == 0

    def gradients(self) -> list[Tensor]:
        """Copies of the accumulated gradients, in the order of the parameters."""
        return [p.grad.detach().clone() for p in self.module.parameters() if p.grad is not None]

    def set_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Put copies of :meth:`gradients` back, as if they had just been accumulated."""
        trained = [p for p in self.module.parameters() if p.requires_grad]
        for p, gradient in zip(trained, gradients, strict=True):
            p.grad = gradient.clone()

    @property
    def overflowed(self) -> bool:
        """Whether the last step moved nothing because gradients scaled for fp16 overflowed; the scale is
        lower now.
        """
        return not self._ds.was_step_applied()

    def full_weights(self) -> dict[str, Tensor]:
        """The whole model's :meth:`result_weights` on the host, gathered from all ranks' shards; every rank
        must call it.
        """
        named = dict(self.module.named_parameters())
        with self.result_weights(), gathered(list(named.values())):
            return {name: p.detach().cpu().clone().contiguous() for name, p in named.items()}

    @contextmanager
    def result_weights(self) -> Iterator[None]:
        """Lend the module the weights that training stands for: those to judge and to keep.

        They are the module's own but for ``schedule_free``, which trains at a point beside their average.
        What was there comes back to the bit, so that judging changes no step.
        """
        averages = averaged(self._optimizer, self._moment_keys())
        if averages is None:
            yield
            return
        masters = self._internals.masters()
        held = [p.data for p in self._moment_keys()]
        if not masters:
            for p, average in zip(self._moment_keys(), averages, strict=True):
                p.data = average
        else:
            held = [flat.detach().clone() for flat in held]
            self._set_masters(averages)
        try:
            yield
        finally:
            if not masters:
                for p, data in zip(self._moment_keys(), held, strict=True):
                    p.data = data
            else:
                self._set_masters(held)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Put whole weights, named as by :meth:`full_weights`, in the place of the model's, and of the fp32
        masters; every rank must call it. The optimizer's moments stay.

        Raises:
            ValueError: for a name that the model has not.
        """
        if unknown := weights.keys() - dict(self.module.named_parameters()).keys():
            raise ValueError(
                f"{min(unknown)}: the model has no such weights; they belong to another architecture"
            )
        named = {name: p for name, p in self.module.named_parameters() if name in weights}
        with gathered(list(named.values()), modified=True):
            _copy(weights, named)
        self._internals.refresh_masters()
        self._internals.gather_persistent()

    def capture(self) -> EngineState:
        """Copy everything that training changes to host memory."""
        return EngineState(
            weights=[on_host(t) for t in self._weights()],
            moments=moments_of(self._optimizer, self._moment_keys()),
            counts=counts_of(self._optimizer),
            scaler=dict(vars(scaler)) if (scaler := self._internals.loss_scaler) else {},
            start=self._start,
        )

    def restore(self, state: EngineState) -> None:
        """Put a captured state back, in place; what training adds on top, such as gradients, is cleared."""
        weights: Iterable[Tensor] = self._base_weights() if state is self._built else state.weights
        with torch.no_grad():
            for weight, stored in zip(self._weights(), weights, strict=True):
                weight.copy_(stored)
            put_back(
                self._optimizer,
                self._moment_keys(),
                state.moments,
                state.counts,
                zeroed=self._starts_at_zero,
            )
        if not self._starts_at_zero:
            self._internals.forget_moments()
        self._internals.gather_persistent()
        if scaler := self._internals.loss_scaler:
            vars(scaler).update(state.scaler)
        self._start = state.start
        self._freezing.frozen = frozenset()
        self._ds.zero_grad()
        self._internals.reset_counters()
        self._grad_norm = float("nan")

    def mark_start(self, name: str) -> None:
        """Keep a copy of the weights as they are now for the reference, until a reset or a restore.

        Args:
            name: what decides them, on one engine: equal names stand for equal weights.
        """
        self._start = Start(name=name, weights=[on_host(t) for t in self._module_weights()])

    @property
    def start_name(self) -> str:
        """Which weights the reference is; empty for those the engine was built with."""
        return self._start.name if self._start else ""

    @contextmanager
    def reference_weights(self) -> Iterator[None]:
        """Lend the module the weights of :meth:`mark_start`, or else those it was built with: a frozen
        reference without a second engine.

        For forwards without gradients. Where parameters are whole they are exchanged by reference; on a GPU
        the reference's copy is there for that long, and on the host otherwise.
        """
        built = islice(self._base_weights(), len(self._trained()))  # fp32 masters stand behind them
        held = self._exchange(self._start.weights if self._start else built)
        try:
            yield
        finally:
            self._exchange(held)

    def _base_weights(self) -> Iterable[Tensor]:
        """What :meth:`_weights` were when the engine was built."""
        if self._stored is None:
            return self._built.weights
        return self._stored.read(name for name, _ in self.module.named_parameters())

    def _exchange(self, weights: Iterable[Tensor]) -> list[Tensor]:
        """Put weights, or shards of them, in the place of the module's; return what was there."""
        parameters = self._trained()
        if self._zero_stage == 3:
            shards = [shard_of(p) for p in parameters]
            held = [shard.clone() for shard in shards]
            with torch.no_grad():
                for shard, other in zip(shards, weights, strict=True):
                    shard.copy_(other)
            self._internals.gather_persistent()
            return held
        held = [p.data for p in parameters]
        for p, other in zip(parameters, weights, strict=True):
            p.data = other.to(p.device)
        return held

    def reset(self, seed: int) -> None:
        """Return to the state of a fresh build, in place; an adapter's beginning is drawn from the seed."""
        self.restore(self._built)
        if self._adapter:
            self.load(fresh_adapter(self._adapter, seed))

    def close(self) -> None:
        """Free the engine's hooks, weights and buffers, now rather than when cycles are next collected."""
        self._internals.forget_module()
        self._ds.destroy()
        del self._ds, self._internals, self._optimizer, self._built
        gc.collect()
        if self._gang.device.type == "cuda":
            torch.cuda.empty_cache()

    def _weights(self) -> list[Tensor]:
        """Every tensor that holds weights on this rank: the module's, and fp32 masters."""
        return [*self._module_weights(), *(p.data for p in self._internals.masters())]

    def _module_weights(self) -> list[Tensor]:
        """The trained weights of the module, or this rank's shards of them."""
        return [shard_of(p) if self._zero_stage == 3 else p.data for p in self._trained()]

    @torch.no_grad()
    def _set_masters(self, values: Sequence[Tensor]) -> None:
        """Set the fp32 masters of ZeRO-1 and 2, and the module's weights by them."""
        for flat, value in zip(self._moment_keys(), values, strict=True):
            flat.copy_(value)
        self._internals.refresh_weights()

    def _trained(self) -> list[torch.nn.Parameter]:
        """Parameters that training changes: all, or those of an adapter."""
        return [p for p in self._ds.module.parameters() if p.requires_grad]

    def _moment_keys(self) -> list[Tensor]:
        """The tensors that the optimizer keeps moments of."""
        if self._zero_stage == 3:  # DeepSpeed shows them to the optimizer only during its step
            return self._internals.masters()
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def _clip(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        self._grad_norm = clip(gradients, self._grad_clip or float("inf"))


@torch.no_grad()
def _copy(weights: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> None:
    for name, parameter in named.items():
        parameter.copy_(weights[name])
