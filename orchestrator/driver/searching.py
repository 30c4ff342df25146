"""Runs a search within a driver: tells the sampler what is durable, and makes runs of what it proposes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from orchestrator.driver.observing import value_of
from orchestrator.planning.search_question import SearchQuestion, held_out_seeds, seeds_of
from orchestrator.store.records import ProposalRecord
from orchestrator.store.run_index import PENDING, STOPPED, RunIndex
from orchestrator.store.spool import Line
from sweeps.deciding.proposing import Proposal
from sweeps.grid.columns import spelling
from sweeps.grid.grid import MAX_RUNS
from sweeps.grid.space import Point
from sweeps.manifest.grown import grown
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import SpecError

HOUR_S = 3600.0

MOST_REPEATED = 50
"""Proposals in a row without a new run until the search takes a point that was not tried, or ends."""

AT_ONCE_S = 0.5
"""Work proposed ahead for each worker, where runs are short."""

MOST_AT_A_TIME = 256
"""Trials that are proposed before the first of them are handed out: workers begin while more are made."""

SHARE_AT_ONCE = 10
"""Of short runs at most one trial in so many is at work at once: a sampler learns nothing of those."""


@dataclass(kw_only=True)
class _Trial:
    """A proposal and its runs."""

    point: Point
    seeds: tuple[int, ...]
    runs: tuple[int, ...]
    is_new: bool
    """Whether its runs are none of an earlier one's."""
    waiting: int
    """Runs that are not over."""


