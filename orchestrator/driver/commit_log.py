"""Makes what the scheduler decides durable: journal, SQLite, spools of other nodes, logs, Parquet, weights.

Nothing here decides. :meth:`CommitLog.flush` is the commit point: what was accepted before is durable after.
"""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from orchestrator.driver.retention import Retention
from orchestrator.pools.base import Shipped
from orchestrator.scheduling import events as ev
from orchestrator.store import compaction
from orchestrator.store.attempts import AttemptBegan
from orchestrator.store.index_reader import ReplayResult, results_of
from orchestrator.store.journal import begin_epoch
from orchestrator.store.layout import Layout
from orchestrator.store.lock import DriverLock
from orchestrator.store.memory import give_back
from orchestrator.store.outcomes import Grant
from orchestrator.store.parts import PartWriter, kept_parts
from orchestrator.store.records import DecisionRecord, ProposalRecord, StopRecord
from orchestrator.store.run_index import CODE, FailureNote
from orchestrator.store.spool import Line, LineReader, SpoolWriter
from orchestrator.store.state import RunRow
from orchestrator.store.state_reader import is_complete
from orchestrator.store.state_rebuild import close_state, opened_state, row_without_result
from orchestrator.worker.protocol import Task
from orchestrator.worker.reported import ReportLog
from sweeps.manifest.manifest import Manifest, space_keys
from sweeps.spec.errors import LostLockError
from trainers.run_result import scalars_from_json

CAUGHT_UP = 500
"""Results of drivers before that no table and no part holds yet, added to the parts at one flush: half a
second or less.
"""


