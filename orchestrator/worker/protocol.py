"""What travels between the driver and its workers, as plain values that pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from orchestrator.store.outcomes import AttemptReport, Grant
from sweeps.spec import RunSpec, TrainerSpec
from trainers.protocol import WorkerContext


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a worker process is told at birth."""

    name: str
    """Its name, unique in the sweep directory."""
    spool: Path | None
    """File for its results; ``None`` for ranks above 0."""
    reports: Path | None = None
    """File for what its trainers report; ``None`` keeps it for the results alone."""
    node_folder: str = ""
    """Folder on the worker's own node that a relative ``spool`` or ``reports`` lies below; their bytes go
    along with the batches, for a driver that does not see them.
    """
    checkpoints: Path
    """Folder that holds a folder of weights per run that keeps any."""
    log: Path
    """File for its standard output and error and its stacks."""
    context: WorkerContext = field(default_factory=WorkerContext)
    warm: TrainerSpec | None = None
    """The trainer to build before the first run."""
    sharing: bool = False
    """Hand batches to the trainer whole, if it can share work between runs."""
    import_path: tuple[str, ...] = ()
    """Folders to add to the import path, so that an own trainer is found."""


class Task(NamedTuple):
    """One run as it travels to a worker."""

    grant: Grant
    run_id: str
    spec: RunSpec


class ReportBatch(NamedTuple):
    """What a worker tells of: finished attempts, and their bytes where the driver cannot see the spool."""

    reports: tuple[AttemptReport, ...]
    """One per attempt, in the order they ended."""
    lines: bytes
    """The spooled lines, or nothing."""
    peak_mib: float = 0.0
    """The most memory that the worker's process has held so far."""
    reported: bytes = b""
    """What its trainers reported since the last batch, where the driver cannot see the file."""


class Heartbeat(NamedTuple):
    """A heartbeat."""

    token: int
    """Lease being worked on, 0 when idle."""
    progress: int
    """Grows with the trainer's own heartbeats."""
    memory_gib: float
    words: str = ""
    """What the trainer said last of the run that the lease is for."""
