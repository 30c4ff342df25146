"""What a search by a sampler is asked in full: its space, frozen with the sweep, and its metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from orchestrator.planning.asked_metric import asked_metric, declared_metrics
from orchestrator.store.earlier_sweep import EarlierSweep
from orchestrator.store.records import ProposalRecord
from sweeps.compose import ComposedSweep
from sweeps.compose.frozen_sweep import frozen, thawed
from sweeps.deciding.proposing import Proposer
from sweeps.grid.columns import SEED_KEY
from sweeps.grid.grid import MAX_RUNS, Grid, concat, upper_bound
from sweeps.grid.space import Point, Space, ends_of, space_of
from sweeps.manifest.build import Known, build_manifest, manifest_of_table
from sweeps.manifest.grown import grown
from sweeps.manifest.manifest import SPACE, Manifest
from sweeps.spec.errors import SpecError, shown
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.sampler_rules import SamplerSpec, require_searchable
from sweeps.spec.search_rules import sampler_of

MOST_CHECKED = 20_000
"""Runs up to which all combinations of a space's choices and ends are composed and checked beforehand; of
more, one axis is changed at a time.
"""

MOST_REFUSED = 50
"""Proposals in a row of which no run can be made until a search is refused."""


@dataclass(frozen=True, kw_only=True)
class SearchQuestion:
    """A search and the metric that it goes by."""

    spec: SamplerSpec
    metric: str
    info: MetricInfo
    runs: RunMaker

    @property
    def maximize(self) -> bool:
        """Whether larger is better."""
        return self.info.direction != "min"

    def proposer(self) -> Proposer:
        """A sampler that was asked nothing yet."""
        return Proposer(self.runs.space, self.spec, maximize=self.maximize)


class RunMaker:
    """Makes runs of points, as a launch makes them of a grid's."""

    def __init__(self, composed: ComposedSweep) -> None:
        """Begin with the sweep as it was composed, in this process or by the launch.

        Raises:
            SpecError: for a grid that is no product of axes.
        """
        self._composed, self._known = composed, Known()
        self.space: Space = space_of(composed.grid)
        self.orders: dict[str, Sequence[Any]] = {
            a.key: a.values for a in composed.grid.axes if a.interval is None and a.key != SEED_KEY
        }
        """Values of the axes that have countable ones."""

    def manifest(self, points: Sequence[Point], seeds: Sequence[int]) -> Manifest:
        """The runs of points, of each with its seed, in their order; equal ones are one run.

        Raises:
            SpecError: for a point of which no run can be made.
        """
        table = self.space.table(points, seeds)
        return manifest_of_table(self._composed, table, EarlierSweep, known=self._known, by_locality=False)

    def check(self) -> Manifest:
        """Compose the ends of all intervals with all that can be chosen beside them, so that what is wrong
        with them is said before anything is run; their runs.

        Raises:
            SpecError: for whatever a launch of these runs would refuse.
        """
        ends = ends_of(self._composed.grid)
        few = upper_bound(ends) <= MOST_CHECKED
        if few and next(space_of(ends).points(), None) is None:  # the ends are excluded, not what is between
            anywhere = Proposer(self.space, SamplerSpec(kind="random"), maximize=True)
            return _first_trial(self, self.space.seeds[:1], anywhere)
        grid = ends if few else concat(*_one_at_a_time(ends))
        return build_manifest(dataclasses.replace(self._composed, grid=grid), EarlierSweep)


def _one_at_a_time(grid: Grid) -> Sequence[Grid]:
    """All values of each axis beside the first of every other; an axis with a condition that these do not
    satisfy is composed once it is proposed.
    """
    first = [dataclasses.replace(a, values=a.values[:1]) for a in grid.axes]
    return [
        dataclasses.replace(
            grid, axes=tuple(a if i == k else first[i] for i, a in enumerate(grid.axes)), excludes=()
        )
        for k in range(len(grid.axes))
    ]


def search_question(manifest: Manifest, said: Mapping[str, Any] | None = None) -> SearchQuestion | None:
    """The search that a manifest's options ask for, ``None`` where there is none.

    Args:
        said: what the trainers' classes say of their metrics.

    Raises:
        SpecError: for a metric that is unknown or has no better end, or a sampler that is not installed.
    """
    spec = sampler_of(manifest.options)
    node = manifest.options.get(SPACE)
    if spec is None or node is None:
        return None
    asked = asked_metric(manifest, spec.metric, spec.kind, said)
    require_searchable(spec, asked.name, asked.info)
    question = SearchQuestion(
        spec=spec, metric=asked.name, info=asked.info, runs=RunMaker(_thawed(manifest, node))
    )
    question.proposer()
    return question


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The runs that a launch begins with."""

    manifest: Manifest
    checked: Manifest
    """Runs at the ends of a search's space, or those of the grid: what a launch has to check."""
    note: str = ""
    """What became of a search that is none."""


