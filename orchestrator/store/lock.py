"""One driver a directory: an flock on ``driver.lock`` whose text names the holder. The kernel frees it when
the holder dies.

The lock is a name: who removes or replaces the file lets a second driver in. So its holder asks at every
commit whether the name still leads to the file that it holds (:meth:`DriverLock.check`), and stops if not.
Where the file system has no locks, ``driver.claim`` stands in: made whole under another name and linked into
place, which one process alone can do; that of a dead process of this machine is taken over by renaming it
away, and only if it is still the one that was seen dead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from sweeps.spec.errors import DamagedError, DirectoryBusyError, LostLockError

PATIENCE_S = 0.2
"""Time to wait for the lock: whoever asks who holds it has a share in it for a moment."""

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system without locks answers."""


class DriverLock:
    """Held for a driver's life.

    Raises:
        DirectoryBusyError: when another process holds it; the message names its host and pid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DamagedError(
                f"{path}: cannot be opened ({error.strerror}); mend it with: emsweep repair {path.parent}"
            ) from error
        try:
            _lock(self._fd)
        except OSError as error:
            holder = _read(self._fd)
            os.close(self._fd)
            if error.errno not in NO_LOCKS:
                raise DirectoryBusyError(
                    f"directory {str(path.parent)!r}: in use by another driver "
                    f"(host {holder.get('host', '?')}, pid {holder.get('pid', '?')}); wait for it or stop it"
                ) from error
            self._path = claim_path(path)
            self._fd = _claimed(self._path)
            return
        text = json.dumps(_ourselves()).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)

    def check(self) -> None:
        """Raise unless the directory is still ours.

        Raises:
            LostLockError: when the file was removed or replaced.
        """
        ours = os.fstat(self._fd)
        try:
            found = self._path.stat()
            if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
                return
            why = "was replaced: another driver may be at work"
        except FileNotFoundError:
            why = "was removed"
        raise LostLockError(
            f"directory {str(self._path.parent)!r}: its {self._path.name} {why}; this driver stops and "
            "commits nothing more; once no driver is at work, finish with: "
            f"emsweep resume {self._path.parent}"
        )

    def release(self) -> None:
        """Let others in."""
        if self._fd < 0:
            return
        if self._path.name == CLAIM:
            with contextlib.suppress(LostLockError):
                self.check()
                self._path.unlink()
        os.close(self._fd)
        self._fd = -1


CLAIM = "driver.claim"
"""Name of what stands in for the lock."""


def claim_path(lock: Path) -> Path:
    """Where a claim lies beside a lock."""
    return lock.with_name(CLAIM)


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


def _claimed(path: Path) -> int:
    """Claim a directory and return the claim, open."""
    own = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    own.write_text(json.dumps({**_ourselves(), "token": secrets.token_hex(8)}))
    try:
        for _ in range(2):
            try:
                os.link(own, path)
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileExistsError:
                holder = _read_file(path)
                if not _is_dead(holder) or not _took_away(path, holder):
                    break
        raise DirectoryBusyError(
            f"directory {str(path.parent)!r}: its file system has no locks, and {path.name} says that host "
            f"{holder.get('host', '?')}, pid {holder.get('pid', '?')} is at work; once that process is gone, "
            f"remove {path}"
        )
    finally:
        own.unlink()


def _took_away(path: Path, holder: dict[str, Any]) -> bool:
    """Rename a dead process's claim away; put it back when it is another one by now."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True  # another process did; who links first has it
    is_same = _read_file(aside) == holder
    if not is_same:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()
    return is_same


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether a claim's process is surely gone; of another machine's nothing is known."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def holder_of(path: Path) -> dict[str, Any] | None:
    """Host and pid of the live driver, or ``None`` when nobody holds the lock."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None  # there is none, or something that no driver can hold
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            claim = claim_path(path)
            holder = _read_file(claim) if claim.is_file() else None
            return None if holder is None or _is_dead(holder) else holder
        return _read(fd)
    finally:
        os.close(fd)
    return None


def _ourselves() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _read_file(path: Path) -> dict[str, Any]:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return {}
    try:
        return _read(fd)
    finally:
        os.close(fd)


def _read(fd: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(fd, 4096, 0))
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
