"""A sweep handed to a real Slurm, to be watched, disturbed and held against one machine's numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import open_sweep
from orchestrator.store.job_note import read_job
from orchestrator.store.layout import Layout
from tests.slurm.slurm_cluster import SlurmCluster

ROOT = Path(__file__).parents[2]
EMSWEEP = [sys.executable, "-P", "-m", "orchestrator.cli"]
SMALL = ("sweep=quickstart", "model=tiny-32", "example=carry-1", "optim.lr=1e-4,2e-4", "seed=0,1")
SMALL += ("eval.limit=8", "steps=2")
"""Four runs, over in a second."""

LONG = ("sweep=quickstart", "model=tiny-32", "example=carry-1", "optim.lr=1e-4,2e-4", "seed=range(32)")
LONG += ("steps=10", "eval.limit=48", "cluster.batch_s=1")
"""64 runs that keep two cores busy for half a minute, in short batches."""

RESULTS = ["optim.lr", "seed", "accuracy_sampled", "accuracy_greedy", "first_entropy_nats"]
"""What must not depend on where a run ran."""


class QueuedSweep:
    """One sweep in its directory, and the cluster that runs it."""

    def __init__(self, cluster: SlurmCluster, folder: Path, words: tuple[str, ...] = SMALL) -> None:
        self.cluster, self.folder, self.words = cluster, folder, words
        self.dir = folder / "out"

    def launch_words(self, nodes: int = 1, *more: str, setup: str = ":", **job: object) -> list[object]:
        """A launch into the queue, on nodes of one core unless said otherwise."""
        asked = {"nodes": nodes, "gpus_per_node": 0, "cpus_per_node": 1, "memory_gib": 3, "scratch": "/tmp"}
        asked |= {"driver_cpus": 1, "driver_memory_gib": 3, **job}
        asked["setup"] = f"'export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}; {setup}'"
        words = [f"cluster.job.{key}={value}" for key, value in asked.items()]
        return ["launch", *self.words, "cluster=slurm", *words, *more, "--dir", self.dir, "--yes"]

    def call(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Call emsweep where the queue's commands are."""
        return subprocess.run(
            [*EMSWEEP, *map(str, words)],
            cwd=self.folder,
            env={**self.cluster.environment, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def json(self, *words: object) -> dict[str, Any]:
        """What a command prints as JSON."""
        done = self.call(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def submit(self, nodes: int = 1, *more: str, **job: object) -> str:
        """Launch into the queue; the number of the job that it has become."""
        told = self.json(*self.launch_words(nodes, *more, **job))
        number = re.match(r"Submitted batch job (\d+)", told["submitted"])[1]
        assert told["job"] == number
        return number

    @property
    def nodes_job(self) -> str:
        """Number of the jobs of an elastic sweep's nodes."""
        return read_job(Layout(self.dir)).nodes

    def status(self) -> dict[str, Any]:
        return self.json("status", self.dir)

    def wait(self, what: Callable[[dict[str, Any]], bool], *, seconds: float = 120) -> dict[str, Any]:
        """Wait until the sweep's status is as wanted, and return it."""
        until_s = time.monotonic() + seconds
        while not what(status := self.status()):
            assert time.monotonic() < until_s, f"{status}\n{self.logs()}"
            time.sleep(0.5)
        return status

    def wait_for_results(self, number: int) -> None:
        """Wait until so many runs have a result, and not all of them."""
        status = self.wait(lambda told: told["counts"]["done"] >= number)
        assert status["counts"]["pending"] + status["counts"]["running"] > 0, "over before it was disturbed"

    def wait_for_end(self, *jobs: str, seconds: float = 240) -> list[str]:
        """Wait until jobs have ended, and return how. One queued again begins without Slurm's two minutes."""
        until_s = time.monotonic() + seconds
        while True:
            states = [self.cluster.job_state(job) for job in jobs]
            if not {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED"} & set(states):
                return states
            assert time.monotonic() < until_s, f"{states}\n{self.logs()}"
            for job, state in zip(jobs, states, strict=True):
                if state == "PENDING":
                    self.cluster.begin_now(job)
            time.sleep(0.5)

    def logs(self) -> str:
        """The end of what the jobs have printed."""
        texts = (path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log")))
        return "\n".join(texts)

    def verified(self) -> pd.DataFrame:
        """Results of every run, after the directory has been found whole."""
        told = self.json("verify", self.dir)
        assert told["ok"], told
        assert (told["committed"], told["missing"], told["duplicated"]) == (told["expected"], 0, 0)
        return open_sweep(self.dir).runs()[RESULTS]


def of_one_machine(folder: Path, words: tuple[str, ...]) -> pd.DataFrame:
    """The same runs, one after another in one process here."""
    command = [*EMSWEEP, "launch", *words, "--dir", str(folder), "--pool", "inline", "--yes"]
    subprocess.run(command, check=True, capture_output=True)
    return open_sweep(folder).runs()[RESULTS]
