"""AdamW over a stack: every member by its own rate, decay, clip and count of steps, in one pass of its own.

A member's step is the fused kernel on that member's rows alone, so it has the bits that it has without mates,
and a member that has ended or diverged is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sweeps.spec import OptimSpec
from trainers.packs.stack import Stack


@dataclass(frozen=True, kw_only=True)
class Due:
    """What a slot's next step is to do."""

    optim: OptimSpec
    lr: float
    held: int
    """The row of the gradients that it steps by, which may be others' too."""


class PackedAdamW(torch.optim.Optimizer):
    """The optimizer of a pack's engine; :attr:`due` says what its next step is to do."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack.parameters(), {"lr": 0.0})
        self._stack, trained = stack, stack.trained
        self._moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in trained.items()}
        self._steps = dict(
            zip(trained, torch.zeros(len(trained), stack.width, device=stack.device), strict=True)
        )
        self._of_slot: list[list[list[Tensor]]] = [[] for _ in range(stack.width)]
        self._names: list[list[str]] = [[] for _ in range(stack.width)]
        for slot in range(stack.width):
            self._settle(slot)
        self.due: Mapping[int, Due] = {}
        """Slots that step."""
        self.norms: dict[int, float] = {}
        """Each one's gradient norm before clipping, after the step."""

    def _settle(self, slot: int) -> None:
        """Find the tensors that the slot's run trains."""
        names = self._stack.trained_by(slot)
        if names == self._names[slot]:
            return
        trained = self._stack.trained
        self._names[slot], self._of_slot[slot] = (
            names,
            [
                [trained[name][slot] for name in names],
                [self._moments[name][0][slot] for name in names],
                [self._moments[name][1][slot] for name in names],
                [self._steps[name][slot] for name in names],
            ],
        )

    def reset(self, slot: int) -> None:
        """Forget a slot's moments and steps; it goes on with what its run trains now."""
        self._settle(slot)
        *_, first, second, steps = self._of_slot[slot]
        torch._foreach_zero_([*first, *second, *steps])

    def copy(self, slot: int, to: int) -> None:
        """Put a slot's moments and steps in another."""
        self._settle(to)
        for tensors, others in zip(self._of_slot[to][1:], self._of_slot[slot][1:], strict=True):
            torch._foreach_copy_(tensors, others)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step the due slots; one whose gradient is not finite stays as it is."""
        self.norms = {}
        last = {due.held: slot for slot, due in self.due.items()}
        for slot, due in self.due.items():
            optim, held = due.optim, self._stack.held(due.held)
            weights, first, second, steps = self._of_slot[slot]
            gradients = [held[name] for name in self._names[slot]]
            norm = float(torch.nn.utils.get_total_norm(gradients))
            self.norms[slot] = norm
            if not math.isfinite(norm):
                continue
            if optim.grad_clip and norm > optim.grad_clip:
                clip = optim.grad_clip / (norm + 1e-6)
                if last[due.held] == slot:
                    torch._foreach_mul_(gradients, clip)
                else:  # others step by them yet
                    gradients = list(torch._foreach_mul(gradients, clip))
            torch._foreach_add_(steps, 1.0)
            torch._fused_adamw_(
                weights,
                gradients,
                first,
                second,
                [],
                steps,
                lr=due.lr,
                beta1=optim.beta1,
                beta2=optim.beta2,
                weight_decay=optim.weight_decay,
                eps=optim.eps,
                amsgrad=False,
                maximize=False,
            )
