"""What a version costs beside an earlier one, in processor seconds, both in turns in one run.

    git worktree add ../before v0.1.0
    python -m tests.benchmarks.versions ../before [--pairs 5] [--json]

``runs``  ``open_sweep(…).runs()``, warm, of one finished no-op sweep that the earlier version wrote
``noop``  a driver's loop with its worker in the same process, from the first dispatch to the last commit

Each is the ratio new : old, mean over pairs with its standard error, and the seconds of both. Every
measurement is a process of its own, in the version's checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RUNS = 13_440
"""Of the study that emsweep was made for."""

_RUNS = """
import sys, time
from analysis import open_sweep
sweep = open_sweep(sys.argv[1])
sweep.runs()
spent = []
for _ in range(30):
    started = time.process_time()
    sweep.runs()
    spent.append(time.process_time() - started)
print(min(spent))
"""

_NOOP = """
import contextlib, io, sys, time
try:
    from orchestrator.driver.driver import Driver
except ImportError:  # before it had a room of its own
    from orchestrator.driver import Driver
from orchestrator.cli import main
loop, spent = Driver._loop, []
def timed(self, *given, **named):
    started = time.process_time()
    try:
        return loop(self, *given, **named)
    finally:
        spent.append(time.process_time() - started)
Driver._loop = timed
with contextlib.redirect_stdout(io.StringIO()):
    words = ["launch", "sweep=noop", f"sweep.n={sys.argv[2]}", "--pool", "inline", "--dir", sys.argv[1]]
    assert main([*words, "--yes", "--json"]) == 0
print(spent[0])
"""


def seconds(checkout: Path, code: str, *words: object) -> float:
    """Processor seconds that a child of this version prints."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def compared(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Ratio new : old of each pair, and the medians."""
    ratios = [new / old for old, new in pairs]
    return {
        "ratio": statistics.mean(ratios),
        "standard_error": statistics.stdev(ratios) / len(ratios) ** 0.5,
        "old_s": statistics.median(old for old, _ in pairs),
        "new_s": statistics.median(new for _, new in pairs),
    }


def measure(old: Path, num_pairs: int, num_runs: int = RUNS) -> dict[str, Any]:
    """Both figures."""
    new = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as scratch:
        swept = Path(scratch) / "swept"
        seconds(old, _NOOP, swept, num_runs)
        runs, noop = [], []
        for number in range(num_pairs):
            runs.append((seconds(old, _RUNS, swept), seconds(new, _RUNS, swept)))
            folders = [Path(scratch) / f"{version}-{number}" for version in ("old", "new")]
            noop.append(
                (seconds(old, _NOOP, folders[0], num_runs), seconds(new, _NOOP, folders[1], num_runs))
            )
    return {"pairs": num_pairs, "num_runs": num_runs, "runs": compared(runs), "noop": compared(noop)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout of the earlier version")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    print(json.dumps(measure(args.old.resolve(), args.pairs), indent=None if args.json else 2))


if __name__ == "__main__":
    main()
