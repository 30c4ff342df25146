"""Temporary folders that a killed driver could not remove.

A driver holds an flock on a file inside each folder it makes; the kernel frees it with the process, so
whoever can take it knows that nobody needs the folder any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "emsweep-"
"""Beginning of every temporary folder's name."""

LOCK = ".in-use"
"""File inside that its owner holds."""


class TemporaryFolder:
    """A folder that goes with :meth:`remove`, or with the next driver if this process is killed."""

    def __init__(self, purpose: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
        """Where it is."""
        self._fd = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove the folder with all it holds; a second call does nothing."""
        if self._fd >= 0:
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
            shutil.rmtree(lock.parent, ignore_errors=True)
            removed += 1
        except OSError:
            continue
        finally:
            os.close(fd)
    return removed
