"""How runs and attempts end: the words for it, what a worker reports, and where a result lies. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, cast

Outcome = Literal["pending", "done", "diverged", "failed", "quarantined", "cancelled", "skipped", "stopped"]
"""What can be said of a run. ``done`` and ``diverged`` are results; ``pending`` also covers a run that is
running; ``skipped`` is a run that a race does without, since what it was to tell is decided; ``stopped`` one
that early stopping ended, whose result is none.
"""

AttemptEnd = Literal["done", "diverged", "failed", "cancelled"]
"""How an attempt ends that a worker reports; one whose worker was lost idle has no end."""

FailureClass = Literal["infrastructure", "oom", "error", "timeout"]
"""Why an attempt gave no result: its worker went away, no memory was left, it raised, it took too long."""

INFRASTRUCTURE: Final = "infrastructure"
OOM: Final = "oom"
ERROR: Final = "error"
TIMEOUT: Final = "timeout"

_CLASSES_OF_FORMAT_1: Mapping[str, FailureClass] = {"memory": OOM}
"""Failure classes that format 1 called otherwise."""


def failure_class_of(word: str) -> FailureClass:
    """The failure class that a journal, a table or an index names, in the words of any format."""
    return _CLASSES_OF_FORMAT_1.get(word) or cast(FailureClass, word)


class Failure(NamedTuple):
    """Why an attempt did not give a result."""

    failure_class: FailureClass
    fingerprint: str
    """Equal for failures that look alike: the exception's type and the functions it passed through."""
    message: str
    """One line for people."""
    details: str = ""
    """Traceback or stacks, for the attempt's log; not in the journal."""
    may_pass: bool = False
    """Whether a second attempt may be spared it; not in the journal, where what was decided stands."""


class Grant(NamedTuple):
    """One run handed to a worker: a lease."""

    run: int
    """The run, by its index in the manifest."""
    attempt: int
    """Zero-based number of this try."""
    token: int
    """Fencing token, unique in the sweep directory and growing."""
    shrink: int = 0
    """How often the micro batch is to be halved, after running out of memory."""


class AttemptReport(NamedTuple):
    """How one attempt ended, as its worker tells it; ``run, attempt, token`` are its grant's."""

    run: int
    attempt: int
    token: int
    outcome: AttemptEnd
    """``failed`` comes with a :class:`Failure`; ``cancelled`` when it stopped on request."""
    wall_s: float
    """Seconds the attempt took in its worker, storing included."""
    finished_at: float
    """Wall-clock end, Unix seconds."""
    spool: str = ""
    """Name of the spool file that holds the result."""
    offset: int = 0
    """First byte of the result's line."""
    length: int = 0
    """Bytes of the line."""
    failure: Failure | None = None
    """What went wrong, when ``outcome`` is ``failed``."""


class AcceptedResult(NamedTuple):
    """One committed result and where it lies."""

    run_id: str
    offset: int
    """First byte of its line in the spool."""
    length: int
    """Bytes of the line."""
    outcome: AttemptEnd
    """``done`` or ``diverged``."""
    token: int | None = None
    """The lease it ran under; unknown in format 1."""


class FoundResult(NamedTuple):
    """A valid result of a run that no driver has committed."""

    run: int
    """The run, by its index in the manifest."""
    spool: str
    """Name of the file that holds it."""
    offset: int
    """First byte of its line."""
    length: int
    """Bytes of the line."""
    outcome: AttemptEnd
    """``done`` or ``diverged``."""
    token: int | None = None
    """The lease it ran under."""


class EndedAttempt(NamedTuple):
    """One attempt that changes nothing."""

    run_id: str
    token: int
    """The lease it ran under."""
    outcome: AttemptEnd
