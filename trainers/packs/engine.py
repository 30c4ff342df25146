"""One DeepSpeed engine over a stack: its cost a step is shared by the members.

Nothing is reduced or clipped by DeepSpeed: members are dealt out to ranks whole, and its norm would be that
of all of them.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from sweeps.spec import EngineSpec, OptimSpec, RunSpec
from trainers.deepspeed_internals import Internals, keep_gradients_in_place
from trainers.engine.setup import deepspeed_config
from trainers.packs.optimizer import Due, PackedAdamW
from trainers.packs.stack import Stack
from trainers.packs.tokens import Tokens


class PackEngine:
    """A stack with its optimizer, kept hot."""

    def __init__(self, stack: Stack, model: nn.Module, engine: EngineSpec) -> None:
        import deepspeed

        self.stack = stack
        self.model = model.to("meta").requires_grad_(False)
        """The model without weights: what is saved beside a member's."""
        self._optimizer = PackedAdamW(stack)
        self._ds, *_ = deepspeed.initialize(
            model=stack,
            optimizer=self._optimizer,
            config=deepspeed_config(
                OptimSpec(),
                dataclasses.replace(engine, zero_stage=0),  # what is trained is each rank's own
                clip=False,
                on_gpu=stack.device.type == "cuda",
            ),
        )
        self._internals = Internals(self._ds, 0)
        keep_gradients_in_place(self._ds)

    def reset(self, slot: int) -> None:
        """Put a slot into the state of a fresh build."""
        self.stack.reset(slot)
        self._optimizer.reset(slot)

    def start(self, slot: int, spec: RunSpec) -> None:
        """Put a slot into the state that a run starts from."""
        self.stack.start(slot, spec)
        self._optimizer.reset(slot)

    def copy(self, slot: int, to: int) -> None:
        """Put a slot's weights and moments in another, where two runs part."""
        self.stack.copy(slot, to)
        self._optimizer.copy(slot, to)

    def begin(self) -> None:
        """Begin a pack: the engine's counters start anew."""
        self._ds.zero_grad()
        self._internals.reset_counters()

    def accumulate(self, tokens: Tokens, loss: Callable[[Tensor], Tensor], *, add: bool = False) -> None:
        """Compute the gradients of the members that the tokens are of.

        Args:
            loss: From logits of shape (K, V) to the sum of the members' losses.
            add: Whether the tokens are a further micro batch of the step.
        """
        self.stack.adds = add
        self._ds.backward(loss(self._ds(tokens)))

    def step(self, due: Mapping[int, Due]) -> dict[int, float]:
        """Step these slots; return their gradient norms before clipping."""
        self._optimizer.due = due
        self._ds.step()
        return self._optimizer.norms

    def close(self) -> None:
        """Free the engine's hooks, weights and buffers."""
        self._internals.forget_module()
        self._ds.destroy()
        del self._ds, self._internals, self._optimizer, self.stack, self.model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
