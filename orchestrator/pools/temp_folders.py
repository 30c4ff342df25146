"""Temporary folders that a killed driver could not remove, and the processes that live in them.

A driver holds an flock on a file inside each folder it makes; the kernel frees it with the process, so
whoever can take it knows that nobody needs the folder any more. Processes that belong to a folder carry its
path in their environment: they end before it does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

PREFIX = "emsweep-"
"""Beginning of every temporary folder's name."""

LOCK = ".in-use"
"""File inside that its owner holds."""

MARK = "EMSWEEP_FOLDER"
"""Environment variable that names the folder a process belongs to."""

END_WAIT_S = 5.0
"""Time that killed processes get to vanish; they need milliseconds."""


class TemporaryFolder:
    """A folder that goes with :meth:`remove`, or with the next driver if this process is killed."""

    def __init__(self, purpose: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
        """Where it is."""
        self._fd = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    @property
    def mark(self) -> dict[str, str]:
        """What to put into the environment of processes that are to end with the folder."""
        return {MARK: str(self.path)}

    def remove(self) -> None:
        """End the folder's processes and remove it with all it holds; a second call does nothing."""
        if self._fd >= 0:
            _end_processes(self.path)
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._fd)
            self._fd = -1


def remove_leftovers() -> int:
    """Remove our folders that no live process holds, and return how many there were."""
    removed = 0
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        try:
            fd = os.open(lock, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _end_processes(lock.parent)
            shutil.rmtree(lock.parent, ignore_errors=True)
            removed += 1
        except OSError:
            continue
        finally:
            os.close(fd)
    return removed


def _end_processes(folder: Path) -> None:
    """Kill the processes that carry the folder's mark, and wait until they have gone."""
    until_s = time.monotonic() + END_WAIT_S
    while (pids := _marked(folder)) and time.monotonic() < until_s:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _marked(folder: Path) -> list[int]:
    wanted, pids = f"{MARK}={folder}".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone already, or another user's; a zombie's is empty
            if wanted in environ.read_bytes().split(b"\0"):
                pids.append(int(environ.parent.name))
    return pids
