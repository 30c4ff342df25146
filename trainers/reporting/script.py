"""The script's side of the channel: rows into a pipe that the worker reads, the decision out of a file.

Both lie in a folder that :data:`VARIABLE` names, so any process below the script's may report, whatever
started it. A row is one line of JSON and one ``write()`` of at most :data:`PIPE_BUF` bytes: lines of several
processes never mix. A script in any language may write them::

    echo '{"step": 3, "loss": 0.5}' > "$EMSWEEP_REPORT/rows"
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from trainers.reporting.decision import GO_ON, Decision
from trainers.reporting.rows import checked_row

VARIABLE = "EMSWEEP_REPORT"
"""Environment variable that names the channel's folder; unset or empty outside a sweep."""

ROWS = "rows"
"""The pipe, by its name in the folder."""

DECISION = "decision"
"""The file of the decision: ``0`` to go on; ``1`` and a JSON object to stop. The ``1`` is written last."""

PIPE_BUF = select.PIPE_BUF
"""Bytes that one ``write()`` puts into a pipe undivided."""

WAIT_S = 1.0
"""Longest that a report waits for room in a pipe that nobody reads; after that rows are dropped."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


class ScriptEnd:
    """A process's connection to the worker that its script runs for."""

    def __init__(self, folder: str) -> None:
        """Connect; a worker that is not there any more is complained of once, on standard error."""
        self.pid = os.getpid()
        self._decision = GO_ON
        self._patient = True
        self._pipe = self._cell = -1
        try:
            self._pipe = os.open(f"{folder}/{ROWS}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._cell = os.open(f"{folder}/{DECISION}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self._give_up(error)

    def report(self, step: Any, metrics: Mapping[str, Any]) -> Decision:
        """Send a row and read the newest decision.

        Raises:
            TypeError, ValueError: for what cannot be reported; see :func:`checked_row`.
        """
        number, row = checked_row(step, metrics)
        if self._pipe >= 0:
            for line in lines_of(number, row):
                self._send(line)
        return self._newest()

    def close(self) -> None:
        for fd in (self._pipe, self._cell):
            if fd >= 0:
                os.close(fd)
        self._pipe = self._cell = -1

    def _send(self, line: bytes) -> None:
        while True:
            try:
                os.write(self._pipe, line)
            except BlockingIOError:
                if self._patient and _has_room(self._pipe):
                    continue
                self._complain("nobody reads them")
                self._patient = False
                return
            except OSError as error:  # the worker has gone
                self._give_up(error)
                return
            self._patient = True
            return

    def _newest(self) -> Decision:
        if self._cell < 0 or self._decision.stop or os.pread(self._cell, 1, 0) != b"1":
            return self._decision
        with contextlib.suppress(ValueError):
            self._decision = Decision(stop=True, **json.loads(os.pread(self._cell, 1 << 16, 1)))
        return self._decision

    def _give_up(self, error: OSError) -> None:
        self.close()
        self._complain(error.strerror or type(error).__name__)

    def _complain(self, why: str) -> None:
        if self._patient:
            print(f"emsweep: reports of process {self.pid} are dropped: {why}", file=sys.stderr)


def lines_of(step: int, row: Mapping[str, Any]) -> Iterator[bytes]:
    """A row as lines of the pipe: one, or several of the same step where one would be too long."""
    line = (_encode({"step": step, **row}) + "\n").encode()
    if len(line) <= PIPE_BUF or len(row) < 2:
        yield line
        return
    items = list(row.items())
    middle = len(items) // 2
    yield from lines_of(step, dict(items[:middle]))
    yield from lines_of(step, dict(items[middle:]))


def _has_room(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    return bool(poll.poll(WAIT_S * 1000))
