"""What a command prints, into a log of its own that keeps both its ends, and the last lines of its errors.

Bytes it owns: ``logs/<run_id>/attempt_<n>.log``, made when there is something to write; its first line is the
command.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

MAX_BYTES = 8 * 2**20
"""Bytes of output that are kept: as much as of a worker's own."""

TAIL_BYTES = 2**20
"""Of these the last, once there is more."""

ERROR_BYTES = 1 << 14
"""Bytes of standard error that are kept for the message of a failure: some 200 lines."""


class CommandLog:
    """Output in the order in which it came."""

    def __init__(self, path: Path | None, words: Sequence[str]) -> None:
        """Write to ``path`` when something comes, or nowhere."""
        self._path, self._words = path, words
        self._file: int | None = None
        self._room = MAX_BYTES - TAIL_BYTES
        self._tail: deque[bytes] = deque()
        self._tail_size = self._left_out = 0
        self._errors = b""

    @property
    def errors(self) -> str:
        """The end of what came from standard error."""
        return self._errors.decode(errors="replace")

    def take(self, data: bytes, *, is_error: bool) -> None:
        """Keep a piece."""
        if is_error:
            self._errors = (self._errors + data)[-ERROR_BYTES:]
        if self._room > 0:
            self._write(data[: self._room])
            self._room -= len(data)
            data = data[self._room :] if self._room < 0 else b""
        if data:
            self._tail.append(data)
            self._tail_size += len(data)
            while self._tail_size - len(self._tail[0]) >= TAIL_BYTES:
                dropped = len(self._tail.popleft())
                self._tail_size -= dropped
                self._left_out += dropped

    def close(self) -> None:
        """Write the end of what was too much."""
        if self._left_out:
            self._write(f"\n… {self._left_out:,} bytes left out here …\n".encode())
        for piece in self._tail:
            self._write(piece)
        self._tail.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, data: bytes) -> None:
        if self._path is None:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
                self._file = os.open(self._path, flags, 0o666)
                os.write(self._file, f"$ {shlex.join(self._words)}\n".encode(errors="replace"))
            os.write(self._file, data)
        except OSError as error:  # a full disk costs the log, not the run
            print(f"emsweep: output is no longer kept: {self._path}: {error}", file=sys.stderr)
            self._path = None
