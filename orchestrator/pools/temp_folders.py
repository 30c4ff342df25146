"""Temporary folders that a killed driver could not remove, and the processes that live in them.

A driver holds an flock on a file inside each folder it makes; the kernel frees it with the process, so
whoever can take it knows that nobody needs the folder any more. Processes that belong to a folder carry its
path in their environment: they end before it does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

from orchestrator.pools.marked import FOLDER, end_marked

PREFIX = "emsweep-"
"""Beginning of every temporary folder's name."""

LOCK = ".in-use"
"""File inside that its owner holds."""


class TemporaryFolder:
    """A folder that goes with :meth:`remove`, or with the next driver if this process is killed."""

    def __init__(self, purpose: str) -> None:
        held = None
        while held is None:
            path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
            held = _hold(path / LOCK)
        self.path = path
        """Where it is."""
        self._fd = held

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def mark(self) -> dict[str, str]:
        """What to put into the environment of processes that are to end with the folder."""
        return {FOLDER: str(self.path)}

    def remove(self) -> None:
        """End the folder's processes and remove it with all it holds; a second call does nothing."""
        if self._fd >= 0:
            end_marked(f"{FOLDER}={self.path}")
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._fd)
            self._fd = -1


def _hold(lock: Path) -> int | None:
    """Make the file that says that a folder is in use and hold it; ``None`` when another process, which
    removes leftovers, took the folder for one between the two.
    """
    fd = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)  # waits until such a process has removed it
    if lock.exists():
        return fd
    os.close(fd)
    return None


def remove_leftovers() -> int:
    """Remove this user's folders that no live process holds, and return how many there were."""
    removed = 0
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        try:
            fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            if os.fstat(fd).st_uid != os.getuid() or lock.parent.is_symlink():
                continue
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not lock.exists():
                continue  # its owner has removed it meanwhile
            end_marked(f"{FOLDER}={lock.parent}")
            shutil.rmtree(lock.parent, ignore_errors=True)
            removed += 1
        except OSError:
            continue
        finally:
            os.close(fd)
    return removed


def temporary_files(folder: Path) -> dict[str, str]:
    """Variables by which processes put their temporary files into a folder: those that torch, DeepSpeed or a
    trainer leaves when it is killed. What torch compiled is kept for the next process, where it was.
    """
    compiled = Path(tempfile.gettempdir()) / f"torchinductor_{os.getuid()}"
    return {
        "TMPDIR": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR") or str(compiled),
    }
