"""What training changes in an engine, copied: to go on from, and to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainers.engine.optimizer_state import Counts


@dataclass(frozen=True, kw_only=True)
class Start:
    """The weights that training began at, where the reference is they."""

    name: str
    """What decides them."""
    weights: Sequence[Tensor]
    """The module's trained weights or this rank's shards of them, on the host."""


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """A copy of all that training changes in one rank's engine."""

    weights: Sequence[Tensor]
    """Model weights or shards, then fp32 masters."""
    moments: Sequence[Mapping[str, Tensor]]
    """Optimizer state of each of its parameters; empty before the first step."""
    counts: Counts = ()
    """Plain numbers of each of the optimizer's groups."""
    scaler: Mapping[str, Any]
    """Loss scaler of fp16; empty without."""
    start: Start | None = None
    """What the reference is, where that is not the base model."""
