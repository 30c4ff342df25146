"""How many runs a second are scheduled and made durable, beside what others do with nothing to compute.

    python -m tests.benchmarks.orchestration --runs 3000 --json     ours, Ray Tune, Ray, Optuna, Hydra
    python -m tests.benchmarks.orchestration --scale --json         3,000 against 100,000 runs, driver memory
    python -m tests.benchmarks.orchestration --million --json       1,000,000 runs; takes minutes
    python -m tests.benchmarks.orchestration --recovery --json      resume of a finished sweep, rebuild rate
    python -m tests.benchmarks.orchestration --overhead --json      real tiny runs against a bare loop
    python -m tests.benchmarks.orchestration --simulate --json      a million runs on 1,024 imaginary GPUs

``ours_per_s`` counts from the first dispatch to the last durable commit, through Ray; start-up apart. Every
measurement is a process of its own. Ray Tune gets fewer trials than we get runs, for it would take an hour;
its rate does not depend on their number. A package that is not installed gives ``null``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TUNE_REUSE_TRIALS, TUNE_DEFAULT_TRIALS = 300, 12
"""Trials given to Ray Tune with and without reused actors: about ten seconds each."""

HYDRA_JOBS, OPTUNA_TRIALS, RAY_TASKS = 50, 100, 3_000
"""Enough of each for a rate: Optuna's does not grow with the number, Hydra's start-up counts as in use."""

OVERHEAD_RUNS = 96
"""Real tiny runs timed against a bare loop: the quickstart."""

_TUNE = """
import logging, sys, time, tempfile, ray
from ray import tune
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
num, reuse = int(sys.argv[1]), sys.argv[2] == "True"
class Noop(tune.Trainable):
    def setup(self, config): pass
    def step(self): return {"draw": 0.5, "done": True}
    def reset_config(self, config): return True
    def save_checkpoint(self, folder): pass
    def load_checkpoint(self, folder): pass
