"""The optimizers, as DeepSpeed is given them: those of torch and of two libraries, Lion, and Muon with AdamW.

What each reads, and where its state may be sharded, is said in :mod:`sweeps.spec.optimizers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch

from sweeps.spec import OptimSpec, SpecError
from sweeps.spec.optimizers import OPTIMIZERS

Groups = Sequence[dict[str, Any]]
"""Groups of parameters, as torch's optimizers take them."""

_IN_LAYER = re.compile(r"\.\d+\.")
"""In the names of parameters of numbered layers; embeddings and heads have no number."""


class Lion(torch.optim.Optimizer):
    """Lion (arXiv 2302.06675): u = sign(β₁m + (1−β₁)g); θ ← θ(1−lr·λ) − lr·u; m ← β₂m + (1−β₂)g."""

    def __init__(
        self, params: Groups, *, lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            for p in moved:
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
            lr, (beta1, beta2) = group["lr"], group["betas"]
            averages = [self.state[p]["exp_avg"] for p in moved]
            gradients = [p.grad for p in moved]
            updates = torch._foreach_lerp(averages, gradients, 1 - beta1)
            torch._foreach_sign_(updates)
            torch._foreach_mul_(moved, 1 - lr * group["weight_decay"])
            torch._foreach_add_(moved, updates, alpha=-lr)
            torch._foreach_lerp_(averages, gradients, 1 - beta2)
        return loss


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside layers, AdamW for all else: two optimizers with one state."""

    def __init__(self, named: Sequence[tuple[str, torch.nn.Parameter]], optim: OptimSpec) -> None:
        matrices = [p for name, p in named if _is_inner_matrix(name, p)]
        others = [p for name, p in named if not _is_inner_matrix(name, p)]
        parts: list[torch.optim.Optimizer] = []
        if matrices:
            parts.append(
                torch.optim.Muon(
                    matrices,
                    lr=optim.lr,
                    weight_decay=optim.weight_decay,
                    momentum=optim.momentum,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if others:
            parts.append(torch.optim.AdamW(others, fused=True, **_like_adam(optim)))
        super().__init__([group for part in parts for group in part.param_groups], {"lr": optim.lr})
        self._parts = parts
        for part in parts:  # their groups are this one's, too: whoever sets a rate sets it for both
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


def _is_inner_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    return parameter.ndim == 2 and _IN_LAYER.search(name) is not None


def _like_adam(optim: OptimSpec) -> dict[str, Any]:
    return {
        "lr": optim.lr,
        "betas": (optim.beta1, optim.beta2),
        "eps": optim.eps,
        "weight_decay": optim.weight_decay,
    }


def _adam_on_host(groups: Groups, optim: OptimSpec) -> torch.optim.Optimizer:
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    return cast(
        torch.optim.Optimizer,
        DeepSpeedCPUAdam(groups, adamw_mode=optim.name == "adamw", **_like_adam(optim)),
    )


def _schedule_free(groups: Groups, optim: OptimSpec) -> torch.optim.Optimizer:
    from schedulefree import AdamWScheduleFree

    optimizer = AdamWScheduleFree(groups, **_like_adam(optim))
    optimizer.train()  # for good: :meth:`trainers.engine.engine.Engine.result_weights` lends the average
    return cast(torch.optim.Optimizer, optimizer)


def _prodigy(groups: Groups, optim: OptimSpec) -> torch.optim.Optimizer:
    from prodigyopt import Prodigy

    # It prints a line about decay where it is given some, so that is given afterwards.
    settings = _like_adam(optim) | {"weight_decay": 0.0, "d0": optim.d0, "d_coef": optim.d_coef}
    optimizer = cast(torch.optim.Optimizer, Prodigy(groups, **settings))
    for group in optimizer.param_groups:
        group["weight_decay"] = optim.weight_decay
    return optimizer


_BUILDERS: Mapping[str, Callable[[Groups, OptimSpec], torch.optim.Optimizer]] = {
    "adamw": lambda groups, optim: torch.optim.AdamW(groups, fused=True, **_like_adam(optim)),
    "adam": lambda groups, optim: torch.optim.Adam(groups, fused=True, **_like_adam(optim)),
    "sgd": lambda groups, optim: torch.optim.SGD(
        groups, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay
    ),
    "lion": lambda groups, optim: Lion(
        groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), weight_decay=optim.weight_decay
    ),
    "adafactor": lambda groups, optim: torch.optim.Adafactor(
        groups, lr=optim.lr, weight_decay=optim.weight_decay
    ),
    "schedule_free": _schedule_free,
    "prodigy": _prodigy,
}


def new_optimizer(
    named: Sequence[tuple[str, torch.nn.Parameter]], optim: OptimSpec, *, apart: bool, on_host: bool
) -> torch.optim.Optimizer:
    """An optimizer over parameters, given with their names.

    Args:
        apart: whether every parameter is to be a group of its own.
        on_host: whether the state is to lie in host memory while the model does not.

    Raises:
        SpecError: if a package is not installed.
    """
    if optim.name == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise SpecError("optim.name=muon: needs torch 2.9 or later; pip install 'torch>=2.9'")
        return MuonWithAdamW(named, optim)
    groups = groups_of([p for _, p in named], apart=apart)
    if on_host:
        return _adam_on_host(groups, optim)
    try:
        return _BUILDERS[optim.name](groups, optim)
    except ModuleNotFoundError as error:
        package = OPTIMIZERS[optim.name].package
        if not package or error.name != package:
            raise
        raise SpecError(
            f"optim.name={optim.name}: the package {package} is not installed; run "
            "pip install 'emsweep[optimizers]'"
        ) from None


def groups_of(parameters: Sequence[torch.nn.Parameter], *, apart: bool) -> list[dict[str, Any]]:
    """Groups for the optimizer: one of all parameters, or one of each."""
    return [{"params": [p]} for p in parameters] if apart else [{"params": list(parameters)}]
