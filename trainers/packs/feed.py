"""The feed-forward between its two products, with a gate or without one, and its backward pass.

Shapes: N tokens of all members, F feed-forward, W what its first product gives: F, or gate and up side by
side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from trainers.packs.architecture import Shape


@dataclass(frozen=True, kw_only=True)
class Activation:
    """A function of each number."""

    of: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    """From the gradient by what it gives and from what it was given."""


_aten = torch.ops.aten
_BY_TANH = Activation(
    of=partial(functional.gelu, approximate="tanh"),
    backward=partial(_aten.gelu_backward, approximate="tanh"),
)

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": Activation(of=functional.silu, backward=_aten.silu_backward),
    "gelu": Activation(of=functional.gelu, backward=_aten.gelu_backward),
    "gelu_pytorch_tanh": _BY_TANH,
    "gelu_new": _BY_TANH,
    "gelu_fast": _BY_TANH,
    "relu": Activation(of=torch.relu, backward=lambda grad, x: _aten.threshold_backward(grad, x, 0)),
}
"""Those that packs compute, by the name in a model's configuration."""


@dataclass(frozen=True, kw_only=True)
class Fed:
    """What the backward pass needs."""

    given: Tensor
    """Gate and up side by side, or up alone."""
    active: Tensor | None
    """What the activation gives; ``None`` where it is computed once more."""


def fed(given_NW: Tensor, shape: Shape) -> tuple[Tensor, Fed]:
    """The activation, with a gate that of the first half times the second; what the backward pass needs."""
    activation = ACTIVATIONS[shape.activation]
    if not shape.gated:
        active_NF = activation.of(given_NW)
        return active_NF, Fed(given=given_NW, active=active_NF)
    # Contiguous, so that every element but the pack's very last ones is computed by the vectorised kernel.
    gate_NF, up_NF = given_NW[:, : shape.feed_forward].contiguous(), given_NW[:, shape.feed_forward :]
    active_NF = activation.of(gate_NF)
    return active_NF * up_NF, Fed(given=given_NW, active=active_NF)


def fed_backward(grad_NF: Tensor, own: Fed, shape: Shape) -> Tensor:
    """The gradient of :func:`fed` by what it was given."""
    activation, width = ACTIVATIONS[shape.activation], shape.feed_forward
    if not shape.gated:
        return activation.backward(grad_NF, own.given)
    gate_NF, by_active_NF = own.given[:, :width].contiguous(), grad_NF * own.given[:, width:]
    active_NF = activation.of(gate_NF) if own.active is None else own.active
    by_given_NW = torch.empty_like(own.given)
    torch.mul(grad_NF, active_NF, out=by_given_NW[:, width:])
    by_given_NW[:, :width] = activation.backward(by_active_NF, gate_NF)
    return by_given_NW
