"""Logs that stay small: the beginning, which says what was started, and the end, which says how it went.

A worker's log is cut in place while the worker writes on: it is open for appending, so what comes next lands
after the cut. What is written between reading the end and cutting, microseconds, is lost.
"""

from __future__ import annotations

import os
from pathlib import Path

MAX_BYTES = 8 * 2**20
"""Size from which a log is cut: a run that prints a line a step has a thousandth of it."""

KEPT_BYTES = 2**20
"""Bytes kept of each end."""

MAX_TEXT = 256 * 2**10
"""Characters of a traceback that are kept, half of each end."""


def keep_bounded(path: Path, most: int = MAX_BYTES, kept: int = KEPT_BYTES) -> bool:
    """Cut a log that has grown past ``most`` bytes; says whether it was cut."""
    try:
        size = path.stat().st_size
        if size <= most:
            return False
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        end = os.pread(fd, kept, size - kept)
        head = os.pread(fd, kept, 0).rpartition(b"\n")[0] + b"\n"
        os.ftruncate(fd, len(head))
        os.write(fd, _notice(size - len(head) - len(end)).encode() + end)
    finally:
        os.close(fd)
    return True


def bounded(text: str, most: int = MAX_TEXT) -> str:
    """A text of at most about ``most`` characters: its two ends, and how much is missing between."""
    if len(text) <= most:
        return text
    half = most // 2
    return text[:half] + _notice(len(text) - 2 * half) + text[-half:]


def _notice(num: int) -> str:
    return f"\n… {num:,} bytes left out here: a log keeps its beginning and its end …\n"
