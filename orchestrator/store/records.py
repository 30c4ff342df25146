"""Every record of a driver's journal as a typed value. Pure.

A record is one line of ``spool/driver-<epoch>.jsonl``: the JSON of :meth:`Record.to_json`, whose ``kind``
says which class reads it again. ``at`` is when it happened, Unix seconds; ``None`` in journals of format 1,
which kept the time of failures and epochs only: *time unknown*, not the year 1970. Runs go by run_id, which
outlives a changed grid.

============ ========================================================================================
kind         what happened
============ ========================================================================================
``epoch``    a driver began, having read so many bytes of every older file
``manifest`` a part of ``manifest.parquet`` or ``sweep.yaml``, so that the spools alone suffice
``lease``    a batch was granted to a worker, under consecutive tokens
``accept``   results were committed, each by its place in a spool
``end``      attempts ended that change nothing: cancelled, superseded, or too late
``failure``  an attempt failed and is charged to its run
``settle``   runs ended without a result
``reopen``   runs were given another chance; earlier failures no longer count
``void``     accepted results can no longer be read; a later ``accept`` counts again
``decision`` a race decided about a cell, and the runs that are not needed any more
``proposal`` a search proposed a trial, or further seeds of the best one
``stop``     early stopping ended a run by what it reported
``close``    the driver ended by itself
``unknown``  filler: a line that could not be mended was taken out; what it decided is unknown
============ ========================================================================================

A kind that is not listed is passed over by readers, so that a later version may add one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import starmap
from typing import Any, ClassVar, Literal, Self, get_args

from orchestrator.store.outcomes import AcceptedResult, EndedAttempt, Failure, Outcome, failure_class_of

RecordKind = Literal[
    "epoch",
    "manifest",
    "lease",
    "accept",
    "end",
    "failure",
    "settle",
    "reopen",
    "void",
    "decision",
    "proposal",
    "stop",
    "close",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One record; its fields are the keys of its JSON unless it says otherwise."""

    kind: ClassVar[RecordKind]
    """Says on disk which class it is."""
    at: float | None
    """When it happened, Unix seconds; ``None`` is unknown."""

    def to_json(self) -> dict[str, Any]:
        """The object of the journal's line."""
        return {"kind": self.kind} | {name: getattr(self, name) for name in _field_names(type(self))}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`; also reads what format 1 wrote, which lacked some keys."""
        found = {name: line[name] for name in _field_names(cls) if name in line}
        values: dict[str, Any] = {"at": None}
        values |= {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        return cls(**values)


_NAMES: dict[type, tuple[str, ...]] = {}


def _field_names(record: type[Record]) -> tuple[str, ...]:
    names = _NAMES.get(record)
    if names is None:
        names = _NAMES[record] = tuple(f.name for f in fields(record))
    return names


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRecord(Record):
    """A driver began."""

    kind: ClassVar[RecordKind] = "epoch"
    epoch: int
    """Number of this driver's life, one more than any before."""
    host: str
    pid: int
    manifest: str
    """Digest of the manifest."""
    runs: int
    """Runs of the manifest."""
    format: int = 1
    """Version of this journal's format."""
    read: Mapping[str, int] = field(default_factory=dict)
    """Bytes of every older journal and spool that this driver has read, by file name: what an older driver or
    its workers append later is not part of the sweep's history.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestRecord(Record):
    """A part of a frozen file; the line's body ``{"data": …}`` holds its bytes (:mod:`.frozen`)."""

    kind: ClassVar[RecordKind] = "manifest"
    name: str
    """Name of the file in the sweep directory."""
    sha256: str
    """Of the whole file."""
    part: int
    """Zero-based number of this part."""
    parts: int
    """How many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRecord(Record):
    """A batch was granted."""

    kind: ClassVar[RecordKind] = "lease"
    worker: str
    token: int
    """Fencing token of the first run; the others' follow it."""
    runs: Sequence[str]
    attempts: Sequence[int] = ()
    """Zero-based number of each run's try; empty when all are the first, and in format 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptRecord(Record):
    """Results were committed: each the first complete one of its run."""

    kind: ClassVar[RecordKind] = "accept"
    spool: str
    """Name of the file that holds them."""
    runs: Sequence[AcceptedResult]

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        runs = line["runs"]
        with_tokens = bool(runs) and len(runs[0]) == len(AcceptedResult._fields)
        # Made without a call of Python's own where that can be: a rebuild reads one for every run.
        runs = tuple(map(AcceptedResult._make, runs) if with_tokens else starmap(AcceptedResult, runs))
        return cls(at=line.get("at"), spool=line["spool"], runs=runs)


@dataclass(frozen=True, kw_only=True, slots=True)
class EndRecord(Record):
    """Attempts ended that change nothing: cancelled, superseded, or too late."""

    kind: ClassVar[RecordKind] = "end"
    attempts: Sequence[EndedAttempt]

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        return cls(at=line.get("at"), attempts=tuple(EndedAttempt(*ended) for ended in line["attempts"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureRecord(Record):
    """An attempt failed and is charged to its run."""

    kind: ClassVar[RecordKind] = "failure"
    run_id: str
    attempt: int
    """Zero-based number of the try."""
    token: int | None = None
    """The lease it ran under; ``None`` in format 1."""
    worker: str
    failure: Failure

    def to_json(self) -> dict[str, Any]:
        """The object of the journal's line."""
        failure = self.failure
        return {
            "kind": self.kind, "at": self.at, "run_id": self.run_id, "attempt": self.attempt,
            "token": self.token, "worker": self.worker, "class": failure.failure_class,
            "fingerprint": failure.fingerprint, "message": failure.message,
        }  # fmt: skip

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        failure = Failure(failure_class_of(line["class"]), line["fingerprint"], line["message"])
        known = {key: line.get(key) for key in ("at", "token")}
        return cls(
            run_id=line["run_id"], attempt=line["attempt"], worker=line["worker"], failure=failure, **known
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SettleRecord(Record):
    """Runs ended without a result."""

    kind: ClassVar[RecordKind] = "settle"
    runs: Sequence[str]
    outcome: Outcome
    """``failed``, ``quarantined`` or ``cancelled``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReopenRecord(Record):
    """Runs were given another chance; earlier failures no longer count."""

    kind: ClassVar[RecordKind] = "reopen"
    runs: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class VoidRecord(Record):
    """Accepted results can no longer be read; a later ``accept`` counts again."""

    kind: ClassVar[RecordKind] = "void"
    runs: Sequence[str]


ENDED = "ended"
"""Side of what was open when a race's budget was spent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionRecord(Record):
    """A race decided about a cell, or about two that it compares."""

    kind: ClassVar[RecordKind] = "decision"
    rule: Mapping[str, Any]
    """What was asked and how it is decided: the race's options, its metric filled in."""
    side: str
    """``above``, ``below``, ``within``, ``beaten``, ``best`` or ``tied``; ``ended`` where the race's budget
    was spent before.
    """
    cells: Sequence[str]
    """A run of each cell that it is about; the cell that is compared with the second comes first."""
    num_seeds: int
    """Seeds of each cell that it rests on, the first ones in seed order."""
    log_evidence: float
    """Natural logarithm of the evidence for it; 0 where the race ended undecided."""
    low: float | None
    """Lower end of the interval that holds at any stop, in the metric's unit; ``None`` is unbounded."""
    high: float | None
    runs: Sequence[str] = ()
    """Runs that are not needed any more: those without a result are ``skipped``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposalRecord(Record):
    """A search proposed a trial, or had the best one run on further seeds."""

    kind: ClassVar[RecordKind] = "proposal"
    number: int
    """Place among the search's proposals, from 0; of further seeds, that of the trial."""
    point: Mapping[str, Any]
    """Value of each axis that exists for it, the seed aside."""
    asked: Mapping[str, float]
    """What the sampler said, of the numbers that were rounded for the point."""
    seeds: Sequence[int]
    """Seeds that it is run on."""
    runs: Sequence[str]
    """Its run of each seed; none where the point is refused."""
    after: Sequence[int]
    """Proposals of which the sampler was told since the one before this."""
    held_out: bool = False
    """Whether these are further seeds of the best trial, of which the sampler learns nothing."""
    refused: str = ""
    """Why no run can be made of the point."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRecord(Record):
    """Early stopping ended a run by what it reported."""

    kind: ClassVar[RecordKind] = "stop"
    run_id: str
    step: int
    """The step at which it was stopped."""
    value: float
    """What it reported there."""
    rule: Mapping[str, Any]
    """What it was stopped by: the pruner's options, its metric filled in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CloseRecord(Record):
    """The driver ended by itself."""

    kind: ClassVar[RecordKind] = "close"
    reason: str
    """Why it stopped early; empty at the end of the sweep."""


JournalRecord = (
    EpochRecord
    | ManifestRecord
    | LeaseRecord
    | AcceptRecord
    | EndRecord
    | FailureRecord
    | SettleRecord
    | ReopenRecord
    | VoidRecord
    | DecisionRecord
    | ProposalRecord
    | StopRecord
    | CloseRecord
)

_CLASSES: dict[str, type[JournalRecord]] = {record.kind: record for record in get_args(JournalRecord)}


def record_of(line: Mapping[str, Any]) -> JournalRecord | None:
    """The record that a journal's line holds; ``None`` for a kind that this version does not know."""
    record = _CLASSES.get(line["kind"])
    return None if record is None else record.from_json(line)
