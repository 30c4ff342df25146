"""Makes what the scheduler decides durable: journal, SQLite, spools of other nodes, logs, Parquet, weights.

Nothing here decides. :meth:`CommitLog.flush` is the commit point: what was accepted before is durable after.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from orchestrator.driver.retention import Retention
from orchestrator.pools.base import Shipped
from orchestrator.scheduling import events as ev
from orchestrator.store import compaction
from orchestrator.store.journal import Journal
from orchestrator.store.layout import OUTCOMES, Layout
from orchestrator.store.memory import give_back
from orchestrator.store.parts import PartWriter, drop_parts
from orchestrator.store.run_index import CODE, DIVERGED, DONE, PENDING, FailureNote, ReplayResult
from orchestrator.store.spool import LineReader, SpoolWriter
from orchestrator.store.sqlite_path import state_path
from orchestrator.store.state import StateWriter
from orchestrator.worker.protocol import Task
from sweeps.manifest.manifest import Manifest


class CommitLog:
    """The one writer of a sweep directory, workers' spools apart."""

    def __init__(
        self,
        *,
        layout: Layout,
        manifest: Manifest,
        reading: ReplayResult,
        epoch: int,
        reopened: Collection[int] = (),
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Begin a driver's life: commit what a dead one left, bring the index up to date.

        Args:
            layout: the directory, whose lock is held.
            manifest: the runs.
            reading: the directory's truth; its book is kept up to date from here on.
            epoch: number of this driver's life.
            reopened: runs that the book already shows as pending again.
            say: tells people something.
        """
        self.book = reading.book
        """Outcome and place of every run."""
        self.num_new = 0
        """Results committed in this life."""
        self._layout, self._manifest, self._say = layout, manifest, say
        self._journal = Journal(layout, epoch, manifest.run_ids)
        self._journal.epoch(epoch, socket.gethostname(), os.getpid(), manifest.digest)
        if reopened:
            self._journal.reopen(sorted(reopened))
        self._journal.void(reading.void)
        self._journal.adopt(reading.adopted)
        self._journal.sync()
        self._state = StateWriter(state_path(layout), epoch=epoch, manifest=manifest.digest)
        self._state.replace_all(self._rows_of_earlier())
        drop_parts(layout)
        self._parts = PartWriter(layout)
        self._lines = LineReader(layout.spools)
        self._retention = Retention(layout.root / "checkpoints")
        self._earlier = array("I", (i for i in range(len(self.book)) if self.book.committed(i)))
        self._uncompacted: list[int] = []
        self._copies: dict[str, SpoolWriter] = {}

    def granted(self, worker: str, items: Sequence[Task]) -> None:
        """A batch is about to be handed out."""
        at = time.time()
        grants = [item.grant for item in items]
        self._journal.lease(worker, grants)
        self._state.granted((i.grant.token, i.run_id, i.grant.attempt, worker, at) for i in items)

    def ended(self, reports: Iterable[ev.AttemptReport]) -> None:
        """Attempts ended, whatever becomes of them."""
        self._state.ended((r.outcome, r.token) for r in reports)

    def accept(self, action: ev.Accept) -> None:
        """Commit results."""
        self._journal.accept(action)
        run_ids, rows = self._manifest.run_ids, []
        for r in action.reports:
            self.book.commit(r.run, r.outcome, r.spool, r.offset, r.length)
            place = (r.spool, r.offset, r.length, r.finished_at, r.wall_s)
            rows.append((run_ids[r.run], r.outcome, r.attempt, action.worker, *place, None, None, None))
            self._uncompacted.append(r.run)
        self.num_new += len(rows)
        self._state.settled(rows)

    def note_failure(self, action: ev.NoteFailure) -> None:
        """Record a failed attempt, its traceback in a log of its own."""
        failure, at = action.failure, time.time()
        self._journal.failure(action, at)
        note = FailureNote(failure._replace(details=""), action.attempt, action.worker, at)
        self.book.notes[action.run] = note
        log = self._layout.attempt_log(self._manifest.run_ids[action.run], action.attempt)
        with contextlib.suppress(OSError):  # the journal has the message; a full disk must not stop us here
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(failure.details or failure.message + "\n")

    def settle(self, action: ev.Settle) -> None:
        """Record the end of a run without a result."""
        self._journal.settle([action.run], action.outcome)
        self.book.outcome[action.run] = CODE[action.outcome]
        self._state.settled([self._row_without_result(action.run)])
        note = self.book.notes.get(action.run)
        if note is not None and action.outcome != "cancelled":
            log = self._layout.attempt_log(self._manifest.run_ids[action.run], note.attempt)
            name = self._manifest.name(action.run)
            self._say(f"{action.outcome}: {name}: {note.failure.message} (see {log})")

    def store_copy(self, shipped: Shipped) -> None:
        """Append another node's spooled bytes to our copy, at the same offsets, synced before they count."""
        worker = shipped.reported.worker
        if worker not in self._copies:
            self._copies[worker] = SpoolWriter(self._layout.spool(worker))
        self._copies[worker].append(shipped.lines)
        self._copies[worker].sync()

    def worker_is_gone(self, worker: str) -> None:
        """No more bytes will come from a worker."""
        copy = self._copies.pop(worker, None)
        if copy is not None:
            copy.close()

    def flush(self) -> bool:
        """Make everything so far durable; true when results were among it.

        Raises:
            OSError: when the disk is full or fails; nothing is forgotten, and a later call tries again.
        """
        self._journal.sync()
        self._state.flush(self._journal.num_bytes)
        found = bool(self._uncompacted)
        while self._uncompacted:
            self._compact(self._uncompacted[-1])
            self._uncompacted.pop()
        if self._parts.is_due(time.monotonic()):
            self._parts.write_part()
        return found

    def finish(self, reason: str) -> None:
        """End this driver's life and write the tables.

        Raises:
            OSError: when the disk is full or fails; committed results are safe, the tables may lag behind.
        """
        self._journal.end(reason)
        self._state.close(self._journal.num_bytes)
        for index in self._earlier:
            self._compact(index)
        self._lines.close()
        self._parts.write_part()
        give_back()
        compaction.merge(self._layout, self._manifest, self.book)

    def _compact(self, index: int) -> None:
        """Add a committed result to the Parquet parts; one that can no longer be read is pending again."""
        if self._parts.is_full:
            self._parts.write_part()
        line = self._lines.read(self.book.spools[self.book.spool[index]], *self.book.place(index))
        run_id = self._manifest.run_ids[index]
        if line is None:
            self.book.outcome[index] = CODE["pending"]
            self._journal.void([index])
            self._state.pending_again(run_id)
            self._say(f"the result of run {run_id} can no longer be read; resume runs it again")
            return
        metrics = self._parts.add(index, line)
        self._retention.take(run_id, metrics, self._manifest.group("resources", index))

    def _rows_of_earlier(self) -> Iterator[tuple]:
        """The rows of runs that were over before this life."""
        book = self.book
        for index, code in enumerate(book.outcome):
            if code in (DONE, DIVERGED):
                spool = book.spools[book.spool[index]]
                worker = spool.removesuffix(".jsonl")
                yield (
                    book.run_ids[index],
                    OUTCOMES[code],
                    None,
                    worker,
                    spool,
                    *book.place(index),
                    *[None] * 5,
                )
            elif code != PENDING:
                yield self._row_without_result(index)

    def _row_without_result(self, index: int) -> tuple:
        """The row of a run that ended in failure or was cancelled."""
        outcome, note = OUTCOMES[self.book.outcome[index]], self.book.notes.get(index)
        if note is None or outcome == "cancelled":
            return (self.book.run_ids[index], outcome, *[None] * 10)
        why = (note.failure.kind, note.failure.message, note.failure.fingerprint)
        return (
            self.book.run_ids[index],
            outcome,
            note.attempt,
            note.worker,
            *[None] * 3,
            note.at,
            None,
            *why,
        )
