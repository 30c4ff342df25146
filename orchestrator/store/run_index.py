"""What is known of every run, in arrays; :mod:`.index_reader` fills them from the spools alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

from orchestrator.store.layout import OUTCOMES
from orchestrator.store.outcomes import AttemptEnd, Failure, FoundResult, Outcome
from orchestrator.store.records import DecisionRecord, StopRecord

CODE: dict[Outcome, int] = {name: code for code, name in enumerate(OUTCOMES)}
"""Outcomes as the small integers that the arrays hold."""

PENDING, DONE, DIVERGED = CODE["pending"], CODE["done"], CODE["diverged"]
SKIPPED, STOPPED = CODE["skipped"], CODE["stopped"]


class FailureNote(NamedTuple):
    """The last failure of a run, for tables."""

    failure: Failure
    """What went wrong."""
    attempt: int
    """Zero-based number of the try."""
    worker: str
    """Where it ran."""
    at: float | None
    """When, Unix seconds."""


class RunIndex:
    """Outcome, attempts and the place of the committed result of every run of a manifest."""

    def __init__(self, run_ids: Sequence[str]) -> None:
        num = len(run_ids)
        self.run_ids = run_ids
        """Identity of each run."""
        self.outcome = bytearray(num)
        """Code of each run's outcome, see :data:`CODE`."""
        self.attempts = array("H", bytes(2 * num))
        """Tries granted per run."""
        self.spools: list[str] = []
        """Names of the spool files that committed results lie in."""
        self.spool = array("I", bytes(4 * num))
        """Position in ``spools`` of each committed result."""
        self.offset = array("Q", bytes(8 * num))
        """First byte of each committed result's line."""
        self.length = array("I", bytes(4 * num))
        """Bytes of each committed result's line."""
        self.histories: dict[int, list[Failure]] = {}
        """Charged failures of each run that has any, oldest first."""
        self.notes: dict[int, FailureNote] = {}
        """The last failure of each run that has any."""
        self.decisions: list[DecisionRecord] = []
        """What a race decided, oldest first."""
        self.stops: dict[int, StopRecord] = {}
        """Where and why each run was stopped that early stopping has ended."""
        self._spool_numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.run_ids)

    def grow(self, run_ids: Sequence[str]) -> None:
        """Take in the runs that ``run_ids`` has behind these, all pending."""
        num = len(run_ids) - len(self.run_ids)
        self.run_ids = run_ids
        self.outcome.extend(bytes(num))
        for numbers in (self.attempts, self.spool, self.offset, self.length):
            numbers.frombytes(bytes(num * numbers.itemsize))

    def committed(self, index: int) -> bool:
        """Whether the run has a result."""
        return self.outcome[index] in (DONE, DIVERGED)

    @property
    def num_committed(self) -> int:
        """Runs with a result."""
        return self.outcome.count(DONE) + self.outcome.count(DIVERGED)

    def counts(self) -> dict[str, int]:
        """Runs per outcome."""
        return {str(name): self.outcome.count(code) for name, code in CODE.items()}

    def outcome_of(self, index: int) -> Outcome:
        """What can be said of a run."""
        return OUTCOMES[self.outcome[index]]

    def commit(self, index: int, outcome: Outcome, spool: str, offset: int, length: int) -> None:
        """Note where a run's result lies."""
        self.outcome[index] = CODE[outcome]
        self.spool[index] = self.spool_number(spool)
        self.offset[index] = offset
        self.length[index] = length

    def spool_number(self, name: str) -> int:
        """Position of a spool file in ``spools``."""
        number = self._spool_numbers.get(name)
        if number is None:
            number = self._spool_numbers[name] = len(self.spools)
            self.spools.append(name)
        return number

    def note_failure(self, index: int, note: FailureNote) -> None:
        """Remember a failed attempt."""
        self.histories.setdefault(index, []).append(note.failure)
        self.notes[index] = note

    def skipped(self) -> list[int]:
        """Runs that a race did without."""
        return [i for i, code in enumerate(self.outcome) if code == SKIPPED]

    def decide(self, record: DecisionRecord, skipped: Iterable[int]) -> None:
        """Remember what a race decided, and that it does without these runs."""
        self.decisions.append(record)
        for index in skipped:
            if self.outcome[index] == PENDING:
                self.outcome[index] = SKIPPED

    def stop(self, index: int, record: StopRecord) -> None:
        """Remember that early stopping has ended a run."""
        if not self.committed(index):
            self.outcome[index] = STOPPED
            self.stops[index] = record

    def stopped(self) -> list[int]:
        """Runs that early stopping has ended."""
        return [i for i, code in enumerate(self.outcome) if code == STOPPED]

    def reopen(self, index: int) -> None:
        """Make an unfinished or failed run pending again, with fresh budgets."""
        if not self.committed(index):
            if self.outcome[index] == SKIPPED:
                run_id = self.run_ids[index]
                self.decisions = [d for d in self.decisions if run_id not in d.runs]
            self.outcome[index] = PENDING
            self.stops.pop(index, None)
            self.histories.pop(index, None)
            self.notes.pop(index, None)

    def found(self, index: int) -> FoundResult:
        """A committed result, as something to commit."""
        outcome = cast(AttemptEnd, self.outcome_of(index))
        return FoundResult(index, self.spools[self.spool[index]], *self.location(index), outcome)

    def location(self, index: int) -> tuple[int, int]:
        """Offset and length of a committed result's line in its spool."""
        return self.offset[index], self.length[index]
