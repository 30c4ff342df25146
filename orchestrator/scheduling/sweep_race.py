"""A race over a manifest: which cells its results decide, and which runs are then not needed. Pure.

Members of the race are cells, or pairs of cells that are compared; a member's evidence is that of its seeds
in the order in which the seed axis lists them (:mod:`sweeps.deciding.race` holds the statistics).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from orchestrator.store.records import ENDED
from sweeps.deciding.race import Race, RaceRule, Verdict
from sweeps.grid.columns import SEED_KEY
from sweeps.grid.filters import choose
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import SpecError, shown
from sweeps.spec.metrics import MetricInfo, change_of
from sweeps.spec.search_rules import RaceSpec
from sweeps.spec.text import counted

POINTS = 100.0
"""Points of a whole share."""


class Observed(NamedTuple):
    """What one run says to the question."""

    value: float
    base: float | None = None
    """The metric of the model that training started from."""
    items: np.ndarray | None = None
    """Share of right answers per evaluation item, shape (items,), whose mean is ``value``."""
    base_items: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class CellDecision:
    """One member of the race that left."""

    verdict: Verdict
    cells: tuple[int, ...]
    """The cell, or the two that are compared."""
    runs: tuple[int, ...]
    """Every run that nobody needs any more."""


class SweepRace:
    """Takes results as they come and says what they decide."""

    def __init__(self, manifest: Manifest, spec: RaceSpec, info: MetricInfo) -> None:
        """Begin with no result.

        Raises:
            SpecError: for a manifest with one seed only or fewer than a decision needs, and cells that cannot
                be compared.
        """
        self._spec, self._manifest = spec, manifest
        self.position = seed_positions(manifest)
        """Place of each run's seed in seed order, shape (runs,)."""
        num_seeds = len(np.unique(self.position))
        if num_seeds < 2:
            raise SpecError(
                "search=race: runs differ in luck by their seeds, and this sweep has one; add seed=range(16)"
            )
        if spec.min_seeds > num_seeds:
            raise SpecError(
                f"search.min_seeds={spec.min_seeds}: no cell has so many, as this sweep has {num_seeds} "
                "seeds; add seeds, or ask for fewer"
            )
        cells, first = np.unique(manifest.cells, return_index=True)
        self.first_run = dict(zip(cells.tolist(), first.tolist(), strict=True))
        """A run of each cell."""
        self.members: tuple[tuple[int, ...], ...] = (
            tuple(_pairs(manifest, spec, self.first_run))
            if spec.question == "compare"
            else tuple((cell,) for cell in self.first_run)
        )
        """Cells of each member."""
        self._member_of = {cells: member for member, cells in enumerate(self.members)}
        self._members_of: dict[int, list[int]] = {}
        for member, own in enumerate(self.members):
            for cell in own:
                self._members_of.setdefault(cell, []).append(member)
        self._race = Race(len(self.members), race_rule(spec, info))
        self.sides: dict[int, str] = {}
        """How each member left that has."""
        self._open = set(range(len(self.members)))
        self._seen: dict[tuple[int, int], Observed | None] = {}
        there = set(zip(manifest.cells.tolist(), self.position.tolist(), strict=True))
        for cell in self.first_run:  # seeds that a cell was not given hold nobody up
            for place in np.unique(self.position).tolist():
                if (cell, place) not in there:
                    self._tell(cell, place, None)

    @property
    def num_open(self) -> int:
        """Members that no decision is known of."""
        return len(self._open)

    def observe(self, run: int, observed: Observed | None) -> None:
        """Take a run's result; ``None`` says that it will have none that counts.

        Raises:
            SpecError: for a value outside of the metric's range; the run is then to be observed as ``None``.
        """
        self._tell(int(self._manifest.cells[run]), int(self.position[run]), observed)

    def _tell(self, cell: int, position: int, observed: Observed | None) -> None:
        for member in self._members_of.get(cell, ()):
            self._add(member, cell, position, observed)

    def decide(self) -> Iterator[CellDecision]:
        """What has been decided since the last call."""
        for verdict in self._race.decide():
            yield self._left(verdict)

    def leave(self, cells: tuple[int, ...], side: str, log_evidence: float) -> tuple[int, ...]:
        """Note that a member was decided earlier, on results that are not the ones of now; returns the runs
        that nobody needs any more, which are none where there is no such member.
        """
        if cells not in self._member_of:
            return ()
        member = self._member_of[cells]
        self._race.leave(member, log_evidence)
        return self._gone(member, side)

    def end(self) -> Iterator[CellDecision]:
        """Everybody leaves undecided: what was to be spent is spent."""
        for member in sorted(self._open):
            low, high = self._race.interval(member)
            num = self._race.num_seeds(member)
            yield self._left(
                Verdict(member=member, side=ENDED, num_seeds=num, log_evidence=0.0, low=low, high=high)
            )

    def _left(self, verdict: Verdict) -> CellDecision:
        runs = self._gone(verdict.member, verdict.side)
        return CellDecision(verdict=verdict, cells=self.members[verdict.member], runs=runs)

    def _gone(self, member: int, side: str) -> tuple[int, ...]:
        self._open.discard(member)
        self.sides[member] = side
        unneeded = [c for c in self.members[member] if not self._open.intersection(self._members_of[c])]
        return tuple(np.flatnonzero(np.isin(self._manifest.cells, unneeded)).tolist())

    def _add(self, member: int, cell: int, position: int, observed: Observed | None) -> None:
        match self._spec.question:
            case "best":
                value, items = (None, None) if observed is None else (observed.value, observed.items)
            case "above_base":
                value, items = _over_base(observed, self._spec.base)
            case _:
                self._seen[cell, position] = observed
                pair = [(c, position) for c in self.members[member]]
                there = [self._seen[key] for key in pair if key in self._seen]
                if len(there) < len(pair) and None not in there:
                    return
                value, items = _difference(there) if None not in there else (None, None)
        self._race.add(member, position, value, items)


