"""Writes the driver's own spool: what it decided, in order. Owns ``spool/driver-<epoch>.jsonl``.

:mod:`orchestrator.store.records` says what the lines mean.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.store import digest_writer, digests
from orchestrator.store.frozen import FROZEN, parts_of_file
from orchestrator.store.index_reader import ReplayResult, next_epoch
from orchestrator.store.layout import FORMAT_VERSION, Layout
from orchestrator.store.outcomes import (
    AcceptedResult,
    AttemptReport,
    EndedAttempt,
    Failure,
    FoundResult,
    Grant,
    Outcome,
)
from orchestrator.store.records import (
    AcceptRecord,
    CloseRecord,
    DecisionRecord,
    EndRecord,
    EpochRecord,
    FailureRecord,
    JournalRecord,
    LeaseRecord,
    ProposalRecord,
    ReopenRecord,
    SettleRecord,
    StopRecord,
    VoidRecord,
)
from orchestrator.store.spool import SpoolWriter, encode_line

TOKEN_BITS = 40
"""Low bits of a fencing token that count grants; the epoch lies above, so that a rebuilt driver never
reissues one.
"""


def first_token(epoch: int) -> int:
    """The smallest fencing token of a driver's life."""
    return (epoch << TOKEN_BITS) + 1


class Journal:
    """One driver's journal; runs are given by their index. Records gather in memory until :meth:`write`;
    :meth:`sync` makes them durable.
    """

    def __init__(self, layout: Layout, epoch: int, run_ids: Sequence[str]) -> None:
        self.epoch = epoch
        """Number of the driver's life."""
        self._layout = layout
        self._writer = SpoolWriter(layout.journal(epoch))
        self._run_ids = run_ids
        self._gathered: deque[bytes] = deque()

    @property
    def num_bytes(self) -> int:
        """Bytes written so far."""
        return self._writer.size

    def lease(self, worker: str, grants: Sequence[Grant], at: float) -> None:
        """A batch was granted."""
        attempts = tuple(g.attempt for g in grants) if any(g.attempt for g in grants) else ()
        runs = self._ids([g.run for g in grants])
        self._write(LeaseRecord(at=at, worker=worker, token=grants[0].token, runs=runs, attempts=attempts))

    def accept(self, reports: Sequence[AttemptReport], at: float) -> None:
        """Results were committed."""
        self.adopt([FoundResult(r.run, r.spool, r.offset, r.length, r.outcome, r.token) for r in reports], at)

    def adopt(self, results: Sequence[FoundResult], at: float) -> None:
        """Results that nobody had committed were."""
        by_spool: dict[str, list[AcceptedResult]] = {}
        for run, spool, offset, length, outcome, token in results:
            accepted = AcceptedResult(self._run_ids[run], offset, length, outcome, token)
            by_spool.setdefault(spool, []).append(accepted)
        for spool, accepts in by_spool.items():
            self._write(AcceptRecord(at=at, spool=spool, runs=accepts))

    def ended(self, reports: Sequence[AttemptReport], at: float) -> None:
        """Attempts ended that change nothing."""
        attempts = [EndedAttempt(self._run_ids[r.run], r.token, r.outcome) for r in reports]
        self._write(EndRecord(at=at, attempts=attempts))

    def failure(self, grant: Grant, worker: str, failure: Failure, at: float) -> None:
        """An attempt failed."""
        self._write(
            FailureRecord(
                at=at,
                run_id=self._run_ids[grant.run],
                attempt=grant.attempt,
                token=grant.token,
                worker=worker,
                failure=failure,
            )
        )

    def settle(self, indices: Sequence[int], outcome: Outcome, at: float) -> None:
        """Runs ended without a result."""
        self._write(SettleRecord(at=at, runs=self._ids(indices), outcome=outcome))

    def reopen(self, indices: Sequence[int], at: float) -> None:
        """Runs get another chance."""
        if indices:
            self._write(ReopenRecord(at=at, runs=self._ids(indices)))

    def void(self, indices: Sequence[int], at: float) -> None:
        """Accepted results can no longer be read."""
        if indices:
            self._write(VoidRecord(at=at, runs=self._ids(indices)))

    def decided(self, record: DecisionRecord) -> None:
        """A race decided."""
        self._write(record)

    def know(self, run_ids: Sequence[str]) -> None:
        """Further runs, behind the others."""
        self._run_ids = run_ids

    def proposed(self, record: ProposalRecord) -> None:
        """A search proposed a trial."""
        self._write(record)

    def stopped(self, record: StopRecord) -> None:
        """Early stopping ended a run."""
        self._write(record)

    def close(self, reason: str, at: float) -> None:
        """The driver ended by itself."""
        self._write(CloseRecord(at=at, reason=reason))
        self.sync()
        self._writer.close()
        digest_writer.record(self._layout, self._writer.path)

    def write(self) -> None:
        """Write what has gathered: it outlives this process, and the machine only after :meth:`sync`.

        Raises:
            OSError: when the disk is full; what is not written stays for the next call.
        """
        while self._gathered:
            self._writer.append(self._gathered[0])
            self._gathered.popleft()

    def sync(self) -> None:
        """Write what has gathered and force it to the disk.

        Raises:
            OSError: as :meth:`write`.
        """
        self.write()
        self._writer.sync()

    def hold(self, path: Path, at: float) -> None:
        """Write down a frozen file's content, behind what has gathered."""
        self.write()
        for record, body in parts_of_file(path, at):
            self.write_now(record, body)

    def write_now(self, record: JournalRecord, body: Mapping[str, Any] | None = None) -> None:
        """Write a record at once, with what it carries; durable after :meth:`sync`."""
        self._writer.append(encode_line(record.to_json(), body))

    def _ids(self, indices: Sequence[int]) -> list[str]:
        return [self._run_ids[i] for i in indices]

    def _write(self, record: JournalRecord) -> None:
        self._gathered.append(encode_line(record.to_json()))


def begin_epoch(layout: Layout, digest: str, reading: ReplayResult) -> Journal:
    """Begin a driver's life: who it is, what it has read, and the frozen files that no journal holds yet.

    What reading found goes along: results that nobody had committed are, those that can no longer be read are
    void.

    Args:
        layout: the directory, whose lock is held.
        digest: of the manifest.
        reading: what the directory holds.
    """
    epoch, at, run_ids = next_epoch(layout), time.time(), reading.book.run_ids
    journal = Journal(layout, epoch, run_ids)
    journal.write_now(
        EpochRecord(
            at=at, epoch=epoch, host=socket.gethostname(), pid=os.getpid(), manifest=digest,
            runs=len(run_ids), format=FORMAT_VERSION, read=reading.health.read_bytes,
        )
    )  # fmt: skip
    for name in FROZEN:
        path = layout.root / name
        if path.exists() and reading.journalled.get(name) != digests.sha256_of(path):
            journal.hold(path, at)
    journal.void(reading.unreadable, at)
    journal.adopt(reading.adopted, at)
    journal.sync()
    read = reading.health.read_bytes
    digest_writer.record_beginnings(
        layout, {p: read[p.name] for p in layout.journal_paths() if p.name in read}
    )
    return journal
