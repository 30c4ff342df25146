"""What each optimizer reads of the configuration, and where its state may be sharded. Pure.

ZeRO hands an optimizer flat pieces of the weights. One that treats every number by itself does not notice;
one that looks at whole matrices, or adds up over all weights, does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALL_STAGES = (0, 1, 2, 3)

_ADAM = ("beta1", "beta2", "eps")

_WHOLE = "ZeRO hands it flat pieces of the weights, and it needs whole matrices"


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """One choice of ``optim.name``."""

    words: str
    """What it is, and which implementation takes the steps."""
    reads: tuple[str, ...]
    """Its fields beside :data:`COMMON`."""
    zero_stages: tuple[int, ...] = ALL_STAGES
    """ZeRO stages that may shard its state."""
    one_rank: bool = False
    """Whether a sharded state needs a world of one rank."""
    why: str = ""
    """Why other stages or more ranks may not."""
    offloads: bool = False
    """Whether DeepSpeed has it for a state in host memory."""
    package: str = ""
    """What it needs that torch does not bring."""


COMMON = ("name", "lr", "weight_decay", "grad_clip")
"""Fields that every optimizer reads."""

OPTIMIZERS: Mapping[str, Optimizer] = {
    "adamw": Optimizer(
        words="Adam with decoupled weight decay (torch)",
        reads=(*_ADAM, "half_every_steps"),
        offloads=True,
    ),
    "adam": Optimizer(
        words="Adam, weight decay added to the gradient (torch)",
        reads=(*_ADAM, "half_every_steps"),
        offloads=True,
    ),
    "sgd": Optimizer(
        words="gradient descent with momentum, weight decay added to the gradient (torch)",
        reads=("momentum", "half_every_steps"),
    ),
    "lion": Optimizer(
        words="the sign of an average of gradients, decoupled weight decay (arXiv 2302.06675)",
        reads=("beta1", "beta2", "half_every_steps"),
    ),
    "adafactor": Optimizer(
        words="second moments by rows and columns, steps relative to the weights (arXiv 1804.04235; torch)",
        reads=("half_every_steps",),
        zero_stages=(0,),
        why=_WHOLE,
    ),
    "muon": Optimizer(
        words="orthogonal steps for the matrices inside layers, AdamW for the rest, one rate (torch)",
        reads=(*_ADAM, "momentum", "half_every_steps"),
        zero_stages=(0,),
        why=_WHOLE,
    ),
    "schedule_free": Optimizer(
        words="AdamW whose weights are an average, judged and kept in place of those trained (schedulefree)",
        reads=_ADAM,
        zero_stages=(0, 1, 2),
        why="ZeRO-3 steps large models piece by piece, and it would count every piece as a step",
        package="schedulefree",
    ),
    "prodigy": Optimizer(
        words="AdamW times an estimate of the rate that only grows (prodigyopt)",
        reads=(*_ADAM, "d0", "d_coef"),
        zero_stages=(0, 1, 2),
        one_rank=True,
        why="its estimate adds up over all weights, and ZeRO-3 or several ranks would have one of each piece",
        package="prodigyopt",
    ),
}
"""Choices of ``optim.name``."""


def readers(field: str) -> tuple[str, ...]:
    """The optimizers that read a field."""
    return tuple(name for name, optimizer in OPTIMIZERS.items() if field in (*COMMON, *optimizer.reads))


def unshardable(name: str, zero_stage: int, world_size: int) -> str:
    """Why an optimizer's state cannot be sharded so; empty where it can."""
    optimizer = OPTIMIZERS[name]
    fits = zero_stage in optimizer.zero_stages
    if zero_stage and fits and optimizer.one_rank:
        fits = world_size == 1
    return "" if fits else optimizer.why