def seed_positions(manifest: Manifest) -> np.ndarray:
    """Place of each run's seed among the values of the seed axis, shape (runs,)."""
    codes: np.ndarray = next(c.codes for c in manifest.columns if c.key == SEED_KEY)
    return codes


def race_rule(spec: RaceSpec, info: MetricInfo) -> RaceRule:
    """What the statistics are told of a race about a metric."""
    about = info if spec.question == "best" else change_of(info)
    low, high = about.range
    return RaceRule(
        question=spec.question,
        direction="min" if info.direction == "min" else "max",
        rope=spec.rope / POINTS if info.is_share else spec.rope,
        alpha=spec.alpha,
        error=spec.error,
        evidence=spec.evidence,
        bounds=None if low is None or high is None else (low, high),
        min_seeds=spec.min_seeds,
    )


def _over_base(observed: Observed | None, base: float | None) -> tuple[float | None, np.ndarray | None]:
    if observed is None:
        return None, None
    if base is not None:
        return observed.value - base, None if observed.items is None else observed.items - base
    if observed.base is None:
        return None, None
    items = None
    if observed.items is not None and observed.base_items is not None:
        items = observed.items - observed.base_items
    return observed.value - observed.base, items


def _difference(pair: Sequence[Observed | None]) -> tuple[float, np.ndarray | None]:
    first, second = (observed for observed in pair if observed is not None)
    items = None
    if first.items is not None and second.items is not None and len(first.items) == len(second.items):
        items = first.items - second.items
    return first.value - second.value, items


def _pairs(manifest: Manifest, spec: RaceSpec, first_of: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Each cell of ``a`` with the cell of ``b`` that agrees with it in every axis but those in which all
    cells of the one differ from all of the other.

    Raises:
        SpecError: for a cell without a partner or with several, and one that is in both.
    """
    chosen = {}
    for key in ("a", "b"):
        text = getattr(spec, key)
        if any(
            term.key == SEED_KEY for term in choose([text], {c.key: c.axis for c in manifest.columns}).terms
        ):
            raise SpecError(
                f"search.{key}={text}: chooses cells, each with all its seeds; leave out {SEED_KEY}"
            )
        runs = manifest.matching([text])
        chosen[key] = sorted({int(manifest.cells[run]) for run in runs})
    both = set(chosen["a"]) & set(chosen["b"])
    if both:
        raise SpecError(
            f"search.a={spec.a}, search.b={spec.b}: {counted(len(both), 'cell')} in both, such as "
            f"{manifest.name(first_of[min(both)])}; write filters that exclude each other"
        )
    values = {key: _values(manifest, [first_of[cell] for cell in cells]) for key, cells in chosen.items()}
    kept = [axis for axis in values["a"] if set(values["a"][axis]) & set(values["b"][axis])]
    partner: dict[tuple[int, ...], list[int]] = {}
    for place, cell in enumerate(chosen["b"]):
        partner.setdefault(tuple(values["b"][axis][place] for axis in kept), []).append(cell)
    for place, cell in enumerate(chosen["a"]):
        found = partner.get(tuple(values["a"][axis][place] for axis in kept), [])
        if len(found) != 1:
            name, num = manifest.name(first_of[cell]), counted(len(found), "partner")
            raise SpecError(
                f"search.a={shown(spec.a)}: cell {name} has {num} among search.b={shown(spec.b)}; each needs "
                f"exactly one that agrees with it in {', '.join(kept) or 'all else'}"
            )
        yield cell, found[0]


def _values(manifest: Manifest, runs: Sequence[int]) -> dict[str, list[int]]:
    """Codes of each axis but the seed, by run."""
    return {c.key: c.codes[list(runs)].tolist() for c in manifest.columns if c.key != SEED_KEY}
