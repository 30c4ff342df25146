"""What a target of the mirror is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sweeps.grid.filters import as_text

TARGETS = ("wandb", "mlflow", "tensorboard")
"""Names of the targets, each a module of this package."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run as it is copied."""

    run_id: str
    """Its identity, under which it is known everywhere."""
    name: str
    cell: int
    """Number of its cell, by which copies are grouped."""
    axes: Mapping[str, Any]
    """Axis values, by which copies are tagged."""
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    """Metrics, outcome and attempt."""
    steps: Sequence[Mapping[str, Any]]
    """Recorded steps in order, each with ``step`` and what is a finite number."""
    finished_at: float
    """Unix seconds."""

    @property
    def group(self) -> str:
        return f"cell {self.cell}"

    @property
    def tags(self) -> list[str]:
        return [f"{key}={as_text(value)}" for key, value in self.axes.items()]


class LiveCopy(Protocol):
    """The provisional copy of a run that is at work; the run is copied anew once it is done."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers of a step that is not below the last."""
        ...

    def close(self) -> None: ...


class Target(Protocol):
    """Somewhere to copy to."""

    def clean(self, run_ids: Collection[str]) -> None:
        """Remove what an earlier call left of these runs, whose copies were never closed."""
        ...

    def copy(self, run: FinishedRun) -> None:
        """Copy one run; when this returns, the copy is complete.

        Raises:
            ConnectionError: when the other side does not take it for now.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class LiveTarget(Protocol):
    """A target that can show a run while it is at work."""

    def follow(self, run: FinishedRun) -> LiveCopy:
        """Begin a copy of a run that has neither steps nor a summary yet.

        Raises:
            ConnectionError: when the other side does not take it for now.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where to, as the user says it."""

    folder: Path
    """The target's folder inside the sweep directory."""
    project: str
    entity: str | None = None
    """W&B team or user."""
    online: bool | None = None
    """Upload at once; ``None`` does so when a key is at hand."""
    url: str | None = None
    """MLflow's tracking server or store."""
