"""How many jobs a second Hydra launchers run, the same unchanged application under each.

    python -m tests.benchmarks.launcher --json            emsweep, joblib and ray: 100 jobs, 3 rounds
    python -m tests.benchmarks.launcher --jobs 50 --rounds 5

Two applications: ``nothing`` returns a number, so that only launching counts (composing, output folders,
logging, results); ``fit`` is a logistic regression by gradient descent, about a tenth of a second. Each
round gives every launcher a turn, in an order that turns with the round; figures are medians over rounds,
``low`` and ``high`` the extremes. ``times_faster`` compares within rounds, so a busy machine counts less.

``jobs_per_s`` is over the whole process, start-up included; ``steady_per_s`` leaves out the time of two jobs;
``cpu_ms_per_job`` tells most on a busy machine. ``again_s`` is the same command once more, which only emsweep
has a use for. A launcher that is not installed is ``null``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

APP = """
import hydra
from omegaconf import DictConfig

{work}

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float:
    return work(config.lr, config.seed)

main()
"""

NOTHING = """
def work(lr, seed):
    return lr * seed
"""

FIT = """
import numpy as np

def work(lr, seed):
    rng = np.random.default_rng(seed)
    features, truth, weights = rng.normal(size=(2000, 50)), rng.normal(size=50), np.zeros(50)
    labels = features @ truth > 0
    for _ in range(400):
        chances = 1 / (1 + np.exp(-features @ weights))
        weights -= lr * features.T @ (chances - labels) / len(labels)
    return float(np.mean((chances > 0.5) == labels))
"""

APPS = {"nothing": NOTHING, "fit": FIT}

OURS = "emsweep"
LAUNCHERS = {OURS: "orchestrator", "joblib": "hydra_plugins.hydra_joblib_launcher"}
LAUNCHERS |= {"ray": "hydra_plugins.hydra_ray_launcher"}
"""Launcher to the package it needs."""

FEW = 2
"""Jobs whose time counts as start-up."""


class Turn(NamedTuple):
    """One launcher's turn."""

    few_s: float
    """Wall time of :data:`FEW` jobs."""
    whole_s: float
    """Wall time of all jobs."""
    cpu_s: float
    """Processor time between the two."""
    again_s: float | None
    """Wall time of the same command once more."""


def timed(folder: Path, launcher: str, num_jobs: int) -> tuple[float, float]:
    """Seconds of wall and of processor time that a multirun of ``num_jobs`` jobs takes as a whole.

    Raises:
        RuntimeError: when it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "app.py", "-m", f"hydra/launcher={launcher}", f"seed=range({num_jobs})"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{launcher}: {done.stderr[-2000:]}")
    wall_s = time.perf_counter() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def take_turn(app: str, launcher: str, num_jobs: int) -> Turn:
    """Time one launcher in a folder of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "conf").mkdir()
        (folder / "app.py").write_text(APP.format(work=APPS[app]))
        (folder / "conf" / "config.yaml").write_text("lr: 0.1\nseed: 0\nname: benchmark\n")
        few_s, few_cpu_s = timed(folder, launcher, FEW)
        whole_s, whole_cpu_s = timed(folder, launcher, num_jobs)
        again_s = timed(folder, launcher, num_jobs)[0] if launcher == OURS else None
        return Turn(few_s, whole_s, whole_cpu_s - few_cpu_s, again_s)


def spread(values: list[float]) -> dict[str, float]:
    """The median and the extremes."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def summary(turns: list[Turn], num_jobs: int) -> dict[str, Any]:
    """What a launcher's turns come to."""
    again = [turn.again_s for turn in turns if turn.again_s is not None]
    return {
        "jobs_per_s": spread([num_jobs / turn.whole_s for turn in turns]),
        "steady_per_s": median((num_jobs - FEW) / max(1e-9, t.whole_s - t.few_s) for t in turns),
        "start_s": median(turn.few_s for turn in turns),
        "cpu_ms_per_job": median(1e3 * turn.cpu_s / (num_jobs - FEW) for turn in turns),
        **({"again_s": median(again)} if again else {}),
    }


def measure(app: str, num_jobs: int, num_rounds: int) -> dict[str, Any]:
    """Let the launchers take turns with one application."""
    present = [name for name, package in LAUNCHERS.items() if importlib.util.find_spec(package)]
    turns: dict[str, list[Turn]] = {name: [] for name in present}
    for number in range(num_rounds):
        first = number % len(present)
        for name in present[first:] + present[:first]:
            turns[name].append(take_turn(app, name, num_jobs))
    ours = turns[OURS]
    return {
        **{name: summary(turns[name], num_jobs) if name in turns else None for name in LAUNCHERS},
        "times_faster": {
            name: spread([t.whole_s / o.whole_s for t, o in zip(theirs, ours, strict=True)])
            for name, theirs in turns.items()
            if name != OURS
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = {app: measure(app, asked.jobs, asked.rounds) for app in APPS}
    if asked.json:
        print(json.dumps({"jobs": asked.jobs, "rounds": asked.rounds, **figures}))
        return
    for app, rows in figures.items():
        for name in LAUNCHERS:
            if rows[name] is None:
                print(f"{app:8} {name:8} not installed")
                continue
            rate = rows[name]["jobs_per_s"]
            print(f"{app:8} {name:8} {rate['median']:6.1f} jobs/s [{rate['low']:.1f}, {rate['high']:.1f}]")
        for name, times in rows["times_faster"].items():
            print(f"{app:8} {times['median']:.2f}x {name} [{times['low']:.2f}, {times['high']:.2f}]")


if __name__ == "__main__":
    main()
