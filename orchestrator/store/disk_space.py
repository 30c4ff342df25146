"""Whether the disk has room for results. A sweep pauses before it is full rather than fail when it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

SHORTAGES = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers that time or a person's tidying up may cure."""

LOW_BYTES = 64 * 2**20
"""Free bytes below which a large disk is short: room for the tables of a few thousand runs."""

LOW_SHARE = 0.05
"""Free share below which a small disk is short."""


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
