"""What the driver asks of a pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from orchestrator.scheduling.events import Beat, Capacity, Event, Reported, Shape
from orchestrator.worker.protocol import Heartbeat, ReportBatch, Task, WorkerSetup


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """A report whose spool lies on another node: the driver stores ``lines`` and ``rows`` before it passes
    ``reported`` on.
    """

    reported: Reported
    """The report."""
    lines: bytes
    """The spooled lines, as they lie in the worker's own file."""
    rows: bytes = b""
    """What trainers reported since, likewise."""


PoolEvent = Event | Shipped


class Pool(Protocol):
    """Starts, feeds and ends workers. Calls return at once; what came of them arrives through :meth:`events`.

    A worker is one process, or a gang of ``shape.world_size`` processes that lives and dies as one. It beats
    about once a second, and ``WorkerLost`` also tells of one that dies by itself. Each granted attempt is
    reported exactly once unless its worker is lost, a result only once it is durable in the worker's spool.
    """

    def capacity(self) -> Capacity:
        """What can be handed out in all."""
        ...

    def ask_for(self, workers: Mapping[Shape, int]) -> None:
        """Have room for so many workers of each shape in all, where what there is can grow; replaces what was
        asked for before. Nothing where it cannot.
        """
        ...

    def start_worker(self, setup: WorkerSetup, shape: Shape) -> None:
        """Start a worker or a gang, whole or not at all; ``WorkerReady`` or ``WorkerLost`` follows."""
        ...

    def stop_worker(self, name: str) -> None:
        """End an idle worker, which frees what its trainer holds; ``WorkerLost`` follows, once."""
        ...

    def kill_worker(self, name: str, *, record_stack: bool) -> None:
        """End a worker whatever it does; its log first gets the stacks of its threads, if ``record_stack``.
        ``WorkerLost`` follows, once.
        """
        ...

    def dispatch(self, name: str, items: list[Task]) -> None:
        """Give a worker that is up a batch: it runs after those given before, its runs in their order."""
        ...

    def cancel(self, name: str, tokens: tuple[int, ...]) -> None:
        """Drop attempts: those that wait never start, one under way is asked to end. Each is reported, as
        ``cancelled`` or as it ended.
        """
        ...

    def events(self, timeout_s: float) -> list[PoolEvent]:
        """Return what happened, waiting up to ``timeout_s`` seconds for something."""
        ...

    def close(self) -> None:
        """End every worker and leave nothing behind: no process, socket or temporary file."""
        ...


def batch_event(worker: str, batch: ReportBatch) -> PoolEvent:
    reported = Reported(worker=worker, reports=batch.reports, peak_mib=batch.peak_mib)
    if batch.lines or batch.reported:
        return Shipped(reported=reported, lines=batch.lines, rows=batch.reported)
    return reported


def beat_event(worker: str, pulse: Heartbeat, memory_gib: float = 0.0) -> Beat:
    """A heartbeat as the scheduler hears it; a gang's is that of rank 0, with the memory of the largest."""
    return Beat(
        worker=worker,
        token=pulse.token,
        progress=pulse.progress,
        memory_gib=memory_gib,
        words=pulse.words,
    )
