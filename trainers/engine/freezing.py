"""Parameters that keep still through optimizer steps, their moments and weight decay included.

Without ZeRO the optimizer passes over a parameter that has no gradient. ZeRO hands it flat partitions, one
for each group of parameters; so there every parameter is a group of its own
(:func:`trainers.engine.optimizers.groups_of`), whose partition lacks its gradient at the step. Its gradient
is zero from the backward pass on, so that it does not count in the norm by which DeepSpeed clips.

The price is a reduction and a gather for each parameter instead of a few for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Freezing:
    """Keeps the parameters named in :attr:`frozen` as they are.

    Made after the optimizer and before DeepSpeed, so that its hook comes before those that measure gradients;
    :meth:`follow` then tells what the optimizer knows each parameter by.
    """

    def __init__(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.frozen: frozenset[str] = frozenset()
        self._names = {id(p): name for name, p in module.named_parameters()}
        self._held: list[tuple[Tensor, Tensor]] = []
        optimizer.register_step_pre_hook(self._hold)
        optimizer.register_step_post_hook(self._give_back)

    def follow(self, module: torch.nn.Module, partitions: Sequence[tuple[Sequence[Tensor], Tensor]]) -> None:
        """Learn which flat partition holds which parameter, and have gradients of frozen ones vanish.

        Args:
            partitions: parameters of each group, and the group's partition on this rank.
        """
        self._names |= {id(flat): self._names[id(p)] for [p], flat in partitions}
        for name, p in module.named_parameters():
            p.register_hook(lambda grad, name=name: torch.zeros_like(grad) if name in self.frozen else None)

    def _hold(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups if self.frozen else ():
            for p in group["params"]:
                if p.grad is not None and self._names[id(p)] in self.frozen:
                    self._held.append((p, p.grad))
                    p.grad = None

    def _give_back(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """With an optimizer on the host, DeepSpeed keeps gradients in buffers of its own."""
        for p, gradient in self._held:
            p.grad = gradient
        self._held.clear()
