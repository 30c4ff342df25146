"""How many runs a race will take: the least, the most, and what an earlier sweep's spread lets one expect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from orchestrator.planning.race_question import RaceQuestion
from orchestrator.scheduling.sweep_race import race_rule
from orchestrator.store.layout import Layout
from sweeps.deciding.race import Race
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import SpecError
from sweeps.spec.text import counted

SIMULATED_RUNS = 200_000
"""Runs of all simulated races together: about two seconds."""

MOST_RACES, FEWEST_RACES = 200, 8
"""Races simulated at most, and at least however large they are."""

MIDDLE = (0.05, 0.95)
"""Quantiles of the simulated numbers of runs that are told beside their mean."""


@dataclass(frozen=True, kw_only=True)
class RacePrice:
    """Runs that a race will take, those that are done already included."""

    asked: RaceQuestion
    least: int
    """Were every cell decided as soon as it may be."""
    most: int
    """Every run, or the race's budget."""
    expected: float | None = None
    """Mean over simulated races; ``None`` without an earlier sweep to take the spread from."""
    low: float | None = None
    """Runs of the shortest simulated races, 5 %."""
    high: float | None = None
    """… and of the longest."""
    like: str = ""
    """The earlier sweep."""

    def to_json(self) -> dict[str, Any]:
        names = ("least", "most", "expected", "low", "high")
        found = {f"runs_{name}": getattr(self, name) for name in names}
        return {**self.asked.spec.to_json(), "metric": self.asked.metric, **found, "like": self.like or None}

    def __str__(self) -> str:
        spec = self.asked.spec
        text = f"{spec.question} in {self.asked.metric}: {self.least:,} to {counted(self.most, 'run')}"
        if self.expected is None:
            return f"{text}; --like D says how many to expect by the spread of an earlier sweep"
        return (
            f"{text}; about {self.expected:,.0f} expected ({self.low:,.0f} to {self.high:,.0f} in nine of "
            f"ten) by the spread of {self.like}"
        )


def race_price(manifest: Manifest, asked: RaceQuestion, like: Path | None) -> RacePrice:
    """Bound a race, and simulate it where an earlier sweep says how its cells lie.

    Raises:
        SpecError: for an earlier sweep without the metric.
    """
    race = asked.begin(manifest)
    num_seeds = len(np.unique(race.position))
    inside = int(np.isin(manifest.cells, [cell for cells in race.members for cell in cells]).sum())
    outside = len(manifest) - inside  # in none of the pairs that are compared: all of them are run
    most = len(manifest) if asked.spec.runs is None else min(len(manifest), outside + asked.spec.runs)
    least = min(most, outside + round(inside / num_seeds * min(asked.spec.min_seeds, num_seeds)))
    if like is None or asked.spec.question == "compare":
        return RacePrice(asked=asked, least=least, most=most)
    cells = _cells_of(like, asked)
    taken = _simulated(cells, asked, len(race.members), num_seeds)
    taken = np.clip(taken * len(manifest) / (len(race.members) * num_seeds), least, most)
    low, high = np.quantile(taken, MIDDLE)
    return RacePrice(
        asked=asked,
        least=least,
        most=most,
        expected=float(taken.mean()),
        low=float(low),
        high=float(high),
        like=str(like),
    )


def _cells_of(like: Path, asked: RaceQuestion) -> np.ndarray:
    """Mean and spread over seeds of each cell of an earlier sweep, shape (cells, 2)."""
    path = Layout(like).table("runs")
    names = pq.read_schema(path).names if path.exists() else []
    wanted = [asked.metric]
    if asked.spec.question == "above_base" and asked.spec.base is None:
        wanted.append(f"base_{asked.metric}")
    if not set(wanted) <= set(names):
        raise SpecError(
            f"--like {like}: its runs have no {' and '.join(wanted)}, which the race is about; name a "
            "finished sweep that has"
        )
    table = pq.read_table(path, columns=["cell", *wanted])
    value = table[asked.metric].to_numpy().astype(float)
    if len(wanted) > 1:
        value = value - table[wanted[1]].to_numpy().astype(float)
    elif asked.spec.base is not None:
        value = value - asked.spec.base
    cell, known = table["cell"].to_numpy(), np.isfinite(value)
    rows = [value[known & (cell == number)] for number in np.unique(cell[known])]
    found = [(part.mean(), part.std(ddof=1)) for part in rows if len(part) > 1]
    if not found:
        raise SpecError(
            f"--like {like}: no cell of it has two runs with {asked.metric}; name a finished sweep"
        )
    return np.array(found)


def _simulated(cells: np.ndarray, asked: RaceQuestion, num_members: int, num_seeds: int) -> np.ndarray:
    """Runs that each of some simulated races takes: cells drawn of the known ones, normal over seeds."""
    draws = np.random.default_rng(0)
    num_races = SIMULATED_RUNS // (num_members * num_seeds)
    taken = []
    for _ in range(max(FEWEST_RACES, min(MOST_RACES, num_races))):
        mean, spread = cells[draws.integers(len(cells), size=num_members)].T
        race, left, runs = Race(num_members, race_rule(asked.spec, asked.info)), set(range(num_members)), 0
        for position in range(num_seeds):
            luck = draws.standard_normal(num_members)
            for member in left:
                value = mean[member] + spread[member] * luck[member]
                race.add(member, position, float(np.clip(value, *_ends(race))))
            runs += len(left)
            left -= {verdict.member for verdict in race.decide()}
        taken.append(runs)
    return np.array(taken, dtype=float)


def _ends(race: Race) -> tuple[float, float]:
    return race.rule.bounds or (-np.inf, np.inf)
