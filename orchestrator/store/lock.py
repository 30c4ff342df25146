"""One driver a directory: an flock on ``driver.lock`` whose text names the holder. The kernel frees it when
the holder dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from sweeps.spec.errors import DirectoryBusyError

PATIENCE_S = 0.2
"""Time to wait for the lock: whoever asks who holds it has a share in it for a moment."""


class DriverLock:
    """Held for a driver's life.

    Raises:
        DirectoryBusyError: when another process holds it; the message names its host and pid.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(self._fd)
        except OSError as error:
            holder = _read(self._fd)
            os.close(self._fd)
            raise DirectoryBusyError(
                f"directory {str(path.parent)!r}: in use by another driver "
                f"(host {holder.get('host', '?')}, pid {holder.get('pid', '?')}); wait for it or stop it"
            ) from error
        text = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)

    def release(self) -> None:
        """Let others in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _lock(fd: int) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until_s:
                raise
            time.sleep(PATIENCE_S / 20)


def holder_of(path: Path) -> dict[str, Any] | None:
    """Host and pid of the live driver, or ``None`` when nobody holds the lock."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read(fd)
    finally:
        os.close(fd)
    return None


def _read(fd: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(fd, 4096, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
