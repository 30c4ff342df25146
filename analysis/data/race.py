"""A race as its readers see it: what was asked, which cells it decided, and which seeds of each count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.data.axes import SEED
from analysis.data.columns import RunArrays
from analysis.data.journals import why_unknown
from analysis.data.source import Source
from orchestrator.store.decisions import read_decisions, rule_of, standing
from orchestrator.store.layout import Layout
from orchestrator.store.records import ENDED, DecisionRecord
from sweeps.manifest.manifest_file import read_manifest
from sweeps.spec.search_rules import RaceSpec, race_of


@dataclass(frozen=True, kw_only=True)
class RaceSeen:
    """The race of a sweep directory at one moment."""

    spec: RaceSpec
    standing: Mapping[tuple[int, ...], DecisionRecord]
    """The decisions that stand, by the cells that they are about."""
    asked: frozenset[int] | None = None
    """Cells that a decision is shown at: those of ``search.a`` where pairs are compared; ``None`` for all."""
    unknown: str = ""
    """Why what was decided is not known, in words; empty where it is: the journals say it, which a copy may
    lack, and which can be damaged.
    """

    @property
    def is_known(self) -> bool:
        """Whether what was decided is known."""
        return not self.unknown

    @property
    def decisions(self) -> tuple[DecisionRecord, ...]:
        """The decisions that stand."""
        return tuple(self.standing.values())

    @property
    def decided(self) -> tuple[DecisionRecord, ...]:
        """Decisions that are none of a spent budget."""
        return tuple(d for d in self.decisions if d.side != ENDED)

    @property
    def has_ended(self) -> bool:
        """Whether its budget was spent with cells still open."""
        return len(self.decided) < len(self.standing)

    @property
    def metric(self) -> str | None:
        """The metric that decides, where it is known."""
        named = next((d.rule.get("metric") for d in self.decisions), None)
        return self.spec.metric or (str(named) if named else None)


def race_seen(sources: Sequence[Source]) -> RaceSeen | None:
    """The race that a sweep directory's manifest asks for; ``None`` where all runs are to be run, and for
    several directories read as one, whose races are apart.
    """
    spec = _spec_of(sources[0])
    if spec is None or not is_race(sources):
        return None
    layout = Layout(sources[0].directory)
    found: Mapping[tuple[int, ...], DecisionRecord] = {}
    asked = None
    decisions = read_decisions(layout)
    if decisions or spec.a is not None:
        manifest = read_manifest(layout.manifest)
        if spec.a is not None:
            asked = frozenset(manifest.cells[manifest.matching([spec.a])].tolist())
    if decisions:
        rule = rule_of(spec, spec.metric or str(decisions[-1].rule.get("metric")), manifest)
        found = standing(decisions, manifest, rule)
    return RaceSeen(spec=spec, standing=found, asked=asked, unknown=why_unknown(layout))


def is_race(sources: Sequence[Source]) -> bool:
    """Whether :func:`race_seen` sees one, told by the manifests alone."""
    return len(sources) == 1 and _spec_of(sources[0]) is not None


def told_race(sources: Sequence[Source]) -> list[str]:
    """What readers of a table with intervals for fixed seeds must know of sweeps that raced."""
    if not any(_spec_of(source) for source in sources):
        return []
    return [
        "A race chose these runs: each cell left as soon as it was decided. Its own table has intervals that "
        "hold at any stop; any other interval or p-value is for seeds fixed beforehand, and holds less."
    ]


def _spec_of(source: Source) -> RaceSpec | None:
    options: Mapping[str, Any] = source.header.get("options") or {}
    return race_of(options)


def counted_runs(columns: RunArrays, keys: Sequence[str], seed_order: Sequence[Any]) -> np.ndarray:
    """Whether each run is of a seed that all cells of its group have had, and so counts; shape (R,).

    Seeds come in the order of the seed axis, and a group's end before the first that any of its cells has
    still to run or was spared. Means over them do not depend on which cells left early, and a sequence of
    seed means is what an interval that holds at any stop is about.

    Args:
        keys: axes whose values the runs of a group agree on.
        seed_order: values of the seed axis in their order.
    """
    groups = columns.group([key for key in keys if key != SEED])
    levels, level = columns.levels(SEED)
    place = {value: number for number, value in enumerate(seed_order)}
    position = np.array([place.get(value, len(place)) for value in levels.tolist()])[level]
    without = columns.is_outcome("pending", "skipped")
    first_gap = np.full(groups.size, np.iinfo(np.int64).max)
    np.minimum.at(first_gap, groups.number[without], position[without])
    counted: np.ndarray = position < first_gap[groups.number]
    return counted
