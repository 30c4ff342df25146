"""What deciding early saves, and how often it is wrong.

    python -m tests.benchmarks.decide --json
    python -m tests.benchmarks.decide --grid outputs/grid --parts simulated replayed

The figures of races, see :mod:`tests.benchmarks.races`:

``race_error_rate``    false verdicts among verdicts, mean share over simulated sweeps with planted truth
``null_error_rate``    share of simulated sweeps without any effect in which anything at all was decided
``best_error_rate``    share of simulated sweeps in which the best cell was beaten
``race_runs_share``    runs that a race over the stored grid asked for, of all its runs, ``above_base``
``race_agreement``     share of its verdicts whose sign is that of the mean of all 16 seeds

All by ``fdr``; by ``fwer`` with ``_fwer``, where an error is any false verdict in a sweep. With
``_resampled`` the spread is the stored residuals themselves, skew and all, and not normal draws
with their covariances; with ``_greedy`` the metric is greedy and not sampled accuracy. ``best_…``
asks for the best of the whole grid, with ``_of_30`` of the cells of one model and example;
``mixture_…`` is what p-values of a t mixture would decide. Figures of searches and of early stopping
are told in :mod:`tests.benchmarks.searches` and :mod:`tests.benchmarks.pruning`. Without a stored grid
there is no replay, and the spread is an assumed one: both are said.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import pruning, races, searches

PARTS: dict[str, Callable[[races.StoredGrid | None, int], dict[str, float]]] = {
    "simulated": races.simulated,
    "replayed": races.replayed,
    "searched": searches.searched,
    "pruned": pruning.pruned,
}
"""Parts in their order."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grid", type=Path, default=Path("outputs/grid"), help="a finished grid13440")
    parser.add_argument("--sweeps", type=int, default=2000, help="sweeps to simulate, default 2000")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    grid = races.stored_grid(options.grid)
    if grid is None:
        said = "no replay, and the spread of the simulations is assumed"
        print(f"{options.grid} holds no finished grid13440: {said}; --grid DIR names one", file=sys.stderr)
    figures: dict[str, float] = {"grid_cells": 0 if grid is None else len(grid.values["sampled"])}
    for part in options.parts:
        figures |= PARTS[part](grid, options.sweeps)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:40} {value:12.4f}")


if __name__ == "__main__":
    main()
