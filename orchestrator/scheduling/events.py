"""What the scheduler is told (events) and what it asks for (actions), as plain values.

Nothing here does anything. The driver turns what pools and people do into events, and carries actions out.
Runs are named by their index in the manifest, worker processes or gangs by a name unique in the sweep
directory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.store.outcomes import AttemptReport, Failure, Grant, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a worker occupies while it lives."""

    world_size: int = 1
    """Processes in the gang; 1 is a lone worker."""
    gpus: float = 0.0
    """GPUs per process, a fraction where several share one."""
    cpus: float = 1.0
    """CPU cores per process."""
    memory_gib: float = 0.0
    """Host memory per process; 0 asks for none in particular."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """What one node holds in all, however much of it is taken."""

    cpus: float = math.inf
    gpus: float = 0.0
    memory_gib: float = math.inf

    def room(self, shape: Shape) -> float:
        """Processes of a shape that fit when nothing else is there. One that takes part of a GPU shares it,
        so that what is left of a GPU by three of 0.3 serves no fourth.
        """
        limits = [math.inf]
        if shape.cpus:
            limits.append(_times(self.cpus, shape.cpus))
        if shape.memory_gib:
            limits.append(_times(self.memory_gib, shape.memory_gib))
        if 0 < shape.gpus <= 1:
            limits.append(_times(self.gpus, 1) * _times(1, shape.gpus))
        elif shape.gpus:
            limits.append(_times(self.gpus, shape.gpus))
        return min(limits)


def _times(whole: float, part: float) -> float:
    """How often a part goes into a whole; parts that add up to it may miss it by rounding."""
    return math.inf if math.isinf(whole) else math.floor(whole / part + 1e-9)


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What the pool could hand out in all, workers already running included."""

    slots: int
    """Worker processes that may live at once; a gang takes one per rank."""
    gpus: float = 0.0
    nodes: tuple[Node, ...] = ()
    """The nodes that are there, where the pool knows them; empty where only the sums above count."""
    grows: bool = False
    """Whether nodes come for what is asked for, and go when nothing is left for them."""

    def room(self, shape: Shape) -> float:
        """Processes of a shape that the nodes hold when nothing else is there; each on one node."""
        return sum(node.room(shape) for node in self.nodes) if self.nodes or self.grows else math.inf

    def holds(self, workers: Mapping[Shape, int]) -> bool:
        """Whether the nodes are enough for so many workers of each shape, each shape on a part of them."""
        parts = (num * shape.world_size / max(self.room(shape), 1e-9) for shape, num in workers.items())
        return sum(parts) <= 1 + 1e-9


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerReady:
    """A worker process, or every rank of a gang, is up."""

    worker: str
    host: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLeaving:
    """The machine of a worker, or of a rank of a gang, will be taken away soon."""

    worker: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLost:
    """A worker has ended: asked to, killed, crashed, or its node went away."""

    worker: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """A worker finished attempts; their results are already durable in its spool."""

    worker: str
    reports: tuple[AttemptReport, ...]
    """One per attempt, in the order they ended."""
    peak_mib: float = 0.0
    """The most memory that one of its processes has held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """A worker is alive."""

    worker: str
    token: int
    """Lease it is working on, 0 when idle."""
    progress: int
    """Grows whenever the trainer reports progress; standing still beyond the watchdog's limit is a hang."""
    memory_gib: float = 0.0
    words: str = ""
    """What the trainer said last of the run that it is working on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CapacityChanged:
    """Nodes joined or left, or somebody changed the cap."""

    capacity: Capacity


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRequested:
    """Somebody no longer wants these runs."""

    runs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunsSkipped:
    """A race does without these runs. The result of one that ends all the same is kept."""

    runs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainRequested:
    """Hand out nothing more; what runs may finish within the grace."""

    reason: str
    grace_s: float
    """Seconds until running work is stopped and re-queued, uncharged."""


Event = (
    WorkerReady
    | WorkerLeaving
    | WorkerLost
    | Reported
    | Beat
    | CapacityChanged
    | CancelRequested
    | RunsSkipped
    | DrainRequested
)

# --- actions --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class StartWorker:
    """Start a worker process, or a gang whole."""

    worker: str
    shape: Shape
    runs_like: int
    """A run it will be given, so that the trainer can be warmed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StopWorker:
    """End an idle worker."""

    worker: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KillWorker:
    """End a worker at once, whatever it does."""

    worker: str
    reason: str
    record_stack: bool
    """Write down first where each of its threads stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispatch:
    """Give a worker a batch of runs."""

    worker: str
    grants: tuple[Grant, ...]
    """The runs, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelAttempts:
    """Ask a worker to drop attempts, started or not."""

    worker: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Accept:
    """Commit these results: each is the first complete one of its run."""

    worker: str
    reports: tuple[AttemptReport, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoteEnds:
    """Record that attempts ended without changing what is known of their runs: cancelled, or superseded."""

    worker: str
    reports: tuple[AttemptReport, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoteFailure:
    """Record that an attempt failed."""

    run: int
    attempt: int
    """Zero-based number of the try."""
    token: int
    worker: str
    failure: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class Settle:
    """Record the end of a run that has no result."""

    run: int
    outcome: Outcome
    """``failed``, ``quarantined`` or ``cancelled``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Announce:
    """Tell people something they should know."""

    text: str


Action = (
    StartWorker
    | StopWorker
    | KillWorker
    | Dispatch
    | CancelAttempts
    | Accept
    | NoteEnds
    | NoteFailure
    | Settle
    | Announce
)
