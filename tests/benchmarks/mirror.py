"""What copying a sweep's runs to W&B costs the sweep, while it runs.

    python -m tests.benchmarks.mirror --json              8 pairs of launches, one of each pair mirrored
    python -m tests.benchmarks.mirror --pairs 4 --to tensorboard

Each launch trains the same real runs on every core. Beside one launch of a pair `emsweep mirror` is called
again and again; the other is left alone; who goes first alternates. ``cost`` is the mean share of the rate
that is lost, with its standard error over pairs; ``copied_meanwhile`` says how many runs were copied in the
time. ``alone_ms_per_run`` is the time of a copy once the sweep has ended.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

EMSWEEP = Path(sys.executable).with_name("emsweep")

SWEEP = ("sweep=quickstart", "model=tiny-32", "example=carry-1", "eval.limit=50", "eval.steps=[0,10]")


class Turn(NamedTuple):
    """One launch."""

    runs_per_s: float
    """Its rate, from the first run handed out to the last committed."""
    copied: int
    """Runs that were mirrored meanwhile."""


class Mirroring(threading.Thread):
    """Calls ``emsweep mirror`` until told to stop."""

    def __init__(self, folder: Path, to: str) -> None:
        super().__init__(daemon=True)
        self._folder, self._to = folder, to
        self._stopped = threading.Event()
        self._error: RuntimeError | None = None

    def run(self) -> None:
        """Mirror what there is, again and again."""
        while not self._stopped.is_set():
            if (self._folder / "manifest.parquet").exists():
                try:
                    mirror(self._folder, self._to)
                except RuntimeError as error:
                    self._error = error
                    return
            time.sleep(0.1)

    def stop(self) -> None:
        """Let the present call end.

        Raises:
            RuntimeError: when a call failed.
        """
        self._stopped.set()
        self.join()
        if self._error:
            raise self._error


def environment() -> dict[str, str]:
    """Of every process: no key, so that runs are written for ``wandb sync``."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}


def called(*words: object) -> dict[str, Any]:
    """What a command answers.

    Raises:
        RuntimeError: when it fails.
    """
    done = subprocess.run(
        [EMSWEEP, *map(str, words), "--json"], capture_output=True, text=True, check=False, env=environment()
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def mirror(folder: Path, to: str) -> dict[str, Any]:
    """Copy what has finished."""
    return called("mirror", folder, "--to", to)


def copies(folder: Path, to: str) -> int:
    """Runs that are copied by now."""
    ledger = folder / to / "mirrored.txt"
    return len(ledger.read_text().split()) if ledger.exists() else 0


def take_turn(folder: Path, num_seeds: int, to: str | None) -> Turn:
    """Launch, with a mirror beside it or without."""
    mirroring = Mirroring(folder, to) if to else None
    if mirroring:
        mirroring.start()
    found = called("launch", *SWEEP, f"seed=range({num_seeds})", "--dir", folder, "--pool", "local", "--yes")
    copied = copies(folder, to) if to else 0
    if mirroring:
        mirroring.stop()
    return Turn(found["runs_per_s"], copied)


def measure(num_pairs: int, num_seeds: int, to: str) -> dict[str, Any]:
    """Take turns, then copy what is left."""
    costs, turns = [], []
    with tempfile.TemporaryDirectory() as place:
        for number in range(num_pairs):
            order = (to, None) if number % 2 else (None, to)
            pair = {
                kind: take_turn(Path(place, f"{number}-{kind or 'alone'}"), num_seeds, kind) for kind in order
            }
            costs.append(1 - pair[to].runs_per_s / pair[None].runs_per_s)
            turns.append(pair)
        last = Path(place, "0-alone")
        started_s = time.perf_counter()
        report = mirror(last, to)
        alone_s = time.perf_counter() - started_s
        again = mirror(last, to)
    return {
        "to": to,
        "pairs": num_pairs,
        "cost": mean(costs),
        "cost_se": stdev(costs) / math.sqrt(num_pairs) if num_pairs > 1 else None,
        "costs": costs,
        "runs_per_s": mean(pair[None].runs_per_s for pair in turns),
        "copied_meanwhile": mean(pair[to].copied for pair in turns),
        "alone_ms_per_run": 1e3 * alone_s / report["new"],
        "once": {"first": report, "again": again},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=60, help="four runs each")
    parser.add_argument("--to", default="wandb")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure(asked.pairs, asked.seeds, asked.to)
    if asked.json:
        print(json.dumps(found))
        return
    error = f" ± {found['cost_se']:.2%}" if found["cost_se"] is not None else ""
    print(f"cost {found['cost']:.2%}{error} of {found['runs_per_s']:.1f} runs/s over {asked.pairs} pairs")
    meanwhile, later_ms = found["copied_meanwhile"], found["alone_ms_per_run"]
    print(f"{meanwhile:.0f} runs copied meanwhile; {later_ms:.0f} ms each once the sweep has ended")


if __name__ == "__main__":
    main()