class Searching:
    """A search over one directory's runs."""

    def __init__(
        self,
        question: SearchQuestion,
        manifest: Manifest,
        book: RunIndex,
        records: Iterable[ProposalRecord],
        results: Iterable[tuple[int, Line]],
        say: Callable[[str], None] = lambda _: None,
        *,
        rests: bool = False,
    ) -> None:
        """Begin where the journals stand.

        Args:
            question: what is asked.
            manifest: the runs so far, those of all recorded proposals among them.
            book: what is known of each.
            records: the proposals so far, in their order.
            results: runs that have a result, each with its line.
            say: tells people something.
            rests: it proposes nothing, and says where it stands.
        """
        self._question, self.manifest, self.say, self._rests = question, manifest, say, rests
        self._book = book
        self._spec, self._space = question.spec, question.runs.space
        self._seeds = seeds_of(self._space, self._spec)
        self._proposer = question.proposer()
        self._index = dict(manifest.index_of)
        self._trials: dict[int, _Trial] = {}
        self._held_out: dict[int, tuple[int, ...]] = {}
        """Runs on further seeds, by the trial that they are of."""
        self.spared: set[int] = set()
        """All these runs, which say how good the best trial is and are not to be stopped."""
        self._of_run: dict[int, list[int]] = {}
        self._known: set[tuple[int, ...]] = set()
        self._values: dict[int, float | None] = {}
        self._due: list[int] = []
        """Trials whose runs are all over, of which the sampler was not told."""
        self._after: list[int] = []
        """Those of which it was told since its last proposal."""
        self._gpu_s, self._repeated, self._exhausted = 0.0, 0, False
        self.num_trials = self._num_open = 0
        """Trials that brought runs of their own; and of them those with a run that is not over."""
        self.has_more = False
        """Whether the last call had more to propose than it was to."""
        for run, line in results:
            self._note(run, line)
        for run in range(len(book)):
            if book.outcome[run] != PENDING:
                self._values.setdefault(run, None)
        for record in records:
            self._again(record)
        self._after = []

    def _again(self, record: ProposalRecord) -> None:
        """Take a proposal of an earlier life, and what the sampler had been told by then."""
        for number in record.after:
            self._tell(number)
        if record.held_out:
            self._check(record.number, record.runs)
            return
        proposal = Proposal(number=record.number, point=record.point, asked=record.asked)
        self._proposer.again(proposal)
        self._enlist(proposal, record.runs, tuple(record.seeds))

    def _check(self, number: int, run_ids: Sequence[str]) -> None:
        self._held_out[number] = self._places(run_ids)
        self.spared.update(self._held_out[number])

    def _places(self, run_ids: Sequence[str]) -> tuple[int, ...]:
        return tuple(self._index[run_id] for run_id in run_ids)

    def _enlist(self, asked: Proposal, run_ids: Sequence[str], seeds: tuple[int, ...]) -> None:
        runs, number, point = self._places(run_ids), asked.number, asked.point
        is_new = bool(runs) and runs not in self._known
        self._known.add(runs)
        self._repeated = 0 if is_new else self._repeated + 1
        waiting = [run for run in runs if run not in self._values]
        trial = _Trial(point=point, seeds=seeds, runs=runs, is_new=is_new, waiting=len(waiting))
        self._trials[number] = trial
        self.num_trials += is_new
        self._num_open += is_new and bool(waiting)
        for run in waiting:
            self._of_run.setdefault(run, []).append(number)
        if not waiting:
            self._due.append(number)

    # --- results ----------------------------------------------------------------------------------

    def take(self, run: int, line: Line | None) -> None:
        """Take a durable result; ``None`` of a run that has ended without one."""
        self._values.setdefault(run, None)
        if line is not None:  # also of a run that was stopped and had ended by then
            self._note(run, line)
        for number in self._of_run.pop(run, ()):
            self._trials[number].waiting -= 1
            if not self._trials[number].waiting:
                self._num_open -= self._trials[number].is_new
                self._due.append(number)

    def _note(self, run: int, line: Line) -> None:
        self._values[run] = None
        resources = self.manifest.group("resources", run)
        self._gpu_s += (line.header.get("wall_s") or 0.0) * resources.gpus_per_worker * resources.world_size
        value = value_of(line, self._question)
        if value is None:
            return
        try:
            self._question.info.require_in_range(self._question.metric, value)
            self._values[run] = value
        except SpecError as error:
            self.say(f"the search leaves out {self.manifest.name(run)}: {error}")

    def _of(self, runs: Sequence[int]) -> tuple[float | None, int]:
        """Mean over the runs that have a value, and how many have."""
        values = [value for run in runs if (value := self._values.get(run)) is not None]
        return (math.fsum(values) / len(values) if values else None), len(values)

    def _tell(self, number: int) -> None:
        if number in self._due:
            self._due.remove(number)
            self._after.append(number)
            trial = self._trials[number]
            self._proposer.tell(number, self._value(trial), stopped=self._is_stopped(trial))

    def _is_stopped(self, trial: _Trial) -> bool:
        return any(self._book.outcome[run] == STOPPED for run in trial.runs)

    def _value(self, trial: _Trial) -> float | None:
        """Mean over seeds; none where one was stopped, for the others would flatter it."""
        return None if self._is_stopped(trial) else self._of(trial.runs)[0]

    # --- where it stands --------------------------------------------------------------------------

    @property
    def _best(self) -> int | None:
        """The trial with the best value, the first of equals."""
        sign = 1.0 if self._question.maximize else -1.0
        valued = [
            (sign * value, -number)
            for number, trial in self._trials.items()
            if trial.is_new and not trial.waiting and (value := self._value(trial)) is not None
        ]
        return -max(valued)[1] if valued else None

    @property
    def is_open(self) -> bool:
        """Whether runs are still to come, beside those at work."""
        return not self._is_spent() or self._num_open > 0 or bool(self._further_seeds())

    def _is_spent(self) -> bool:
        spent = self._gpu_s >= HOUR_S * (self._spec.gpu_hours or math.inf)
        return self._rests or self._exhausted or spent or self.num_trials >= self._spec.trials

    def _further_seeds(self) -> tuple[int, ...]:
        """Seeds on which the best trial is still to be run."""
        best = None if self._rests else self._best
        if best is None or best in self._held_out or not self._space.holds(self._trials[best].point):
            return ()
        return held_out_seeds(self._space, self._spec, self._trials[best].seeds)

    def facts(self) -> dict[str, Any]:
        """Where it stands, as plain values."""
        found: dict[str, Any] = {"kind": self._spec.kind, "metric": self._question.metric}
        found |= {"trials": self.num_trials, "trials_asked": self._spec.trials}
        if (best := self._best) is None:
            return {**found, "best": None}
        trial = self._trials[best]
        value, num = self._of(trial.runs)
        held_out, num_held_out = self._of(self._held_out.get(best, ()))
        about: dict[str, Any] = {
            "trial": best,
            "run_id": self.manifest.run_ids[trial.runs[0]],
            "point": dict(trial.point),
        }
        about |= {"value": value, "seeds": num, "held_out": held_out, "held_out_seeds": num_held_out}
        return {**found, "best": about}

    # --- what comes next --------------------------------------------------------------------------

    def next(self, num_workers: int, mean_s: float | None, at: float) -> list[ProposalRecord]:
        """Further proposals, as many as keep the workers busy; :attr:`manifest` then has their runs.

        Args:
            num_workers: runs that can be at work at once.
            mean_s: seconds that a run takes, where that is known.
            at: Unix time of the records.
        """
        records: list[ProposalRecord] = []
        while True:
            for number in sorted(self._due):
                self._tell(number)
            wanted = 0 if self._is_spent() else self._num_wanted(num_workers, mean_s)
            self.has_more = wanted > 0 and len(records) >= MOST_AT_A_TIME
            if not wanted or self.has_more:
                break
            left = self._spec.trials - self.num_trials
            records += self._proposed(min(wanted, left, MOST_AT_A_TIME), at)
        if not self._num_open and self._is_spent() and (seeds := self._further_seeds()):
            records.append(self._run_again(seeds, at))
        return records

    def _num_wanted(self, num_workers: int, mean_s: float | None) -> int:
        """Trials to begin now."""
        each, most = len(self._seeds), self._spec.max_concurrent
        if most is None:
            most = -(-num_workers // each)
            if mean_s is not None:
                short = math.ceil(num_workers * AT_ONCE_S / max(mean_s * each, 1e-6))
                most = max(most, min(short, self._spec.trials // SHARE_AT_ONCE))
        wanted = most - self._num_open
        return wanted if self.has_more or most <= 2 * num_workers or 2 * wanted >= most else 0

    def _proposed(self, num: int, at: float) -> list[ProposalRecord]:
        if self._repeated < MOST_REPEATED:
            asked = [self._proposer.ask() for _ in range(num)]
        elif (point := self._untried()) is not None:
            asked = [Proposal(number=self._proposer.next_number, point=point)]
            self._proposer.again(asked[0])
        else:
            self._exhausted = True
            self.say(f"the search ends: {self._spec.kind} proposes nothing that is new and can be run")
            return []
        records = []
        for proposal, run_ids, refused in self._made(asked):
            records.append(
                ProposalRecord(
                    at=at,
                    number=proposal.number,
                    point=proposal.point,
                    asked=proposal.asked,
                    seeds=self._seeds,
                    runs=run_ids,
                    after=tuple(self._after),
                    refused=refused,
                )
            )
            self._after = []
            self._enlist(proposal, run_ids, self._seeds)
        return records

    def _untried(self) -> Point | None:
        """A point of a finite space that was not proposed; ``None`` where there is none."""
        if not self._space.is_finite:
            return None
        tried = {spelling(trial.point) for trial in self._trials.values()}
        return next((p for p in islice(self._space.points(), MAX_RUNS) if spelling(p) not in tried), None)

    def _made(self, asked: Sequence[Proposal]) -> list[tuple[Proposal, tuple[str, ...], str]]:
        """Each proposal with its runs, or why there can be none."""
        allowed = [p for p in asked if self._space.allows(p.point)]
        try:
            runs = self._runs_of(allowed)
        except SpecError as error:
            if len(asked) > 1:
                return [made for proposal in asked for made in self._made([proposal])]
            return [(asked[0], (), str(error))]
        return [
            (p, runs[p.number], "") if p.number in runs else (p, (), "excluded by the sweep") for p in asked
        ]

    def _runs_of(self, proposals: Sequence[Proposal]) -> dict[int, tuple[str, ...]]:
        """Ids of the runs of each proposal; the manifest has them then."""
        texts = [spelling(p.point) for p in proposals]
        points = {text: p.point for text, p in zip(texts, proposals, strict=True)}
        if not points:
            return {}
        each, make = len(self._seeds), self._question.runs.manifest
        made = make([point for point in points.values() for _ in self._seeds], self._seeds * len(points))
        if len(made) == each * len(points):
            ids = {text: made.run_ids[k * each : (k + 1) * each] for k, text in enumerate(points)}
        else:  # values that differ make one run
            ids = {text: make([point] * each, self._seeds).run_ids for text, point in points.items()}
        self._grow(made)
        return {p.number: tuple(ids[text]) for text, p in zip(texts, proposals, strict=True)}

    def _run_again(self, seeds: tuple[int, ...], at: float) -> ProposalRecord:
        """Have the best trial run on further seeds."""
        best = self._best
        assert best is not None
        made = self._question.runs.manifest([self._trials[best].point] * len(seeds), seeds)
        self._grow(made)
        self._check(best, made.run_ids)
        after, self._after = tuple(self._after), []
        return ProposalRecord(
            at=at,
            number=best,
            point=self._trials[best].point,
            asked={},
            seeds=seeds,
            runs=tuple(made.run_ids),
            after=after,
            held_out=True,
        )

    def _grow(self, more: Manifest) -> None:
        first = len(self.manifest)
        self.manifest = grown(self.manifest, more, self._question.runs.orders)
        self._index.update({self.manifest.run_ids[i]: i for i in range(first, len(self.manifest))})
