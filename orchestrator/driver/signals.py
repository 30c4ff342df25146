"""SIGINT, SIGTERM and SIGUSR1 as requests to stop: counted here, obeyed between two turns of a loop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What a person or a scheduler of jobs sends; of these srun passes on to what it runs the last alone."""


class StopSignals:
    """Counts the signals that arrive inside a ``with``; outside the main thread, which alone can, none."""

    def __init__(self) -> None:
        self.count = 0
        """Signals so far."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
