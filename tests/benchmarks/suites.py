"""What each part of the tests costs: the table in `CONTRIBUTING.md`.

    python -m tests.benchmarks.suites                    every part in turn: the better part of an hour
    python -m tests.benchmarks.suites quick sweeps       some of them

Processor seconds are user and system time of pytest and of the processes that it waited for; daemons that end
by themselves, such as Ray's, are not among them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

SUITES = {
    "lint": "make lint",
    "quick": "make quick",
    "sweeps": 'pytest tests/sweeps -m "not slow"',
    "trainers": 'pytest tests/trainers -m "not slow"',
    "orchestrator": 'pytest tests/orchestrator -m "not slow"',
    "analysis": 'pytest tests/analysis -m "not slow"',
    "compat": "pytest tests/compat tests/docs",
    "integration": 'pytest tests/integration -m "not slow"',
    "docker": 'pytest tests/docker -m "not slow"',
    "chaos": 'pytest -m "chaos and not slow"',
    "browser": "pytest -m browser",
    "gpu": "pytest -m gpu",
    "slow": "pytest -m slow",
}
"""Name and command of each part."""


def measure(command: str) -> tuple[float, float, str]:
    """Processor seconds, wall seconds and the last line of a command."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False)
    after, wall_s = os.times(), time.perf_counter() - started
    spent_s = sum(after[2:4]) - sum(before[2:4])
    return spent_s, wall_s, (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]


def main() -> None:
    """Print a row of the table for each part that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *SUITES], default=[])
    for name in parser.parse_args().names or SUITES:
        spent_s, wall_s, last = measure(SUITES[name])
        print(f"| {name} | `{SUITES[name]}` | {spent_s:,.0f} s | {wall_s:,.0f} s |", flush=True)
        print(last, file=sys.stderr)


if __name__ == "__main__":
    main()
