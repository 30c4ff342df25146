"""Stops runs early within a driver: reads what they report, and writes down which are stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from orchestrator.driver.observing import finite
from orchestrator.planning.prune_question import PruneQuestion
from orchestrator.store.layout import Layout
from orchestrator.store.records import StopRecord
from orchestrator.store.reports import ReportedRow, ReportFollower
from orchestrator.store.run_index import PENDING, RunIndex
from orchestrator.store.spool import Line
from sweeps.manifest.manifest import Manifest
from trainers.run_result import scalars_from_json


class Pruning:
    """The early stopping of one directory's runs."""

    def __init__(
        self,
        question: PruneQuestion,
        layout: Layout,
        manifest: Manifest,
        book: RunIndex,
        results: Iterable[tuple[int, Line]],
        spared: Collection[int] = (),
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Begin where the directory stands: what was reported and ended so far is told in the order in which
        it happened; which runs were stopped by it stands in the journals.

        Args:
            question: what is asked.
            manifest: the runs.
            book: what is known of each.
            results: runs that have a result, each with its line.
            spared: runs that are never stopped, as of now and later.
            say: tells people something.
        """
        self._question, self._book, self._say = question, book, say
        self._spared, self._index = spared, manifest.index_of
        self._stopping = question.begin()
        self._follower = ReportFollower(layout)
        self._telling: dict[str, float] = {}
        """The metric as each run has reported it last."""
        self._ended: list[tuple[int, Line | None]] = []
        self._silent: str | None = None
        self._others: dict[str, None] = {}
        """Names of what was reported besides."""
        self._complained = False
        happened: list[tuple[float, int, Any]] = [(row.at, 0, row) for row in self._follower.new_rows()]
        happened += [(line.header.get("finished_at") or 0.0, 1, (run, line)) for run, line in results]
        for _, is_result, what in sorted(happened, key=lambda item: item[:2]):
            if is_result:
                self._end(*what)
            else:
                self._hear(what)
        for run in range(len(book)):
            if book.outcome[run] != PENDING and not book.committed(run):
                self._end(run, None)

    def grow(self, manifest: Manifest) -> None:
        """Take in further runs."""
        self._index = manifest.index_of

    def take(self, run: int, line: Line | None) -> None:
        """Take a run that is over, with its result where it has one: told once its reports are."""
        self._ended.append((run, line))

    def stopped(self, at: float) -> list[tuple[StopRecord, int]]:
        """The runs that are to be stopped by what was reported since the last call."""
        found = []
        for row in self._follower.new_rows():
            if not self._hear(row) or (run := self._index[row.run_id]) in self._spared:
                continue
            if self._book.outcome[run] == PENDING:
                value = float(row.metrics[self._question.metric])
                record = StopRecord(
                    at=at, run_id=row.run_id, step=row.step, value=value, rule=self._question.rule
                )
                self._stopping.ended(row.run_id, None)
                found.append((record, run))
        ended, self._ended = self._ended, []
        for run, line in ended:
            self._end(run, line)
        self._complain()
        return found

    def _hear(self, row: ReportedRow) -> bool:
        """Take a row; true when its run should be stopped there."""
        if row.run_id not in self._index:  # it has left the grid
            return False
        value = finite(row.metrics.get(self._question.metric))
        if value is None:
            self._others.update(dict.fromkeys(row.metrics))
            return False
        self._telling[row.run_id] = value
        return self._stopping.report(row.run_id, row.step, value)

    def _end(self, run: int, line: Line | None) -> None:
        run_id, value = self._book.run_ids[run], None
        if line is not None and line.header["outcome"] == "done":
            if run_id not in self._telling:
                self._silent = self._silent or run_id
            value = scalars_from_json(line.result())[0].get(self._question.metric, self._telling.get(run_id))
        self._stopping.ended(run_id, finite(value))

    def _complain(self) -> None:
        """Say once that nothing can be stopped, where a run has ended without a report to go by."""
        if self._silent is None or self._telling or self._complained:
            return
        self._complained = True
        metric, kind = self._question.metric, self._question.spec.kind
        if told := [name for name in self._others if name != metric]:
            fix = f"it reported {', '.join(told[:5])}: name one with prune.metric="
        else:
            fix = f"report it while it trains, as report(step, {metric}=…)"
        self._say(f"prune={kind} stops nothing: the first run has ended and did not report {metric}; {fix}")
