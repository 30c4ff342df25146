"""Failure classes and what to do about each: pure decisions over a run's history of failures.

============== ================================================= =========================================
class          meaning                                           answer
============== ================================================= =========================================
infrastructure its worker, node or raylet went away              many retries, with backoff
oom            out of memory                                     smaller micro batch, then another host
error          an exception that may pass (a connection, a busy  again, after a wait; the same one twice is
               disk, CUDA, …; :mod:`.passing_errors`)            quarantined
error          any other exception: the same code would raise    quarantined at once
               the same again
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
from typing import Literal, NamedTuple

from orchestrator.scheduling.passing_errors import may_pass
from orchestrator.store.outcomes import ERROR, INFRASTRUCTURE, OOM, TIMEOUT, Failure, FailureClass

FINGERPRINT_LENGTH = 12
"""Hex digits of a fingerprint: 48 bits tell a sweep's few kinds of failure apart and still fit in a table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Budgets, each counted per run and class."""

    infrastructure: int = 8
    """Retries after a lost worker: with backoff this outlasts the reboot of a node, yet a run that kills its
    workers ends.
    """
    oom: int = 3
    """Retries after running out of memory, all with half the micro batch: the first anywhere, the others away
    from the host of the failure before.
    """
    error: int = 2
    """Retries after exceptions that may pass and differ from each other; the same one twice, and one that
    cannot pass, ends the run at once.
    """
    timeout: int = 1
    backoff_s: float = 1.0
    """Wait before the first retry after a lost worker or an exception that may pass; doubles each time."""
    backoff_max_s: float = 60.0
    """Longest such wait."""


class RetryDecision(NamedTuple):
    """What becomes of a run after a failed attempt."""

    outcome: Literal["pending", "failed", "quarantined"]
    """``pending`` to try again."""
    delay_s: float = 0.0
    """Seconds to wait before trying again."""
    elsewhere: bool = False
    """Whether to keep away from the host where it failed."""


def decide(policy: RetryPolicy, history: Sequence[Failure]) -> RetryDecision:
    """Say what becomes of a run whose failures so far, the newest last, are ``history``."""
    newest = history[-1]
    alike = [f for f in history if f.failure_class == newest.failure_class]
    num = len(alike)
    seen_before = any(f.fingerprint == newest.fingerprint for f in alike[:-1])
    if newest.failure_class == ERROR and (seen_before or not newest.may_pass):
        return RetryDecision("quarantined")
    budgets: dict[FailureClass, int] = {
        INFRASTRUCTURE: policy.infrastructure,
        OOM: policy.oom,
        ERROR: policy.error,
        TIMEOUT: policy.timeout,
    }
    if num > budgets[newest.failure_class]:
        return RetryDecision("failed")
    if newest.failure_class in (INFRASTRUCTURE, ERROR):
        return RetryDecision("pending", min(policy.backoff_s * 2 ** (num - 1), policy.backoff_max_s))
    return RetryDecision("pending", elsewhere=newest.failure_class == OOM and num >= 2)


def shrink_for(history: Sequence[Failure]) -> int:
    """How often to halve the micro batch of a run with these failures: once, if ever it was out of memory."""
    return int(any(f.failure_class == OOM for f in history))


OUT_OF_MEMORY_SIGNS = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")
"""What allocators say: CUDA, the kernel, torch's CPU allocator, cuBLAS."""


def classify(error: BaseException) -> Failure:
    """Turn an exception caught at the worker's boundary into a failure with its class and fingerprint."""
    name = type(error).__name__
    try:
        text = str(error).strip()
    except Exception as second:  # an exception of the trainer's own that cannot even say its message
        text = f"its message cannot be read ({type(second).__name__})"
    known = isinstance(error, MemoryError) or name == "OutOfMemoryError"
    oom = known or any(sign in text.lower() for sign in OUT_OF_MEMORY_SIGNS)
    return Failure(
        OOM if oom else ERROR,
        fingerprint(error),
        _unicode(f"{name}: {text.splitlines()[0][:300]}" if text else name),
        _unicode(_story(error)),
        may_pass=not oom and may_pass(error),
    )


def _story(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return "".join(traceback.format_tb(error.__traceback__))


def _unicode(text: str) -> str:
    """Text that any file can hold: names of files that are no UTF-8 reach messages as half characters."""
    return text.encode(errors="backslashreplace").decode()


def fingerprint(error: BaseException) -> str:
    """Hash an exception's type and the file and function of each frame; line numbers and messages vary too
    easily. One that tells of another program says itself what else tells it apart, by ``fingerprint_words``.
    """
    frames = [f"{Path(f.filename).name}:{f.name}" for f in traceback.extract_tb(error.__traceback__)]
    return fingerprint_of(type(error).__qualname__, *frames, *getattr(error, "fingerprint_words", ()))


def fingerprint_of(*parts: str) -> str:
    """Hash words that describe a failure without an exception, such as a lost worker."""
    return hashlib.sha256("\n".join(parts).encode(errors="backslashreplace")).hexdigest()[:FINGERPRINT_LENGTH]
