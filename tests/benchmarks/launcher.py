"""How many jobs a second Hydra launchers run, the same unchanged application under each.

    python -m tests.benchmarks.launcher --json            emsweep, joblib, ray and basic, 200 jobs each
    python -m tests.benchmarks.launcher --jobs 50

The application computes nothing, so that only launching counts: composing, output folders, logging, results.
``jobs_per_s`` is over the whole process, start-up included; ``steady_per_s`` leaves start-up out by taking
the time of two jobs off; ``cpu_ms_per_job`` tells most on a busy machine. Hydra's sweeper composes every
job itself before any launcher sees it, one after the other, so that no launcher is faster than that.
``again_s`` is the same command once more, which only emsweep has a use for. A launcher that is not installed
gives ``null``.
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
from typing import Any

APP = """
import hydra
from omegaconf import DictConfig
@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float: return config.lr * config.seed
main()
"""

LAUNCHERS = {"emsweep": "orchestrator", "joblib": "hydra_plugins.hydra_joblib_launcher"}
LAUNCHERS |= {"ray": "hydra_plugins.hydra_ray_launcher", "basic": "hydra"}
"""Launcher to the package it needs."""

FEW = 2
"""Jobs whose time counts as start-up."""


def timed(folder: Path, launcher: str, num_jobs: int) -> tuple[float, float]:
    """Seconds of wall and of processor time that a multirun of ``num_jobs`` jobs takes as a whole.

    Raises:
        RuntimeError: when it fails.
    """
    words = ["-m", f"hydra/launcher={launcher}", f"seed=range({num_jobs})"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "app.py", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{launcher}: {done.stderr[-2000:]}")
    wall_s = time.perf_counter() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(launcher: str, num_jobs: int) -> dict[str, Any] | None:
    """Time one launcher in a folder of its own."""
    if importlib.util.find_spec(LAUNCHERS[launcher]) is None:
        return None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "conf").mkdir()
        (folder / "app.py").write_text(APP)
        (folder / "conf" / "config.yaml").write_text("lr: 0.1\nseed: 0\nname: benchmark\n")
        few_s, few_cpu_s = timed(folder, launcher, FEW)
        whole_s, whole_cpu_s = timed(folder, launcher, num_jobs)
        found = {
            "jobs_per_s": num_jobs / whole_s,
            "steady_per_s": (num_jobs - FEW) / max(1e-9, whole_s - few_s),
            "start_s": few_s,
            "cpu_ms_per_job": 1e3 * (whole_cpu_s - few_cpu_s) / (num_jobs - FEW),
        }
        if launcher == "emsweep":
            found["again_s"], _ = timed(folder, launcher, num_jobs)
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found: dict[str, Any] = {name: measure(name, asked.jobs) for name in LAUNCHERS}
    ours = found["emsweep"]["jobs_per_s"]
    times_faster = {name: ours / f["jobs_per_s"] for name, f in found.items() if f and name != "emsweep"}
    if asked.json:
        print(json.dumps({"jobs": asked.jobs, **found, "times_faster_than": times_faster}))
        return
    for name, row in found.items():
        text = "not installed" if row is None else "  ".join(f"{k} {v:.2f}" for k, v in row.items())
        print(f"{name:8} {text}")


if __name__ == "__main__":
    main()
