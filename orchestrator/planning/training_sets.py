"""What a plan says of training sets: how many rows, in which order, how often a run goes through them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sweeps.grid.columns import combine
from sweeps.manifest.manifest import Manifest
from sweeps.spec import DataSpec
from sweeps.spec.mix import parts_of
from sweeps.spec.text import counted


@dataclass(frozen=True, kw_only=True)
class PlannedSet:
    """A training set, as some runs walk over it."""

    name: str
    path: str
    rows: int
    prompts_per_step: int
    order: str
    runs: int
    epochs_min: float
    """Passes over its rows of the shortest of those runs."""
    epochs_max: float
    share: float = 1.0
    """Of the prompts of a step, those of this set of a mix."""
    draws: int = 1
    """Different choices of so many rows."""
    rounds: int = 0
    """Rounds in which the model writes what it is then trained on; 0 for runs that do not go in rounds."""
    completions_per_round: int = 0

    def beside(self, other: PlannedSet, draws: int) -> PlannedSet:
        """This set and another choice of as many rows, which makes so many different ones."""
        return replace(
            self,
            runs=self.runs + other.runs,
            draws=draws,
            epochs_min=min(self.epochs_min, other.epochs_min),
            epochs_max=max(self.epochs_max, other.epochs_max),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        low, high = f"{self.epochs_min:.3g}", f"{self.epochs_max:.3g}"
        epochs = f"{low} epoch{'' if low == '1' else 's'}" if low == high else f"{low} to {high} epochs"
        draws = f" ({self.draws:,} draws)" if self.draws > 1 else ""
        share = f"{self.share:.3g} of " if self.share < 1 else ""
        rounds = ""
        if self.rounds:
            rounds = (
                f"{counted(self.rounds, 'round')} of {counted(self.completions_per_round, 'completion')}, "
            )
        return (
            f"{self.name}: {counted(self.rows, 'row')}{draws}, {self.order}, {rounds}"
            f"{share}{self.prompts_per_step:,} a step · {epochs} · {counted(self.runs, 'run')}"
        )


def planned_sets(manifest: Manifest) -> list[PlannedSet]:
    """The training sets of a sweep in the order of its runs; one walked over in several ways is several,
    several draws of as many rows are one.
    """
    codes = _ways(manifest)
    sets: dict[tuple[Any, ...], PlannedSet] = {}
    digests: dict[tuple[Any, ...], set[str]] = {}
    for row in sorted(np.unique(codes, return_index=True)[1].tolist()):
        data = manifest.group("data", row)
        if not data.is_set:
            continue
        runs = np.flatnonzero(codes == codes[row])
        kinds = zip(
            manifest.group_codes["objective"][runs].tolist(), manifest.steps[runs].tolist(), strict=True
        )
        iterations = {
            code: manifest.group("objective", int(run)).iterations
            for code, run in zip(manifest.group_codes["objective"][runs].tolist(), runs.tolist(), strict=True)
        }
        longest = [-(-steps // iterations[code]) * data.prompts_per_step for code, steps in set(kinds)]
        first = manifest.spec(row)
        rounds, drawn = (first.curate.rounds, first.rollouts_at_once) if first.curate.is_on else (0, 0)
        if rounds:  # passes over the prompts that are completed, whatever is kept of the completions
            longest = [rounds * (first.curate.prompts or data.num_rows)]
        for part, share in _with_shares(data):
            planned = PlannedSet(
                name=f"{data.name}/{part.name}" if data.mix else data.name,
                path=str(part.path),
                rows=part.num_rows,
                prompts_per_step=data.prompts_per_step,
                order=part.order,
                runs=len(runs),
                epochs_min=min(longest) * share / part.num_rows,
                epochs_max=max(longest) * share / part.num_rows,
                share=share,
                rounds=rounds,
                completions_per_round=drawn,
            )
            way = (planned.prompts_per_step, planned.order, share, rounds, drawn)
            kind = (planned.name, planned.path, planned.rows, *way)
            digests.setdefault(kind, set()).add(part.digest)
            sets[kind] = planned.beside(sets[kind], len(digests[kind])) if kind in sets else planned
    return list(sets.values())


def _ways(manifest: Manifest) -> np.ndarray:
    """Which set runs walk over, and what rounds take of it, numbered; int64 of shape (runs,)."""
    _, rows, which = np.unique(manifest.group_codes["curate"], return_index=True, return_inverse=True)
    seen: dict[tuple[Any, ...], int] = {}
    told = []
    for curate in (manifest.group("curate", row) for row in rows.tolist()):
        way = (curate.is_on, curate.rounds, curate.prompts, curate.completions)
        told.append(seen.setdefault(way, len(seen)))
    return combine([manifest.group_codes["data"], np.array(told)[which]], len(manifest))


def _with_shares(data: DataSpec) -> list[tuple[DataSpec, float]]:
    """The sets of a mix with their shares of the prompts, or the one set there is."""
    if not data.mix:
        return [(data, 1.0)]
    parts = parts_of(data)
    return [(part.data, part.weight / sum(other.weight for other in parts)) for part in parts]
