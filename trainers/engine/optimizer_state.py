"""What an optimizer keeps between steps: copied, put back, and reset to that of one that never stepped.

Beside moments of each parameter some count, sum up or estimate in their groups: how often they stepped, the
weights of an average, an estimate of the rate. DeepSpeed's optimizer on the host counts in a plain number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

STARTS_AT_ZERO = ("adamw", "adam", "lion")
"""Optimizers whose fresh state is all zeros: theirs is zeroed in place. That of others begins as a copy of
weights, or as nothing, and is dropped.
"""

NOT_STATE = ("params", "lr")
"""Entries of a group that are set from outside before every step."""

Counts = Sequence[Mapping[str, bool | int | float]]
"""Plain numbers of each group."""


def moments_of(optimizer: torch.optim.Optimizer, keys: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Copies on the host of what is kept of each key; nothing before the first step."""
    kept = (optimizer.state.get(key, {}) for key in keys)
    return [
        {name: on_host(torch.as_tensor(v)) for name, v in state.items() if v is not None} for state in kept
    ]


def counts_of(optimizer: torch.optim.Optimizer) -> Counts:
    return [
        {k: v for k, v in group.items() if k not in NOT_STATE and isinstance(v, bool | int | float)}
        for group in optimizer.param_groups
    ]


def put_back(
    optimizer: torch.optim.Optimizer,
    keys: Sequence[Tensor],
    moments: Sequence[Mapping[str, Tensor]],
    counts: Counts,
    *,
    zeroed: bool,
) -> None:
    """Put a captured state back: in place where a fresh one is all zeros and there is one to write to.

    Args:
        optimizer: the optimizer.
        keys: the tensors that it keeps moments of.
        moments: of each key, from :func:`moments_of`.
        counts: from :func:`counts_of`; none leaves them as they are.
        zeroed: whether a fresh state is all zeros.
    """
    for key, stored in zip(keys, moments, strict=True):
        held = optimizer.state.get(key, {})
        if not zeroed or not held:
            if stored:
                optimizer.state[key] = {name: _placed(tensor, key) for name, tensor in stored.items()}
            else:
                optimizer.state.pop(key, None)
            continue
        for name, value in held.items():
            if not torch.is_tensor(value):
                held[name] = int(stored[name]) if stored else 0
            elif stored:
                value.copy_(stored[name])
            else:
                value.zero_()
    for group, numbers in zip(optimizer.param_groups, counts, strict=bool(counts)):
        group.update(numbers)


def averaged(optimizer: torch.optim.Optimizer, keys: Sequence[Tensor]) -> list[Tensor] | None:
    """The average of weights that ``schedule_free`` stands for, of each key; ``None`` where weights stand for
    themselves.

    It trains at y = (1−β₁)z + β₁x; this is x, computed as the library's ``eval()`` does.
    """
    if not any("z" in optimizer.state.get(key, {}) for key in keys):
        return None
    [beta1] = {group["betas"][0] for group in optimizer.param_groups}
    states = [(key, optimizer.state.get(key, {})) for key in keys]
    return [
        torch.lerp(key.detach(), state["z"].to(key.device), 1 - 1 / beta1) if "z" in state else key.detach()
        for key, state in states
    ]


def on_host(tensor: Tensor) -> Tensor:
    """A copy: kept on a GPU it would hold the weights twice."""
    return tensor.detach().to("cpu", copy=True)


def _placed(stored: Tensor, parameter: Tensor) -> Any:
    return int(stored) if stored.dtype == torch.int64 else stored.to(parameter.device, copy=True)
