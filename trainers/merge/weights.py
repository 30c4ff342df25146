"""Merges of weights, as pure functions over state dicts with the same names and shapes.

Everything is a lerp or a mean, computed so that ends are exact: a weight of 0 gives the first model's bits, a
weight of 1 the second's, and a soup of one model is that model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]

_LAYER = re.compile(r"\.(?:layers|h|blocks?)\.(\d+)\.")


def soup(members: Iterable[Weights]) -> dict[str, Tensor]:
    """Mean of the members' weights in float64 (arXiv 2203.05482), with one member at a time in memory.

    Raises:
        ValueError: for no member, or names or shapes that differ.
    """
    total: dict[str, Tensor] = {}
    types: dict[str, torch.dtype] = {}
    num = 0
    for member in members:
        if not num:
            types = {name: tensor.dtype for name, tensor in member.items()}
            total = {name: tensor.double() for name, tensor in member.items()}
        else:
            _require_same(total, member)
            for name, tensor in member.items():
                total[name] = total[name] + tensor
        num += 1
    if not num:
        raise ValueError("a soup needs at least one member")
    return {name: (tensor / num).to(types[name]) for name, tensor in total.items()}


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """A greedy soup."""

    members: tuple[int, ...]
    """Those taken, in the order in which they were tried."""
    accuracy: float
    """Held-out accuracy of the soup: at least that of its best member."""
    best_member: float
    """Held-out accuracy of the best single member."""


def greedy_soup(accuracies: Sequence[float], judge: Callable[[tuple[int, ...]], float]) -> Greedy:
    """Add members from the best on, each only if held-out accuracy strictly rises (arXiv 2203.05482).

    Args:
        accuracies: held-out accuracy of each member by itself.
        judge: held-out accuracy of the soup of some members.
    """
    order = sorted(range(len(accuracies)), key=lambda i: (-accuracies[i], i))
    taken: tuple[int, ...] = (order[0],)
    best = accuracies[order[0]]
    for member in order[1:]:
        accuracy = judge((*taken, member))
        if accuracy > best:
            taken, best = (*taken, member), accuracy
    return Greedy(members=taken, accuracy=best, best_member=accuracies[order[0]])


def wise(base: Weights, tuned: Weights, alpha: float) -> dict[str, Tensor]:
    """(1 − α)·base + α·tuned (WiSE-FT, arXiv 2109.01903)."""
    _require_same(base, tuned)
    return {name: _lerp(base[name], tuned[name], alpha) for name in base}


def lines(base: Weights, tuned: Weights, alpha: float, beta: float | None = None) -> dict[str, Tensor]:
    """Scale the update of layer ℓ of L by α + β·ℓ/(L − 1), and what belongs to no layer by α.

    LiNeS, arXiv 2410.17146, for one task: β is 1 − α unless given, so that the last layer keeps its update.
    """
    _require_same(base, tuned)
    beta = 1 - alpha if beta is None else beta
    layer_of = {name: int(match[1]) for name in base if (match := _LAYER.search(name))}
    last = max(layer_of.values(), default=0)

    def scale(name: str) -> float:
        if name not in layer_of:
            return alpha
        return alpha + beta * (layer_of[name] / last if last else 1.0)

    return {name: _lerp(base[name], tuned[name], scale(name)) for name in base}


def _lerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """``a`` at 0 and ``b`` at 1, bit for bit; in float32 at least."""
    if weight == 0:
        return a.clone()
    if weight == 1:
        return b.clone()
    wide = torch.promote_types(a.dtype, torch.float32)
    return torch.lerp(a.to(wide), b.to(wide), weight).to(a.dtype)


def _require_same(a: Weights, b: Weights) -> None:
    if a.keys() != b.keys():
        raise ValueError(
            f"{min(a.keys() ^ b.keys())}: is in one model only; merge models of one architecture"
        )
    for name in a:
        if a[name].shape != b[name].shape:
            shapes = f"{tuple(a[name].shape)} and {tuple(b[name].shape)}"
            raise ValueError(f"{name}: has shapes {shapes}; merge models of one architecture")
