"""Whether code that says nothing is at work: it is while its processes use the processor.

A worker that makes no progress is taken to hang (``cluster.watchdog_s``). A function or a command knows
nothing of that, and may well compute for an hour without a word.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

LOOK_S = 10.0
"""Period of looking: a look reads a few files a process."""

BUSY_SHARE = 0.02
"""Share of one core from which a process is at work; a worker's own threads, idle otherwise, take less."""


def processor_seconds(root: int, *, with_root: bool) -> float:
    """Processor time of all processes below one, and of itself on request."""
    import psutil

    used_s = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(root)
        for one in [*process.children(recursive=True), *([process] if with_root else [])]:
            with contextlib.suppress(psutil.Error):
                used_s += sum(one.cpu_times()[:4])
    return used_s


class Watch:
    """A thread that beats for whatever this process works on, while it is at work."""

    def __init__(self) -> None:
        self._beat: Callable[[str], None] | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, beat: Callable[[str], None]) -> None:
        """Something is worked on from now on."""
        self._beat = beat
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, daemon=True, name="busy")
            self._thread.start()

    def end(self) -> None:
        self._beat = None

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        before, used_s, at_s = None, 0.0, time.monotonic()
        while not self._closed.wait(LOOK_S):
            beat = self._beat
            if beat is None:
                before = None
                continue
            now_used_s, now_s = processor_seconds(os.getpid(), with_root=True), time.monotonic()
            if beat is before and now_used_s - used_s >= BUSY_SHARE * (now_s - at_s):
                beat("")
            before, used_s, at_s = beat, now_used_s, now_s
