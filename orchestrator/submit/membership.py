"""Whether a machine that was given to a sweep joins it, stays or leaves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.store.meeting import Meeting

IDLE_S = 60.0
"""Time without a worker after which a node is given back while no run waits."""

HEADLESS_S = 600.0
"""Longest that a machine waits for a head; its job may wait longer than that in its queue."""

ASK_S = 60.0
"""Period of asking the queue, without a head, whether the job that should bring one is still there."""

RETRY_S = (2.0, 60.0)
"""Wait before the first further try to join, and the longest; each is twice the one before."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a machine knows when it decides."""

    meeting: Meeting | None
    """Where the head is; ``None`` where nobody has said yet."""
    joined: str = ""
    """The address that it has joined; empty while it has not."""
    waiting: int | None = None
    """Runs that wait for room, as the driver says; ``None`` before it speaks."""
    idle_s: float = 0.0
    """Seconds since a worker of the sweep lived here."""
    headless_s: float = 0.0
    """Seconds since it was a node of the sweep, or since it was started."""
    retry_in_s: float = 0.0
    """Seconds until it may try to join again."""
    job_ended: bool = False
    """Whether the job that should bring the head has ended, as its queue says."""
    noticed: bool = False
    """Whether its own job was told that the machine will be taken away."""
    stays: bool = False
    """Whether it stays while there is no work: its job has it anyway."""


Step = Literal["wait", "join", "part", "drain", "give back", "over", "yield"]
"""``part`` from a head that is no longer the sweep's; ``drain`` and end with the notice; ``give back`` as
there is no work for it; the sweep is ``over``; ``yield`` the machine to others until there is a head again.
"""


def next_step(seen: Seen) -> Step:
    """What to do now."""
    meeting = seen.meeting
    if seen.noticed:
        return "drain"
    if (meeting is not None and meeting.state == "over") or (seen.job_ended and not seen.joined):
        return "over"
    is_open = meeting is not None and meeting.state == "open"
    if seen.joined:
        if is_open and meeting is not None and meeting.address != seen.joined:
            return "part"
        unused = seen.waiting == 0 and seen.idle_s >= IDLE_S
        return "give back" if unused and not seen.stays else "wait"
    if is_open and seen.waiting == 0 and not seen.stays:
        return "give back"
    if is_open and seen.retry_in_s <= 0:
        return "join"
    return "yield" if seen.headless_s >= HEADLESS_S and not seen.stays else "wait"


def retry_wait_s(num_failures: int) -> float:
    """Seconds to wait after so many failures to join in a row."""
    shortest, longest = RETRY_S
    return float(min(shortest * 2.0 ** max(0, num_failures - 1), longest))
