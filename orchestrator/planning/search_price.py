"""How many runs a search will take, and runs like those that it will propose, to price it by."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.planning.search_question import SearchQuestion, held_out_seeds, seeds_of
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import Layout
from orchestrator.store.proposals import read_proposals
from sweeps.deciding.proposing import Proposer
from sweeps.grid.space import Point, Space
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import SpecError
from sweeps.spec.sampler_rules import SamplerSpec
from sweeps.spec.text import counted


@dataclass(frozen=True, kw_only=True)
class SearchPrice:
    """What a search will take."""

    asked: SearchQuestion
    trials_made: int
    """Trials that its directory holds already."""
    num_open: int
    """Runs of these that have still to be done."""

    @property
    def trials_left(self) -> int:
        """Trials that are still to be made."""
        return max(0, self.asked.spec.trials - self.trials_made)

    @property
    def runs_most(self) -> int:
        """Runs still to be done at most: a budget of GPU hours, and choices that repeat, make it fewer."""
        spec, space = self.asked.spec, self.asked.runs.space
        further = len(held_out_seeds(space, spec)) if self.trials_left else 0
        return self.num_open + self.trials_left * spec.seeds_per_trial + further

    def to_json(self) -> dict[str, Any]:
        return {
            **self.asked.spec.to_json(),
            "metric": self.asked.metric,
            "trials_made": self.trials_made,
            "runs_most": self.runs_most,
            "space": axes_text(self.asked.runs.space),
        }

    def __str__(self) -> str:
        spec = self.asked.spec
        way = "highest" if self.asked.maximize else "lowest"
        further = len(held_out_seeds(self.asked.runs.space, spec))
        text = (
            f"{spec.kind} for the {way} {self.asked.metric}: {counted(spec.trials, 'trial')} of "
            f"{counted(spec.seeds_per_trial, 'seed')}"
        )
        if further:
            text += f", then the best on {counted(further, 'seed')} that did not choose it"
        if self.trials_made:
            text += f"; {self.trials_made:,} made"
        drawn_in = ", ".join(f"{key}={values}" for key, values in axes_text(self.asked.runs.space).items())
        runs = counted(self.runs_most, "run")
        return f"{text}; at most {runs} to do, priced as if drawn at random of {drawn_in}"


def axes_text(space: Space) -> dict[str, str]:
    """What each axis but the seed can be, in words."""
    return {a.key: str(a.interval) if a.interval else ",".join(map(str, a.values)) for a in space.axes}


def search_price(asked: SearchQuestion, directory: Path) -> SearchPrice:
    """Read off a directory how many trials it has; one that is no sweep has none."""
    records = [r for r in read_proposals(Layout(directory)) if r.runs]
    made = {tuple(r.runs) for r in records if not r.held_out}
    run_ids = list(dict.fromkeys(run_id for r in records for run_id in r.runs))
    num_open = read_index(Layout(directory), run_ids, live=True).book.counts()["pending"]
    return SearchPrice(asked=asked, trials_made=len(made), num_open=num_open)


def drawn_runs(price: SearchPrice, manifest: Manifest) -> Manifest:
    """Runs of the trials that are open or left as if drawn at random; one trial's where none is.

    Args:
        manifest: of the search, for what is no part of any run.

    Raises:
        SpecError: where exclusions leave next to nothing of the space.
    """
    asked = price.asked
    spec, space = asked.spec, asked.runs.space
    wanted = max(1, price.trials_left + math.ceil(price.num_open / spec.seeds_per_trial))
    draws = Proposer(space, SamplerSpec(kind="random", trials=wanted), maximize=True)
    points: list[Point] = []
    for _ in range(10 * wanted):
        if len(points) < wanted and space.allows(point := draws.ask().point):
            points.append(point)
    if not points:
        raise SpecError("sweep.exclude: leaves next to no choice of the space; narrow it")
    seeds = seeds_of(space, spec)
    further = held_out_seeds(space, spec) if price.trials_left else ()
    runs = asked.runs.manifest(
        [p for p in points for _ in seeds] + [points[0]] * len(further), [*seeds] * len(points) + [*further]
    )
    return dataclasses.replace(runs, options=manifest.options, overrides=manifest.overrides)
