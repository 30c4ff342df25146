"""The application's own lines on the console while its jobs run in workers, as with Hydra's own launcher.

A worker's output goes into its log; what is new there is shown here, without the lines that say which run it
was. Of a worker on another machine, whose log does not come here, nothing is shown.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import TracebackType

from orchestrator.worker.run_markers import is_marker

PERIOD_S = 0.2
"""How often logs are looked at: sooner than people notice."""

MAX_BYTES = 1 << 20
"""Most bytes of a log that are shown at once: an application that prints more is read in its log."""


class WorkerOutput:
    """Shows what workers print below a folder of logs, from the moment it is entered until it is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, int] = {}
        self._half: dict[Path, bytes] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="console")

    def __enter__(self) -> WorkerOutput:
        self._seen = {path: _size(path) for path in self._folder.glob("*.log")}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._show()

    def _follow(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._show()

    def _show(self) -> None:
        for path in sorted(self._folder.glob("*.log")):
            size, seen = _size(path), self._seen.get(path, 0)
            if size < seen:  # cut in place, since it grew too long: what is new stands at its end
                seen = size
            self._seen[path] = size
            if size > seen:
                self._print(path, _read(path, max(seen, size - MAX_BYTES), size))

    def _print(self, path: Path, data: bytes) -> None:
        whole, newline, self._half[path] = (self._half.pop(path, b"") + data).rpartition(b"\n")
        lines = (whole + newline).decode(errors="replace").splitlines(keepends=True)
        text = "".join(line for line in lines if not is_marker(line))
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path, start: int, end: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)
    except OSError:
        return b""
