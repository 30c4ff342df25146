"""Sweeps launched into a real Slurm, from submission to their last result."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import open_sweep

ROOT = Path(__file__).parents[2]
EMSWEEP = [sys.executable, "-P", "-m", "orchestrator.cli"]
SWEEP = ("sweep=quickstart", "model=tiny-32", "example=carry-1", "optim.lr=1e-4,2e-4", "seed=0,1")
SWEEP += ("eval.limit=8", "steps=2")
RESULTS = ["optim.lr", "seed", "accuracy_sampled", "accuracy_greedy", "first_entropy_nats"]


def called(cluster, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EMSWEEP, *map(str, words)],
        cwd=folder,
        env={**cluster.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def emsweep(cluster, folder: Path, *words: object) -> dict:
    """What a command prints as JSON."""
    done = called(cluster, folder, *words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def launch_words(folder: Path, nodes: int, setup: str = "") -> list[object]:
    """A launch into the queue."""
    job = {"nodes": nodes, "gpus_per_node": 0, "cpus_per_node": 1, "memory_gib": 4, "scratch": "/tmp"}
    job["setup"] = f"'export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}; {setup or ':'}'"
    asked = [f"cluster.job.{key}={value}" for key, value in job.items()]
    return ["launch", *SWEEP, "cluster=slurm", *asked, "--dir", folder / "out", "--yes"]


def submitted(cluster, folder: Path, nodes: int, setup: str = "") -> str:
    """Number of the job that a launch has become."""
    told = emsweep(cluster, folder, *launch_words(folder, nodes, setup))
    number = re.fullmatch(r"Submitted batch job (\d+)", told["submitted"])[1]
    assert told["job"] == number
    return number


@pytest.mark.timeout(400)
@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_a_launch_on_any_number_of_nodes_ends_with_one_machines_numbers(cluster, tmp_path, nodes):
    job = submitted(cluster, tmp_path, nodes)
    state = cluster.wait_for_job(job, seconds=300)
    log = next(tmp_path.glob("*.log")).read_text()
    assert state == "COMPLETED", log
    assert emsweep(cluster, tmp_path, "verify", tmp_path / "out")["ok"]
    emsweep(cluster, tmp_path, "launch", *SWEEP, "--dir", tmp_path / "one", "--pool", "inline", "--yes")
    found, expected = (open_sweep(tmp_path / name).runs()[RESULTS] for name in ("out", "one"))
    assert found.equals(expected)
