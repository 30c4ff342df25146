"""The worker's side of the shepherd (:mod:`trainers.command.shepherd`): commands started, awaited, ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STOP_WAIT_S = 15.0
"""Time that a shepherd gets to end what it holds; it needs milliseconds."""


KEPT = ("LD_LIBRARY_PATH",)
"""Variables that a shepherd gets: what its interpreter needs, and no mark by which it would be ended before
it has ended what it holds.
"""


class CommandDied(RuntimeError):
    """The shepherd is gone, and with it the command."""


class Shepherd:
    """Starts this worker's commands and ends all they leave, also when the worker is killed."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        file = str(Path(__file__).with_name("shepherd.py"))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", file, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env={name: os.environ[name] for name in KEPT if name in os.environ},
            )
        self._told = b""

    @property
    def pid(self) -> int:
        """The parent of all that commands leave behind."""
        return self._process.pid

    def fileno(self) -> int:
        """What to wait on: readable when the command has ended."""
        return self._socket.fileno()

    def start(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], stdout: int, stderr: int
    ) -> int:
        """Start a command and return its pid; it leads a session of its own, without input.

        Raises:
            OSError: when there is no such program, or it cannot be run.
            CommandDied: when the shepherd is gone.
        """
        what = {"words": list(words), "folder": str(folder), "environment": dict(environment)}
        self._send(what, [stdout, stderr])
        told = self._next(block=True)
        assert told is not None
        if "error" in told:
            raise OSError(told["error"])
        pid: int = told["pid"]
        return pid

    def end(self, grace_s: float) -> None:
        """Tell the command and all it started to end, and kill after a while what has not."""
        self._send({"end": grace_s})

    def ended(self) -> tuple[int, int] | None:
        """Exit status and number of processes left behind, once the command has ended; does not wait.

        Raises:
            CommandDied: when the shepherd is gone.
        """
        told = self._next(block=False)
        return None if told is None else (told["exit"], told["left"])

    def wait(self) -> tuple[int, int]:
        """As :meth:`ended`, waiting for it."""
        told = self._next(block=True)
        assert told is not None
        return told["exit"], told["left"]

    def close(self) -> None:
        """Hang up: the shepherd ends all it holds, then itself."""
        self._socket.close()
        try:
            self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, what: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        data = json.dumps(what).encode()
        try:
            socket.send_fds(self._socket, [struct.pack("!I", len(data))], list(fds))
            self._socket.sendall(data)
        except OSError as error:
            raise self._died() from error

    def _next(self, *, block: bool) -> dict[str, Any] | None:
        while b"\n" not in self._told:
            try:
                part = self._socket.recv(4096, 0 if block else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                raise self._died() from error
            if not part:
                raise self._died()
            self._told += part
        line, _, self._told = self._told.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def _died(self) -> CommandDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return CommandDied(
            f"the process that watches over commands is gone (status {self._process.returncode})"
        )


def how_it_ended(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def pipe() -> tuple[int, int]:
    """A pipe whose reading end never waits."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    return ours, theirs
