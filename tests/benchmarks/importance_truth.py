"""Does the importance table give planted shares of variance back, on every kind of grid a sweep can be?

    python -m tests.benchmarks.importance_truth --json

Each design has fixed effects of known variance on the sets of axes that it can separate, a seed effect and
noise, both of known variance; a few hundred worlds differ in their noise. An estimate is right if its mean
over worlds lies within two points, or within two Monte Carlo errors, of what was planted.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.stats.aliasing import ABSENT
from analysis.stats.anova import Decomposition, decompose

SIMULATIONS = 100
"""Worlds a design: the error of a mean share is then some tenths of a point."""

TOLERANCE = 0.02
"""Two points."""

SEEDS = 6
NOISE_SHARE, SEED_SHARE = 0.2, 0.05

Pool = tuple[int, ...]
"""Axes that one factor holds."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """A grid and the effects planted in it."""

    name: str
    cells: np.ndarray
    """Levels, shape (cells, axes); −1 where an axis does not exist."""
    shares: Mapping[tuple[Pool, ...], float]
    """Share of the variance of runs by the set of factors that moves together: one for a main effect."""
    missing: float = 0.0
    """Share of runs without a value, other ones in every world."""


def designs() -> list[Design]:
    crossed = np.array(list(itertools.product(range(4), range(3), range(5))))
    nested = np.array([[s, f] for s in (0, 1) for f in (ABSENT,)] + [[2, f] for f in range(4)])
    twice = np.array(
        [[0, ABSENT, ABSENT], [1, ABSENT, ABSENT], *([2, f, g] for f in range(3) for g in (0, 1))]
    )
    zipped = np.array([[i, i] for i in range(4)])
    ladder = np.array(
        [[0, 0, ABSENT], [1, 1, ABSENT], [2, 2, ABSENT], *([1, lr, t] for lr in (3, 4, 5) for t in (0, 1))]
    )
    return [
        Design(
            name="crossed",
            cells=crossed,
            shares={((0,),): 0.4, ((1,),): 0.05, ((2,),): 0.0, ((0,), (1,)): 0.3},
        ),
        Design(
            name="nested under when",
            cells=_times(nested, 5),
            shares={((0,),): 0.45, ((1,),): 0.2, ((2,),): 0.1},
        ),
        Design(
            name="all of it between schedules",
            cells=_times(twice, 2),
            shares={((0,),): 0.7, ((1,),): 0.05, ((2,),): 0.0, ((3,),): 0.0},
        ),
        Design(
            name="zipped",
            cells=_times(zipped, 3, 2),
            shares={((0, 1),): 0.55, ((2,),): 0.1, ((3,),): 0.0, ((0, 1), (2,)): 0.1},
        ),
        Design(
            name="zipped and laid end to end",
            cells=_times(ladder, 2),
            shares={((0, 1),): 0.6, ((2,),): 0.05, ((3,),): 0.1},
        ),
        Design(
            name="unbalanced: a fifth of the runs missing",
            cells=crossed,
            shares={((0,),): 0.4, ((1,),): 0.05, ((2,),): 0.15, ((0,), (1,)): 0.15},
            missing=0.2,
        ),
        Design(
            name="unbalanced: a corner of the grid excluded",
            cells=crossed[~((crossed[:, 0] == 3) & (crossed[:, 2] >= 3))],
            shares={((0,),): 0.4, ((1,),): 0.2, ((2,),): 0.15},
        ),
        Design(
            name="nested, a tenth of the runs missing",
            cells=_times(nested, 5),
            shares={((0,),): 0.6, ((1,),): 0.1, ((2,),): 0.05},
            missing=0.1,
        ),
    ]


def _times(cells: np.ndarray, *sizes: int) -> np.ndarray:
    """The cells multiplied with further axes of so many levels each."""
    return np.array([[*row, *more] for row in cells for more in itertools.product(*map(range, sizes))])


def planted_cells(design: Design, rng: np.random.Generator) -> np.ndarray:
    """Mean of each cell: effects that are orthogonal over the cells, each of its planted variance."""
    spanned = [np.ones((len(design.cells), 1))]
    total = np.zeros(len(design.cells))
    for pools, share in sorted(design.shares.items(), key=lambda item: len(item[0])):
        dummies = _dummies(design.cells, pools)
        # What this effect adds to all before it: its margins, and whatever overlaps it by the grid's gaps.
        before = np.hstack(spanned)
        columns = dummies - before @ np.linalg.lstsq(before, dummies, rcond=None)[0]
        effect = columns @ rng.normal(size=columns.shape[1])
        total += effect / effect.std() * np.sqrt(share)
        spanned.append(dummies)
    return total


def _dummies(cells: np.ndarray, pools: Sequence[Pool]) -> np.ndarray:
    """One column per combination of levels of these factors that exists."""
    axes = [axis for pool in pools for axis in pool]
    _, code = np.unique(cells[:, axes], axis=0, return_inverse=True)
    present = np.all([(cells[:, list(pool)] != ABSENT).any(axis=1) for pool in pools], axis=0)
    dummies = code.ravel()[:, None] == np.unique(code.ravel()[present])
    return (dummies & present[:, None]).astype(float)


def estimates(
    design: Design, simulations: int, rng: np.random.Generator
) -> dict[tuple[Pool, ...] | str, Any]:
    """Shares by set of factors, and of seed and noise, one for each world; NaN for a set without a line."""
    mean_C = planted_cells(design, rng)
    found: dict[tuple[Pool, ...] | str, list[float]] = {key: [] for key in (*design.shares, "seed", "noise")}
    for _ in range(simulations):
        seed_S = rng.normal(size=SEEDS)
        seed_S = (seed_S - seed_S.mean()) / seed_S.std() * np.sqrt(SEED_SHARE)
        values_CS = mean_C[:, None] + seed_S + rng.normal(size=(len(mean_C), SEEDS)) * np.sqrt(NOISE_SHARE)
        values_CS[rng.random(values_CS.shape) < design.missing] = np.nan
        result = decompose(values_CS, design.cells)
        shares = _by_pools(result)
        for key in design.shares:
            found[key].append(shares.get(key, np.nan))
        found["seed"].append(result.seed_share)
        found["noise"].append(result.noise_share)
    return found


def _by_pools(result: Decomposition) -> dict[tuple[Pool, ...], float]:
    return {tuple(result.factors[n].axes for n in effect.axes): effect.share for effect in result.effects}


def importance_truth(simulations: int = SIMULATIONS, seed: int = 0) -> dict[str, Any]:
    """Planted and estimated shares of every design.

    Returns:
        ``ok``, whether all are right; ``designs``, per design a list of sets with ``planted``, ``estimated``,
        ``monte_carlo_error`` and ``ok``; ``largest_gap``.
    """
    report: dict[str, Any] = {}
    for design in designs():
        rng = np.random.default_rng([seed, len(report)])
        total = sum(design.shares.values()) + SEED_SHARE + NOISE_SHARE
        planted = {**design.shares, "seed": SEED_SHARE, "noise": NOISE_SHARE}
        lines = []
        for key, shares in estimates(design, simulations, rng).items():
            values = np.asarray(shares)
            mean = float(values.mean())
            error = float(values.std(ddof=1) / np.sqrt(len(values)))
            gap = abs(mean - planted[key] / total)
            lines.append(
                {
                    "set": key if isinstance(key, str) else " × ".join(map(str, key)),
                    "planted": planted[key] / total,
                    "estimated": mean,
                    "monte_carlo_error": error,
                    "ok": bool(gap <= max(TOLERANCE, 2 * error)),
                }
            )
        report[design.name] = lines
    every = [line for lines in report.values() for line in lines]
    return {
        "ok": all(line["ok"] for line in every),
        "simulations": simulations,
        "largest_gap": max(abs(line["estimated"] - line["planted"]) for line in every),
        "designs": report,
    }


def main(write: Callable[[str], Any] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=SIMULATIONS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = importance_truth(args.simulations)
    if args.json:
        write(json.dumps(found))
        return
    for name, lines in found["designs"].items():
        for line in lines:
            write(
                f"{name:45} {line['set']:20} planted {100 * line['planted']:5.1f} %  estimated "
                f"{100 * line['estimated']:5.1f} ± {100 * line['monte_carlo_error']:.1f} %"
                + ("" if line["ok"] else "  WRONG")
            )


if __name__ == "__main__":
    main()
