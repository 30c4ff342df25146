"""Who decides, by results, which runs are needed: a race, a search, early stopping, any of them or nobody."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from orchestrator.driver.commit_log import CommitLog
from orchestrator.driver.pruning import Pruning
from orchestrator.driver.racing import Racing
from orchestrator.driver.searching import Searching
from orchestrator.planning.prune_question import prune_question
from orchestrator.planning.race_question import RaceQuestion
from orchestrator.planning.search_question import search_question
from orchestrator.scheduling.events import RunsSkipped
from orchestrator.store.index_reader import results_of
from orchestrator.store.layout import Layout
from orchestrator.store.opening import read_config
from orchestrator.store.proposals import read_proposals
from orchestrator.store.run_index import RunIndex
from orchestrator.store.spool import Line, LineReader
from sweeps.manifest.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """What decides in one driver's life."""

    race: Racing | None = None
    search: Searching | None = None
    pruning: Pruning | None = None

    @property
    def listeners(self) -> list[Callable[[int, Line | None], None]]:
        """What is told of each run that is over."""
        return [each.take for each in (self.race, self.search, self.pruning) if each is not None]

    def apply(self, commits: CommitLog, tell: Callable[[RunsSkipped], None]) -> None:
        """Write down what is decided by what is durable, and drop the runs that are not to go on."""
        for decision, skipped in self.race.decisions(time.time()) if self.race else ():
            commits.decided(decision, skipped)
            tell(RunsSkipped(runs=skipped))
        for stop, run in self.pruning.stopped(time.time()) if self.pruning else ():
            commits.stopped(stop, run)
            tell(RunsSkipped(runs=(run,)))

    def facts(self) -> dict[str, Any]:
        """What a driver's summary says of it."""
        found: dict[str, Any] = {} if self.race is None else dict(self.race.counts())
        return found if self.search is None else {**found, "search": self.search.facts()}


def deciding_of(
    layout: Layout,
    manifest: Manifest,
    book: RunIndex,
    race: RaceQuestion | None,
    say: Callable[[str], None],
    *,
    only: Collection[int] | None = None,
) -> Deciding:
    """What a manifest's options have decide, as far as it has come.

    Args:
        race: the race that is asked for, if any.
        say: tells people something.
        only: the runs that were asked for by name, if not all are to be run: no race does without them, and
            a search proposes nothing.
    """
    metrics = read_config(layout).get("metrics")
    lines = LineReader(layout.spools)
    racing = searching = pruning = None
    if race is not None:
        racing = Racing(race, manifest, book, say, only or ())
        racing.begin(results_of(book, lines))
    if (search := search_question(manifest, metrics)) is not None:
        records, rests = read_proposals(layout), only is not None
        searching = Searching(search, manifest, book, records, results_of(book, lines), say, rests=rests)
    if (prune := prune_question(manifest, metrics)) is not None:
        spared = searching.spared if searching else ()
        pruning = Pruning(prune, layout, manifest, book, results_of(book, lines), spared, say)
    lines.close()
    return Deciding(race=racing, search=searching, pruning=pruning)