with tempfile.TemporaryDirectory() as folder:
    tuner = tune.Tuner(
        Noop,
        param_space={"seed": tune.grid_search(list(range(num)))},
        tune_config=tune.TuneConfig(reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    )
    started = time.perf_counter()
    results = tuner.fit()
    elapsed = time.perf_counter() - started
assert len(results) == num and not results.errors
print("RATE", num / elapsed)
"""

_RAY = """
import logging, sys, time, ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
@ray.remote
def noop(seed): return seed
ray.get([noop.remote(i) for i in range(200)])
num = int(sys.argv[1])
started = time.perf_counter()
ray.get([noop.remote(i) for i in range(num)])
print("RATE", num / (time.perf_counter() - started))
"""

_OPTUNA = """
import sys, time, tempfile, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
num = int(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    sampler = optuna.samplers.GridSampler({"seed": list(range(num))})
    study = optuna.create_study(storage=f"sqlite:///{folder}/study.db", sampler=sampler)
    started = time.perf_counter()
    study.optimize(lambda trial: float(trial.suggest_int("seed", 0, num - 1)), n_trials=num)
    print("RATE", num / (time.perf_counter() - started))
"""

_HYDRA = """
import hydra
from omegaconf import DictConfig
@hydra.main(version_base="1.3", config_path=None)
def main(config: DictConfig) -> float: return 0.5
main()
"""

_BARE = """
import multiprocessing, sys, time
def work(arguments):
    folder, first, step = arguments
    from pathlib import Path
    from orchestrator.worker.hot_trainers import import_target
    from sweeps.manifest.manifest_file import read_manifest
    from trainers.protocol import RunContext, WorkerContext
    manifest = read_manifest(Path(folder) / "manifest.parquet")
    trainer = import_target(manifest.spec(0).trainer.target)(WorkerContext())
    half = len(manifest) // step
    started = time.perf_counter()
    for index in range(first * half, first * half + half):
        trainer.run(manifest.spec(index), RunContext())
    return started, time.perf_counter()
if __name__ == "__main__":
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(work, [(sys.argv[1], first, 2) for first in range(2)], chunksize=1)
    print("RATE", time.perf_counter() - started)
"""


def child(code: str, *arguments: object) -> float:
    """Run Python in a process of its own and return the number it prints after ``RATE``."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "child.py"
        script.write_text(code)
        environment = quiet_environment() | {"PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            [sys.executable, str(script), *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    for line in done.stdout.splitlines():
        if line.startswith("RATE "):
            return float(line.removeprefix("RATE "))
    raise RuntimeError(done.stderr[-2000:])


def quiet_environment() -> dict[str, str]:
    """Our environment with what keeps Ray's reports and libraries' threads out of the measurement."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    return {**os.environ, **quiet}


def emsweep(*words: object) -> dict[str, Any]:
    """Run one command with ``--json`` and return what it prints."""
    command = [sys.executable, "-m", "orchestrator.cli", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=quiet_environment(), check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def launch_noop(num: int, folder: Path, pool: str = "ray") -> dict[str, Any]:
    """Launch a sweep that computes nothing and check that it is whole."""
    figures = emsweep("launch", "sweep=noop", f"sweep.n={num}", "--dir", folder, "--pool", pool, "--yes")
    assert figures["committed"] == num
    return figures


def hydra_multirun(num: int) -> float:
    """Jobs per second of Hydra's own multirun, process start included."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "app.py"
        script.write_text(_HYDRA)
        started = time.perf_counter()
        command = [sys.executable, str(script), "-m", f"+seed=range({num})"]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        return num / (time.perf_counter() - started)


def compare(num: int) -> dict[str, Any]:
    """Ours beside the others."""
    with tempfile.TemporaryDirectory() as folder:
        ours = launch_noop(num, Path(folder) / "noop")
    optuna = importlib.util.find_spec("optuna")
    figures = {
        "runs": num,
        "ours_per_s": ours["runs_per_s"],
        "ours_startup_s": ours["wall_s"] - ours["busy_s"],
        "ours_driver_mib": ours["driver_mib"],
        "tune_reuse_per_s": child(_TUNE, min(num, TUNE_REUSE_TRIALS), True),
        "tune_default_per_s": child(_TUNE, min(num, TUNE_DEFAULT_TRIALS), False),
        "ray_raw_per_s": child(_RAY, RAY_TASKS),
        "optuna_grid_per_s": child(_OPTUNA, OPTUNA_TRIALS) if optuna else None,
        "hydra_multirun_per_s": hydra_multirun(HYDRA_JOBS),
    }
    figures["times_tune_reuse"] = figures["ours_per_s"] / figures["tune_reuse_per_s"]
    figures["times_tune_default"] = figures["ours_per_s"] / figures["tune_default_per_s"]
    return figures


def scale(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Rate and driver memory by number of runs."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for num in sizes:
            launched = launch_noop(num, Path(folder) / str(num))
            figures[f"per_s_{num}"], figures[f"driver_mib_{num}"] = (
                launched["runs_per_s"],
                launched["driver_mib"],
            )
            figures[f"wall_s_{num}"] = launched["wall_s"]
    return figures


def recovery() -> dict[str, Any]:
    """Seconds to find that nothing is left of 13,440 runs, and records a second of a rebuild from spools."""
    from orchestrator.store.index_reader import read_index
    from orchestrator.store.layout import Layout
    from sweeps.manifest.manifest_file import read_manifest

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "noop"
        launch_noop(13_440, folder, pool="local")
        started = time.perf_counter()
        again = emsweep("resume", folder)
        resume_s = time.perf_counter() - started
        assert again["new"] == 0
        (folder / "state.sqlite").unlink()
        run_ids = read_manifest(folder / "manifest.parquet").run_ids
        started = time.perf_counter()
        reading = read_index(Layout(folder), run_ids)
        rebuild_s = time.perf_counter() - started
        assert reading.book.num_committed == 13_440
    return {"resume_s": resume_s, "rebuild_records_per_s": reading.health.num_valid / rebuild_s}


def overhead() -> dict[str, Any]:
    """Wall time of real tiny runs, from first dispatch to last commit, over that of a bare loop."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "quickstart"
        words = ("launch", "sweep=quickstart", "sharing=off", "--dir", folder, "--pool", "local", "--yes")
        launched = emsweep(*words)
        assert launched["committed"] == OVERHEAD_RUNS
        bare_s = child(_BARE, folder)
    return {"sweep_s": launched["wall_s"], "bare_loop_s": bare_s, "ratio": launched["wall_s"] / bare_s}


def simulated() -> dict[str, Any]:
    """A million runs of ten minutes on 1,024 GPUs, without and with failing nodes."""
    from array import array

    from orchestrator.scheduling.backlog import Group, Workload
    from orchestrator.scheduling.cluster_model import parse_cluster
    from orchestrator.scheduling.events import Shape
    from orchestrator.scheduling.simulate import simulate

    num = 1_000_000
    groups = [Group(shape=Shape(gpus=1.0), affinity=f"model-{i}") for i in range(4)]
    workload = Workload(groups=groups, group_of=array("H", [i * 4 // num for i in range(num)]))
    figures: dict[str, Any] = {}
    for text in ("gpus=1024", "gpus=1024,mtbf_h=500", "gpus=1024,mtbf_h=500,preempt_h=24,spread=0.3"):
        started = time.perf_counter()
        outcome = simulate(workload, lambda _: 600.0, parse_cluster(text))
        figures[text] = {**outcome.to_json(), "took_s": time.perf_counter() - started}
    return figures


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=3_000)
    for name in ("scale", "million", "recovery", "overhead", "simulate", "json"):
        parser.add_argument(f"--{name}", action="store_true")
    asked = parser.parse_args()
    if asked.scale:
        figures = scale((3_000, 100_000))
    elif asked.million:
        figures = scale((1_000_000,))
    elif asked.recovery:
        figures = recovery()
    elif asked.overhead:
        figures = overhead()
    elif asked.simulate:
        figures = simulated()
    else:
        figures = compare(asked.runs)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value:,.3f}" if isinstance(value, float) else f"{name:28} {value}")


if __name__ == "__main__":
    main()
