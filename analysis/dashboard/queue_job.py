"""What a queue, such as Slurm, says of the job that a sweep was handed to, asked now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ASK_S = 5.0
"""Shortest time between two questions: a queue serves others too, and pages ask all the time."""


@dataclass(frozen=True, kw_only=True)
class JobTold:
    """A queue's words about a job."""

    words: str
    """``Slurm (job 17, Priority)``."""
    state: str = ""
    """``waiting`` or ``starting`` while there is no driver yet; empty otherwise."""
    lines: tuple[str, ...] = ()
    """Its nodes, or how it ended."""


AskQueue = Callable[[Path], JobTold | None]
"""Asks about the job of a sweep directory; ``None`` where there is none."""


class QueueJob:
    """The job of one sweep directory, for any number of pages."""

    def __init__(self, directory: Path, ask: AskQueue | None) -> None:
        self._directory, self._ask = directory, ask
        self._lock = threading.Lock()
        self._asked_s = float("-inf")
        self._told: JobTold | None = None

    def told(self) -> JobTold | None:
        """What the queue said a moment ago, or says now."""
        if self._ask is None:
            return None
        with self._lock:
            if time.monotonic() - self._asked_s >= ASK_S:
                self._told = self._ask(self._directory)
                self._asked_s = time.monotonic()
            return self._told
