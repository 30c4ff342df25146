"""Failure classes and what to do about each: pure decisions over a run's history of failures.

============== ================================================= =========================================
class          meaning                                           answer
============== ================================================= =========================================
infrastructure its worker, node or raylet went away              many retries, with backoff
memory         out of memory                                     smaller micro batch, then another place
error          an exception                                      again; the same one twice is quarantined
timeout        over the spec's time limit, or hung               once more
============== ================================================= =========================================

``diverged`` is a result, not a failure. Each class has its own budget, so that a flaky cluster never uses up
the patience meant for flaky code.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

INFRASTRUCTURE = "infrastructure"
MEMORY = "memory"
ERROR = "error"
TIMEOUT = "timeout"
FAILURE_CLASSES = (INFRASTRUCTURE, MEMORY, ERROR, TIMEOUT)

FINGERPRINT_LENGTH = 12
"""Hex digits of a fingerprint: 48 bits tell a sweep's few kinds of failure apart and still fit in a table."""


class Failure(NamedTuple):
    """Why an attempt did not give a result."""

    kind: str
    """One of :data:`FAILURE_CLASSES`."""
    fingerprint: str
    """Equal for failures that look alike: the exception's type and the functions it passed through."""
    message: str
    """One line for people."""
    details: str = ""
    """Traceback or stacks, for the attempt's log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Budgets, each counted per run and class."""

    infrastructure: int = 8
    """Retries after a lost worker: with backoff this outlasts the reboot of a node, yet a run that kills its
    workers ends.
    """
    memory: int = 3
    """Retries after running out of memory: one with half the micro batch, one with a quarter, one elsewhere.
    """
    error: int = 2
    """Retries after exceptions that differ from each other; the same one twice ends the run at once."""
    timeout: int = 1
    """Retries after a timeout or a hang."""
    backoff_s: float = 1.0
    """Wait before the first retry after a lost worker; doubles each time."""
    backoff_max_s: float = 60.0
    """Longest such wait."""


class RetryDecision(NamedTuple):
    """What becomes of a run after a failed attempt."""

    outcome: str
    """``pending`` to try again, else ``failed`` or ``quarantined``."""
    delay_s: float = 0.0
    """Seconds to wait before trying again."""
    elsewhere: bool = False
    """Whether to keep away from the host where it failed."""


def decide(policy: RetryPolicy, history: Sequence[Failure]) -> RetryDecision:
    """Say what becomes of a run whose failures so far, the newest last, are ``history``."""
    newest = history[-1]
    alike = [f for f in history if f.kind == newest.kind]
    num = len(alike)
    if newest.kind == ERROR and any(f.fingerprint == newest.fingerprint for f in alike[:-1]):
        return RetryDecision("quarantined")
    budgets = {
        INFRASTRUCTURE: policy.infrastructure,
        MEMORY: policy.memory,
        ERROR: policy.error,
        TIMEOUT: policy.timeout,
    }
    if num > budgets[newest.kind]:
        return RetryDecision("failed")
    if newest.kind == INFRASTRUCTURE:
        return RetryDecision("pending", min(policy.backoff_s * 2 ** (num - 1), policy.backoff_max_s))
    return RetryDecision("pending", elsewhere=newest.kind == MEMORY and num >= 2)


def shrink_for(history: Sequence[Failure]) -> int:
    """How often to halve the micro batch of a run with these failures: once; a third try goes elsewhere."""
    return int(any(f.kind == MEMORY for f in history))


OUT_OF_MEMORY_SIGNS = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")
"""What allocators say: CUDA, the kernel, torch's CPU allocator, cuBLAS."""


def classify(error: BaseException) -> Failure:
    """Turn an exception caught at the worker's boundary into a failure with its class and fingerprint."""
    name = type(error).__name__
    text = str(error).strip()
    known = isinstance(error, MemoryError) or name == "OutOfMemoryError"
    memory = known or any(sign in text.lower() for sign in OUT_OF_MEMORY_SIGNS)
    return Failure(
        MEMORY if memory else ERROR,
        fingerprint(error),
        f"{name}: {text.splitlines()[0][:300]}" if text else name,
        "".join(traceback.format_exception(error)),
    )


def fingerprint(error: BaseException) -> str:
    """Hash an exception's type and the file and function of each frame; line numbers and messages vary too
    easily.
    """
    frames = [f"{Path(f.filename).name}:{f.name}" for f in traceback.extract_tb(error.__traceback__)]
    return fingerprint_of(type(error).__qualname__, *frames)


def fingerprint_of(*parts: str) -> str:
    """Hash words that describe a failure without an exception, such as a lost worker."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:FINGERPRINT_LENGTH]
