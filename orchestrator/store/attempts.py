"""From journal records to attempts: when each began, where, and how it ended. Pure.

Journals of format 1 name a lease's token only where it was granted; there an end is matched to its attempt by
number or worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.store.outcomes import AttemptEnd, Failure
from orchestrator.store.records import (
    AcceptRecord,
    EndRecord,
    EpochRecord,
    FailureRecord,
    JournalRecord,
    LeaseRecord,
)


class AttemptBegan(NamedTuple):
    """A run was handed to a worker."""

    token: int
    """The lease."""
    run_id: str
    attempt: int
    """Zero-based number of the try."""
    worker: str
    at: float | None
    """When, Unix seconds; ``None`` is unknown."""


class AttemptOver(NamedTuple):
    """An attempt ended."""

    token: int
    """The lease."""
    ended: AttemptEnd
    at: float | None
    """When its driver wrote that down, Unix seconds; ``None`` is unknown."""
    failure: Failure | None = None


class AttemptReader:
    """Reads the records of all journals in order, one at a time."""

    def __init__(self) -> None:
        self._without_tokens = False
        self._begun: dict[str, list[AttemptBegan]] = {}

    def changes(self, record: JournalRecord) -> Iterator[AttemptBegan | AttemptOver]:
        """What a record says of attempts."""
        match record:
            case EpochRecord():
                self._without_tokens = record.format < 2
            case LeaseRecord():
                yield from self._leased(record)
            case AcceptRecord():
                for result in record.runs:
                    token = result.token
                    if token is None:
                        token = self._token_on(result.run_id, record.spool.removesuffix(".jsonl"))
                    if token is not None:
                        yield AttemptOver(token, result.outcome, record.at)
            case FailureRecord():
                token = record.token
                if token is None:
                    token = self._token_of(record.run_id, record.attempt)
                if token is not None:
                    yield AttemptOver(token, "failed", record.at, record.failure)
            case EndRecord():
                for end in record.attempts:
                    yield AttemptOver(end.token, end.outcome, record.at)

    def _leased(self, record: LeaseRecord) -> Iterator[AttemptBegan]:
        for position, run_id in enumerate(record.runs):
            if self._without_tokens:
                attempt = len(self._begun.get(run_id, ()))
            else:
                attempt = record.attempts[position] if record.attempts else 0
            began = AttemptBegan(record.token + position, run_id, attempt, record.worker, record.at)
            if self._without_tokens:
                self._begun.setdefault(run_id, []).append(began)
            yield began

    def _token_on(self, run_id: str, worker: str) -> int | None:
        """The newest lease of a run on a worker."""
        leases = (began.token for began in reversed(self._begun.get(run_id, ())) if began.worker == worker)
        return next(leases, None)

    def _token_of(self, run_id: str, attempt: int) -> int | None:
        """The lease of a run's attempt by its number."""
        begun = self._begun.get(run_id, ())
        return begun[attempt].token if attempt < len(begun) else None
