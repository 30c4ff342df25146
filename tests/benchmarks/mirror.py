"""What copying a sweep's runs to W&B costs the sweep, while it runs.

    python -m tests.benchmarks.mirror --json              8 pairs of turns of a minute, 20 minutes in all
    python -m tests.benchmarks.mirror --pairs 4 --to tensorboard

Beside one real sweep on every core `emsweep mirror` is called again and again, and is stopped and goes on in
turns (see :mod:`tests.benchmarks.turns`). ``cost`` is the share of the rate that is lost, with its standard
error over pairs of turns; ``copied_meanwhile`` says how many runs were copied by then. ``alone_ms_per_run``
is the time of a copy once the sweep has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.turns import cost, family, sweep_at_work, take_turns

EMSWEEP = Path(sys.executable).with_name("emsweep")

TURN_S = 60.0
"""Seconds of a turn."""

AGAIN_AND_AGAIN = 'while "$@" >/dev/null; do sleep 0.1; done'
"""Shell: calls a command until it fails."""


def environment() -> dict[str, str]:
    """Of every process: no key, so that runs are written for ``wandb sync``."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}


def command(folder: Path, to: str) -> list[str]:
    """Copies what has finished and is not copied yet."""
    return [str(EMSWEEP), "mirror", str(folder), "--to", to, "--json"]


def mirror(folder: Path, to: str) -> dict[str, Any]:
    """Copy; what the command answers."""
    done = subprocess.run(
        command(folder, to), stdout=subprocess.PIPE, text=True, check=True, env=environment()
    )
    return json.loads(done.stdout)


@contextlib.contextmanager
def mirroring(folder: Path, to: str) -> Iterator[psutil.Process]:
    """Copies again and again.

    Raises:
        RuntimeError: when a copy has failed.
    """
    words = ["sh", "-c", AGAIN_AND_AGAIN, "sh", *command(folder, to)]
    with subprocess.Popen(words, env=environment()) as calls:
        try:
            yield psutil.Process(calls.pid)
            if calls.poll() is not None:
                raise RuntimeError(f"a mirror beside the sweep failed: exit code {calls.returncode}")
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in family(psutil.Process(calls.pid)):
                    process.kill()


def copies(folder: Path, to: str) -> int:
    """Runs that are copied by now."""
    ledger = folder / to / "mirrored.txt"
    return len(ledger.read_text().split()) if ledger.exists() else 0


def measure(num_pairs: int, to: str) -> dict[str, Any]:
    """Take turns, then copy what is left."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "sweep")
        with sweep_at_work(folder, "eval.limit=50", "eval.steps=[0,10]"), mirroring(folder, to) as calls:
            turns = take_turns(num_pairs, TURN_S, {"mirror": lambda: family(calls)})
            meanwhile = copies(folder, to)
        figures = asdict(cost(folder, turns))
        started_s = time.perf_counter()
        rest = mirror(folder, to)
        alone_s = time.perf_counter() - started_s
        again = mirror(folder, to)
    return {
        "to": to,
        "cost": figures.pop("share"),
        "cost_se": figures.pop("standard_error"),
        **figures,
        "copied_meanwhile": meanwhile,
        "alone_ms_per_run": 1e3 * alone_s / max(1, rest["new"]),
        "afterwards": {"first": rest, "again": again},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--to", default="wandb")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = measure(asked.pairs, asked.to)
    if asked.json:
        print(json.dumps(figures))
        return
    print(
        f"cost {figures['cost']:.2%} ± {figures['cost_se']:.2%} of {figures['runs_per_s_off']:.1f} runs/s "
        f"over {figures['pairs']} pairs of turns"
    )
    meanwhile, later_ms = figures["copied_meanwhile"], figures["alone_ms_per_run"]
    print(f"{meanwhile} runs copied meanwhile; {later_ms:.0f} ms each once the sweep has ended")


if __name__ == "__main__":
    main()