def asked_runs(composed: ComposedSweep) -> Asked:
    """The runs of a grid, or the first ones of a search.

    Raises:
        SpecError: for any mistake in either.
    """
    spec = sampler_of(composed.options)
    if spec is None:
        manifest = build_manifest(composed, EarlierSweep)
        return Asked(manifest=manifest, checked=manifest)
    runs = RunMaker(composed)
    seeds = seeds_of(runs.space, spec)
    if runs.space.is_listed and (size := runs.space.num_points(spec.trials)) <= spec.trials:
        axes = tuple(
            dataclasses.replace(a, values=seeds) if a.key == SEED_KEY else a for a in composed.grid.axes
        )
        whole = dataclasses.replace(
            composed,
            grid=dataclasses.replace(composed.grid, axes=axes),
            options={**composed.options, "search": {"kind": "none"}},
        )
        manifest = build_manifest(whole, EarlierSweep)
        note = (
            f"the axes have {size:,} choices, no more than search.trials={spec.trials:,}: all of them are run"
        )
        return Asked(manifest=manifest, checked=manifest, note=note)
    checked = runs.check()
    options = {**composed.options, SPACE: frozen(composed)}
    manifest = _first_trial(runs, seeds, Proposer(runs.space, spec, maximize=True))
    return Asked(manifest=dataclasses.replace(manifest, options=options), checked=checked)


def _first_trial(runs: RunMaker, seeds: Sequence[int], proposer: Proposer) -> Manifest:
    """The runs of the first proposal that has any."""
    why = SpecError("sweep.exclude: leaves next to no choice of the space; narrow it")
    for _ in range(MOST_REFUSED):
        point = proposer.ask().point
        try:
            if runs.space.allows(point):
                return runs.manifest([point] * len(seeds), seeds)
        except SpecError as error:
            why = error
    raise why


def seeds_of(space: Space, spec: SamplerSpec) -> tuple[int, ...]:
    """The seeds that a trial is judged on.

    Raises:
        SpecError: where the seed axis has fewer, and for more runs than a sweep may have.
    """
    seeds = space.seeds
    if (most := spec.trials * spec.seeds_per_trial + spec.held_out_seeds) > MAX_RUNS:
        raise SpecError(
            f"search.trials={spec.trials}: makes up to {most:,} runs with search.seeds_per_trial="
            f"{spec.seeds_per_trial} and search.held_out_seeds={spec.held_out_seeds}; at most {MAX_RUNS:,} "
            "are made: ask for fewer"
        )
    if len(seeds) < spec.seeds_per_trial:
        raise SpecError(
            f"search.seeds_per_trial={spec.seeds_per_trial}: the sweep has {len(seeds)} seeds; "
            f"add seed=range({spec.seeds_per_trial})"
        )
    return seeds[: spec.seeds_per_trial]


def held_out_seeds(space: Space, spec: SamplerSpec, judged_on: Collection[int] = ()) -> tuple[int, ...]:
    """Seeds that no trial is judged on: what the axis has left, then whole numbers behind its largest.

    Args:
        judged_on: seeds of the trial that is to be run on them, which an earlier launch may have chosen.
    """
    seeds = space.seeds
    behind = chain(range(max(seeds) + 1, 2**63), (s for s in range(max(seeds)) if s not in set(seeds)))
    further = (s for s in chain(seeds[spec.seeds_per_trial :], behind) if s not in judged_on)
    return tuple(islice(further, spec.held_out_seeds))


def caught_up(manifest: Manifest, records: Sequence[ProposalRecord]) -> Manifest:
    """The manifest with the runs of all proposals, which its file lags behind while a driver is at work.

    Raises:
        SpecError: where the runs of a proposal are others now, as a file that they are made of has changed.
    """
    missing = [r for r in records if r.runs and not set(r.runs) <= set(manifest.index_of)]
    node = manifest.options.get(SPACE)
    if not missing or node is None:
        return manifest
    runs = RunMaker(_thawed(manifest, node))
    for record in missing:
        if not runs.space.holds(record.point):
            raise SpecError(
                f"proposal {record.number}: {shown(record.point)} is no point of this search's space"
            )
        more = runs.manifest([record.point] * len(record.seeds), record.seeds)
        if tuple(more.run_ids) != tuple(record.runs):
            raise SpecError(
                f"proposal {record.number}: its runs are {shown(', '.join(more.run_ids))} now, not "
                f"{shown(', '.join(record.runs))}: a file behind them has changed since; put it back"
            )
        manifest = grown(manifest, more, runs.orders)
    return manifest


def checked_space(manifest: Manifest) -> Manifest:
    """Runs that show all that a search could propose; a manifest without a search is that itself."""
    node = manifest.options.get(SPACE)
    return manifest if node is None else RunMaker(_thawed(manifest, node)).check()


def continued(earlier: Manifest | None, manifest: Manifest) -> Manifest:
    """A search that goes on where it stood: the runs so far, with what is asked now.

    Args:
        earlier: what the directory holds, if anything.
        manifest: the search's first runs.

    Raises:
        SpecError: where the directory holds another kind of sweep, and where the metric is another thing now.
    """
    if SPACE not in manifest.options or earlier is None:
        return manifest
    if SPACE not in earlier.options:
        raise SpecError(
            "search: this directory holds the runs of a grid, of which a sampler knows nothing; give the "
            "search a directory of its own with --dir"
        )
    now, then = declared_metrics(manifest), declared_metrics(earlier)
    spec = sampler_of(manifest.options)
    name = (spec and spec.metric) or next(iter(now), None)
    if name in now and now[name] != then.get(name):
        raise SpecError(
            f"trainer.metrics.{name}={shown(now[name])}: the search in this directory has "
            f"{shown(then.get(name))}, by which its trials were chosen; say the same, or give --dir"
        )
    return dataclasses.replace(earlier, options=manifest.options, overrides=manifest.overrides)


def _thawed(manifest: Manifest, node: Mapping[str, Any]) -> ComposedSweep:
    return thawed(node, name=manifest.sweep, options=manifest.options, overrides=tuple(manifest.overrides))
