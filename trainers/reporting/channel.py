"""The worker's side of the channel: a folder with a pipe and the file of the decision.

::

    with ReportChannel() as channel:
        process = subprocess.Popen(command, env={**os.environ, **channel.environment})
        while process.poll() is None:
            select.select([channel], [], [], 0.1)
            channel.pass_on(context)
        channel.pass_on(context)

A trainer whose code runs in this process needs none of it: it calls ``context.report``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from trainers.reporting.decision import Decision, Report
from trainers.reporting.rows import checked_row
from trainers.reporting.script import DECISION, ROWS, VARIABLE

PIPE_BYTES = 1 << 20
"""What the pipe holds while the worker does something else: about 20,000 rows; the most that Linux allows
everyone."""

MAX_LINE = 1 << 20
"""Bytes of a line that has no end yet; a longer one is no row."""


class Listener(Protocol):
    """What takes the rows: a :class:`~trainers.protocol.RunContext`."""

    @property
    def report(self) -> Report: ...

    @property
    def decision(self) -> Any: ...


class ReportChannel:
    """A channel for one attempt. It is in a temporary folder, which goes when the channel is closed."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="emsweep-report-"))
        os.mkfifo(self._folder / ROWS, 0o600)
        # Open for both: the pipe then has no end while no script is at it.
        self._pipe = os.open(self._folder / ROWS, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # as large as this user may
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._cell = os.open(self._folder / DECISION, flags, 0o600)
        os.pwrite(self._cell, b"0", 0)
        self._rest = b""
        self._stopped = False

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that the script needs; no file descriptor has to be passed."""
        return {VARIABLE: str(self._folder)}

    def fileno(self) -> int:
        """What to wait on: readable when rows have come."""
        return self._pipe

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The rows that have come since the last call: each a step and its metrics. Never waits.

        Raises:
            ValueError: for a line that is no row; names it. Those after it are read by the next call.
            TypeError: for a step or a metric of a kind that no table can hold.
        """
        while True:
            line, separator, rest = self._rest.partition(b"\n")
            if separator:
                self._rest = rest
                if line.strip():
                    yield row_of(line)
                continue
            if len(line) > MAX_LINE:
                self._rest = b""
                raise ValueError(f"a reported line of more than {MAX_LINE} bytes: write one object a line")
            try:
                found = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                return
            self._rest += found

    def pass_on(self, listener: Listener) -> None:
        """Report what has come, and let the script read what was decided.

        Raises:
            TypeError, ValueError: as :meth:`rows`.
        """
        for step, row in self.rows():
            listener.report(step, **row)
        self.show(listener.decision())

    def show(self, decision: Decision) -> None:
        """Let the script read a decision; one to stop stays."""
        if decision.stop and not self._stopped:
            self._stopped = True
            os.pwrite(self._cell, json.dumps({"reason": decision.reason}).encode(), 1)
            os.pwrite(self._cell, b"1", 0)

    def close(self) -> None:
        """Hang up: what the script reports from now on is dropped."""
        if self._pipe >= 0:
            os.close(self._pipe)
            os.close(self._cell)
            self._pipe = self._cell = -1
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def row_of(line: bytes) -> tuple[int, Mapping[str, Any]]:
    """The step and the metrics of a reported line.

    Raises:
        ValueError: for a line that is no JSON object with a step.
        TypeError: for a step or a metric of a kind that no table can hold.
    """
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or "step" not in row:
        raise ValueError(
            f'reported line {line[:80]!r}: write one JSON object a line, such as {{"step": 3, "loss": 0.5}}'
        )
    return checked_row(row.pop("step"), row)
