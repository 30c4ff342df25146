"""Whether a driver is at work in a sweep directory: the one rule for everybody who asks.

The lock decides: the kernel holds it while the process lives, and it is free once the process is gone. Where
the directory is seen from another machine whose file system does not carry locks, a driver there counts as
alive while its ``status.json`` is fresh. A driver that holds the lock and says nothing is *silent*: it is
stopped, or its disk hangs; its last words are told as old ones.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any

from orchestrator.store.layout import Layout
from orchestrator.store.lock import holder_of
from orchestrator.store.status import read_status

SILENT_S = 10.0
"""Age of a status from which its driver counts as silent; a live one writes every second."""

AT_WORK = ("running", "paused")
"""States of ``status.json`` that a driver writes while it lives."""


@dataclass(frozen=True, kw_only=True)
class LiveDriver:
    """A driver at work."""

    host: str
    """Its machine, ``?`` where the lock does not say."""
    pid: int
    """Its process, 0 where the lock does not say."""
    status: dict[str, Any] | None
    """What it last said of itself; ``None`` when it has begun and not yet spoken."""
    silent_s: float
    """Seconds since then."""

    @property
    def is_silent(self) -> bool:
        """Whether it has not spoken for so long that its words are no longer true."""
        return self.silent_s >= SILENT_S


def live_driver(layout: Layout) -> LiveDriver | None:
    """The driver at work in a directory, or ``None`` when there is none."""
    holder, status = holder_of(layout.lock), read_status(layout)
    if holder is not None:
        if status is not None and status.get("pid") != holder.get("pid"):
            status = None  # another driver's
        return _driver(holder, status)
    if status is None or status.get("state") not in AT_WORK or status.get("host") == socket.gethostname():
        return None
    elsewhere = _driver(status, status)
    return None if elsewhere.is_silent else elsewhere


def age_s(status: dict[str, Any]) -> float:
    """Seconds since a status was written."""
    written_at = status.get("updated_at")
    return max(0.0, time.time() - (written_at if isinstance(written_at, (int, float)) else 0.0))


def _driver(who: dict[str, Any], status: dict[str, Any] | None) -> LiveDriver:
    silent_s = 0.0 if status is None else age_s(status)
    return LiveDriver(host=who.get("host", "?"), pid=who.get("pid", 0), status=status, silent_s=silent_s)
