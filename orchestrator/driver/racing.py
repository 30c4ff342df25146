"""Runs a race within a driver: feeds it the durable results, and writes down what it decides."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from orchestrator.driver.observing import observed
from orchestrator.planning.race_question import RaceQuestion
from orchestrator.scheduling.sweep_race import CellDecision
from orchestrator.store.index_reader import results_of
from orchestrator.store.records import ENDED, DecisionRecord
from orchestrator.store.run_index import PENDING, SKIPPED, RunIndex
from orchestrator.store.spool import Line, LineReader
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import SpecError

HOUR_S = 3600.0


class Racing:
    """A race of the runs of one directory."""

    def __init__(
        self,
        question: RaceQuestion,
        manifest: Manifest,
        book: RunIndex,
        say: Callable[[str], None] = lambda _: None,
        asked: Collection[int] = (),
    ) -> None:
        """Begin where the journals stand.

        Args:
            question: what is asked.
            manifest: the runs.
            book: what is known of each, with the decisions taken so far.
            say: tells people something.
            asked: runs that somebody asked for by name: no decision does without them.
        """
        self._say, self._num_values, self._asked = say, 0, frozenset(asked)
        self._question, self._manifest, self._book = question, manifest, book
        self._race = question.begin(manifest)
        self.rounds = self._race.position
        """Round of each run: seed after seed."""
        self._gpu_s = 0.0
        self._num_results = 0
        self._rule = question.rule(manifest)
        self._waiting: list[tuple[DecisionRecord, tuple[int, ...]]] = []
        for run in range(len(book)):
            if book.outcome[run] not in (PENDING, SKIPPED) and not book.committed(run):
                self.take(run, None)

    def begin(self, results: Iterable[tuple[int, Line]]) -> None:
        """Take what was there when this driver's life began: results, and what was decided on them.

        What they decide was recorded as a rule. A decision whose results are others now, such as of a run
        that failed then and was run again since, stands as it was recorded.
        """
        for run, line in results:
            self.take(run, line)
        recorded = self._question.standing(self._manifest, self._book)
        for decision in self._race.decide():
            if decision.cells in recorded:
                self._skip_for(recorded.pop(decision.cells), decision.runs)
            else:
                self._waiting += self._records([decision], 0.0)
        for cells, record in recorded.items():
            self._skip_for(record, self._race.leave(cells, record.side, record.log_evidence))

    def _skip_for(self, record: DecisionRecord, unneeded: Iterable[int]) -> None:
        """Do without seeds that were added to decided cells since."""
        if skipped := self._pending(unneeded):
            self._waiting.append((replace(record, runs=self._run_ids(skipped)), skipped))

    def counts(self) -> dict[str, int]:
        """Members that are decided, and that are not."""
        decided = sum(side != ENDED for side in self._race.sides.values())
        return {"decided": decided, "undecided": len(self._race.members) - decided}

    def take(self, run: int, line: Line | None) -> None:
        """Take a committed result; ``None`` of a run that has ended without one."""
        if line is None:
            self._race.observe(run, None)
            return
        self._num_results += 1
        resources = self._manifest.group("resources", run)
        wall_s = line.header.get("wall_s") or 0.0
        self._gpu_s += wall_s * resources.gpus_per_worker * resources.world_size
        seen = observed(line, self._question)
        self._num_values += seen is not None
        try:
            if seen is not None:
                self._question.info.require_in_range(self._question.metric, seen.value)
            self._race.observe(run, seen)
        except SpecError as error:
            self._say(f"the race leaves out {self._manifest.name(run)}: {error}")
            self._race.observe(run, None)

    def complaint(self) -> str:
        """Why nothing could be decided, where that is so; empty otherwise."""
        if not self._num_results or self._num_values:
            return ""
        return (
            f"the race has decided nothing: none of {self._num_results:,} results has {self._question.metric}"
        )

    def decisions(self, at: float) -> Iterator[tuple[DecisionRecord, tuple[int, ...]]]:
        """What has been decided since the last call, each with the runs that are skipped for it."""
        waiting, self._waiting = self._waiting, []
        for record, skipped in waiting:
            yield replace(record, at=at), skipped
        yield from self._records(self._race.decide(), at)
        if self._race.num_open and self._is_spent():
            yield from self._records(self._race.end(), at)

    def _is_spent(self) -> bool:
        spec = self._question.spec
        runs_spent = spec.runs is not None and self._num_results >= spec.runs
        return runs_spent or (spec.gpu_hours is not None and self._gpu_s >= spec.gpu_hours * HOUR_S)

    def _records(
        self, decisions: Iterable[CellDecision], at: float
    ) -> Iterator[tuple[DecisionRecord, tuple[int, ...]]]:
        first = self._race.first_run
        for decision in decisions:
            verdict, skipped = decision.verdict, self._pending(decision.runs)
            record = DecisionRecord(
                at=at,
                rule=self._rule,
                side=verdict.side,
                cells=self._run_ids(first[cell] for cell in decision.cells),
                num_seeds=verdict.num_seeds,
                log_evidence=verdict.log_evidence,
                low=_finite(verdict.low),
                high=_finite(verdict.high),
                runs=self._run_ids(skipped),
            )
            yield record, skipped

    def _pending(self, runs: Iterable[int]) -> tuple[int, ...]:
        pending = (run for run in runs if self._book.outcome[run] == PENDING)
        return tuple(run for run in pending if run not in self._asked)

    def _run_ids(self, runs: Iterable[int]) -> tuple[str, ...]:
        return tuple(self._manifest.run_ids[run] for run in runs)


def decided_by_results(
    question: RaceQuestion, manifest: Manifest, book: RunIndex, lines: LineReader
) -> tuple[list[DecisionRecord], dict[str, int]]:
    """What a race of runs that are all over decides that no journal has yet, and its counts as of then: its
    question may be new, or its last driver was killed.
    """
    racing = Racing(question, manifest, book)
    is_open = len(question.standing(manifest, book)) < sum(racing.counts().values())
    racing.begin(results_of(book, lines) if is_open else ())
    found = [record for record, _ in racing.decisions(time.time())]
    return found, racing.counts()


def _finite(value: float) -> float | None:
    """An end of an interval as JSON holds it: ``None`` where it is unbounded."""
    return value if math.isfinite(value) else None