class CommitLog:
    """The one writer of a sweep directory, workers' spools apart."""

    def __init__(
        self,
        *,
        layout: Layout,
        manifest: Manifest,
        reading: ReplayResult,
        reopened: Collection[int] = (),
        lock: DriverLock | None = None,
        say: Callable[[str], None] = lambda _: None,
        on_end: Sequence[Callable[[int, Line | None], None]] = (),
    ) -> None:
        """Begin a driver's life: commit what a dead one left, bring the index up to date.

        Args:
            layout: the directory, whose lock is held.
            manifest: the runs.
            reading: the directory's truth; its book is kept up to date from here on.
            reopened: runs that the book already shows as pending again.
            lock: asked at every flush whether the directory is still ours.
            say: tells people something.
            on_end: all are called with each run that is over, and its result's line once that is durable.
        """
        self.book = reading.book
        """Outcome and place of every run."""
        self.num_new = 0
        """Results committed in this life."""
        self._layout, self._manifest, self._say = layout, manifest, say
        self._lock, self._listeners = lock, on_end
        if lock is not None:
            lock.check()
        fill = bool(reading.adopted or reading.unreadable) or not is_complete(layout, manifest)
        self._journal = begin_epoch(layout, manifest.digest, reading)
        self._journal.reopen(sorted(reopened), time.time())
        self._journal.sync()
        self._state = opened_state(layout, manifest, self.book, self._journal.epoch, fill=fill)
        for index in reopened:
            self._state.pending_again(manifest.run_ids[index])
        self._held = kept_parts(layout, self.book)
        self._num_held = len(manifest)
        self._parts = PartWriter(layout, {axis.key for axis in manifest.axes} | space_keys(manifest))
        self._lines = LineReader(layout.spools)
        self._retention = Retention(layout.root / "checkpoints")
        committed = (i for i in range(len(self.book)) if self.book.committed(i))
        self._earlier = array("I", (i for i in committed if i not in self._held))
        self._is_behind = not layout.table("runs").exists()
        self._uncompacted: list[int] = []
        self._copies: dict[str, SpoolWriter] = {}
        self._report_copies: dict[str, ReportLog] = {}

    @property
    def epoch(self) -> int:
        """Number of this driver's life."""
        return self._journal.epoch

    @property
    def has_news(self) -> bool:
        """Whether results wait for the next flush."""
        return bool(self._uncompacted)

    def granted(self, worker: str, items: Sequence[Task]) -> None:
        """A batch is about to be handed out: written first, since what its attempts report outlives a driver
        that is killed, and the next one must not give their numbers again.

        Raises:
            LostLockError: when another driver has taken the directory.
        """
        self.require_ours()
        at = time.time()
        self._journal.lease(worker, [item.grant for item in items], at)
        self._state.granted(AttemptBegan(i.grant.token, i.run_id, i.grant.attempt, worker, at) for i in items)
        with contextlib.suppress(OSError):  # it stays gathered; the next flush tells of the full disk
            self._journal.write()

    def note_ends(self, action: ev.NoteEnds) -> None:
        """Record attempts that change nothing."""
        self._journal.ended(action.reports, time.time())
        self._state.ended((r.outcome, r.token) for r in action.reports)

    def accept(self, action: ev.Accept) -> None:
        """Commit results."""
        self._journal.accept(action.reports, time.time())
        run_ids, worker = self._manifest.run_ids, action.worker
        for r in action.reports:
            self.book.commit(r.run, r.outcome, r.spool, r.offset, r.length)
            self._uncompacted.append(r.run)
        self.num_new += len(action.reports)
        self._state.ended((r.outcome, r.token) for r in action.reports)
        self._state.settled(
            RunRow(run_ids[r.run], r.outcome, r.attempt, worker, r.spool, r.offset, r.length, r.finished_at)
            for r in action.reports
        )

    def note_failure(self, action: ev.NoteFailure) -> None:
        """Record a failed attempt, its traceback in a log of its own."""
        failure, at = action.failure, time.time()
        grant = Grant(action.run, action.attempt, action.token)
        self._journal.failure(grant, action.worker, failure, at)
        self._state.ended([("failed", action.token)])
        note = FailureNote(failure._replace(details=""), action.attempt, action.worker, at)
        self.book.notes[action.run] = note
        log = self._layout.attempt_log(self._manifest.run_ids[action.run], action.attempt)
        with contextlib.suppress(OSError):  # the journal has the message; a full disk must not stop us here
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as file:  # a command's own output is in it already
                file.write(failure.details or failure.message + "\n")

    def settle(self, action: ev.Settle) -> None:
        """Record the end of a run without a result."""
        self._journal.settle([action.run], action.outcome, time.time())
        self.book.outcome[action.run] = CODE[action.outcome]
        self._state.settled([row_without_result(self.book, action.run)])
        self._on_end(action.run, None)
        note = self.book.notes.get(action.run)
        if note is not None and action.outcome != "cancelled":
            log = self._layout.attempt_log(self._manifest.run_ids[action.run], note.attempt)
            name = self._manifest.name(action.run)
            self._say(f"{action.outcome}: {name}: {note.failure.message} (see {log})")

    def decided(self, record: DecisionRecord, skipped: Sequence[int]) -> None:
        """Record what a race decided, and that the runs ``skipped``, all pending, are not needed any more."""
        self._journal.decided(record)
        self.book.decide(record, skipped)
        self._state.settled(row_without_result(self.book, index) for index in skipped)

    def _on_end(self, run: int, line: Line | None) -> None:
        for listener in self._listeners:
            listener(run, line)

    def stopped(self, record: StopRecord, run: int) -> None:
        """Record that early stopping has ended a run."""
        self._journal.stopped(record)
        self.book.stop(run, record)
        self._state.settled([row_without_result(self.book, run)])
        self._on_end(run, None)

    def proposed(self, records: Iterable[ProposalRecord]) -> None:
        """Record what a search proposed."""
        for record in records:
            self._journal.proposed(record)

    def grow(self, manifest: Manifest) -> None:
        """Take in further runs behind the others."""
        self._manifest = manifest
        self.book.grow(manifest.run_ids)
        self._journal.know(manifest.run_ids)

    def earlier_results(self) -> Iterator[tuple[int, Line]]:
        """Runs that had a result when this life began, each with its line where that can still be read."""
        return results_of(self.book, self._lines)

    def store_copy(self, shipped: Shipped) -> None:
        """Append another node's spooled bytes to our copy, at the same offsets, synced before they count."""
        worker = shipped.reported.worker
        if shipped.rows:
            self._reports_of(worker).write(shipped.rows)
        if not shipped.lines:
            return
        if worker not in self._copies:
            self._copies[worker] = SpoolWriter(self._layout.spool(worker))
        self._copies[worker].append(shipped.lines)
        self._copies[worker].sync()

    def _reports_of(self, worker: str) -> ReportLog:
        if worker not in self._report_copies:
            self._report_copies[worker] = ReportLog(self._layout.report_file(worker), ship=False)
        return self._report_copies[worker]

    def worker_is_gone(self, worker: str) -> None:
        """No more bytes will come from a worker."""
        for copies in (self._copies, self._report_copies):
            copy = copies.pop(worker, None)
            if copy is not None:
                copy.close()

    def flush(self) -> bool:
        """Make everything so far durable; true when results were among it.

        Raises:
            OSError: when the disk is full or fails; nothing is forgotten, and a later call tries again.
            LostLockError: when another driver has taken the directory; nothing is written then.
        """
        self.require_ours()
        self._journal.sync()
        self._state.flush(self._journal.num_bytes)
        found = bool(self._uncompacted)
        while self._uncompacted:
            if (line := self._compact(self._uncompacted[-1])) is not None:
                self._on_end(self._uncompacted[-1], line)
            self._uncompacted.pop()
        for _ in range(min(CAUGHT_UP, len(self._earlier)) if self._is_behind else 0):
            self._compact(self._earlier[-1])
            self._earlier.pop()
        if self._parts.is_due(time.monotonic()):
            self._parts.write_part()
        return found

    def require_ours(self) -> None:
        """Raise unless no other driver has taken the directory.

        Raises:
            LostLockError: when one has.
        """
        if self._lock is None:
            return
        self._lock.check()
        if self._layout.journal(self._journal.epoch + 1).exists():
            raise LostLockError(
                f"directory {str(self._layout.root)!r}: another driver has begun; this one stops and commits "
                "nothing more"
            )

    def finish(self, reason: str) -> None:
        """End this driver's life and write the tables.

        Raises:
            OSError: when the disk is full or fails; committed results are safe, the tables may lag behind.
            LostLockError: when another driver has taken the directory.
        """
        self.require_ours()
        if len(self._manifest) > self._num_held:
            self._journal.hold(self._layout.manifest, time.time())
            self._state.about(self._manifest.digest)
        self._journal.close(reason, time.time())
        close_state(self._layout, self._state, self._journal.num_bytes)
        for index in self._earlier:
            self._compact(index)
        for index in self._held:
            resources = self._manifest.group("resources", index)
            if resources.keep_checkpoints == "best" and (line := self._line(index)) is not None:
                metrics, _ = scalars_from_json(line.result())
                self._retention.take(self._manifest.run_ids[index], metrics, resources)
        self._lines.close()
        self._parts.write_part()
        give_back()
        self.require_ours()
        compaction.merge(self._layout, self._manifest, self.book)

    def _line(self, index: int) -> Line | None:
        """The line of a committed result; ``None`` where it cannot be read any more."""
        return self._lines.read(self.book.spools[self.book.spool[index]], *self.book.location(index))

    def _compact(self, index: int) -> Line | None:
        """Add a committed result to the Parquet parts; one that can no longer be read is pending again."""
        if self._parts.is_full:
            self._parts.write_part()
        line = self._line(index)
        run_id = self._manifest.run_ids[index]
        if line is None:
            self.book.outcome[index] = CODE["pending"]
            self._journal.void([index], time.time())
            self._state.pending_again(run_id)
            self._say(f"the result of run {run_id} can no longer be read; resume runs it again")
            return None
        metrics = self._parts.add(index, line)
        self._retention.take(run_id, metrics, self._manifest.group("resources", index))
        return line
