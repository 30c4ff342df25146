"""Whether the disk has room for results. A sweep pauses before it is full rather than fail when it is."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from orchestrator.store.outcomes import INFRASTRUCTURE, AttemptReport

SHORTAGES = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers that time or a person's tidying up may cure."""

TOO_LARGE = errno.EFBIG
"""What a process's limit on the size of a file, or the file system's, answers: waiting does not cure it."""

LOW_BYTES = 64 * 2**20
"""Free bytes below which a large disk is short: room for the tables of a few thousand runs."""

LOW_SHARE = 0.05
"""Free share below which a small disk is short."""


def require_no_limit(reports: Iterable[AttemptReport]) -> None:
    """Stop a sweep whose workers cannot write their results: each further attempt would end alike.

    Raises:
        OSError: when a spool met a limit on the size of a file.
    """
    for report in reports:
        failure = report.failure
        if failure is not None and failure.failure_class == INFRASTRUCTURE and _SIGN in failure.message:
            raise OSError(TOO_LARGE, os.strerror(TOO_LARGE))


_SIGN = f"[Errno {TOO_LARGE}]"


def cure_of(error: BaseException, root: Path) -> str:
    """What a person can do about a sweep directory that cannot be written any more."""
    if is_too_large(error):
        return (
            f"raise the limit on the size of a file (ulimit -f unlimited), then finish with {_resume(root)}"
        )
    return f"mend it, then finish with {_resume(root)}"


def is_too_large(error: BaseException) -> bool:
    """Whether a file may not grow. SQLite does not tell that from other failures to write."""
    if isinstance(error, sqlite3.OperationalError):
        limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
        return limited and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR
    return isinstance(error, OSError) and error.errno == TOO_LARGE


def _resume(root: Path) -> str:
    return f"emsweep resume {root}"


class Space:
    """Watches one file system."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._short = False

    def shortage(self) -> str:
        """Why nothing more should be started, or an empty text.

        Once short, twice the room is asked for, so that the sweep does not stutter at the edge.
        """
        found = os.statvfs(self._root)
        free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        needed = min(LOW_BYTES, int(total * LOW_SHARE)) * (2 if self._short else 1)
        self._short = free < needed
        return f"{free / 2**20:.0f} MiB are left on the disk of {self._root}" if self._short else ""
