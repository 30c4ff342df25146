"""What functions and commands cost beside the work they do, and whether killed drivers lose or double any.

Rows of ``python -m tests.benchmarks.frontdoor``. A command is measured beside the bare process in the same
minutes, a function beside a class that does as little.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EMSWEEP = [sys.executable, "-m", "orchestrator.cli"]

TRAIN = "def train(seed):\n    return {'seed': seed}\n"

SWEEP = """# @package _global_
defaults: [{{override /trainer: {kind}}}, {{override /example: text}}, {{override /eval: none}}]
trainer: {trainer}
sweep: {{n: 1, axes: {{seed: "range(${{sweep.n}})"}}}}
"""


def function_runs_per_s(folder: Path, *, quick: bool) -> dict[str, float]:
    """No-op runs of a function a second, and those of a class that does as little."""
    num_runs = 2_000 if quick else 20_000
    (folder / "train.py").write_text(TRAIN)
    function = _sweep_file(folder, "function", "{target: train:train}")
    noop = _sweep_file(folder, "noop", "{target: trainers.noop.Noop}")
    return {
        "function_runs_per_s": round(1 / _seconds_a_run(folder / "f", function, num_runs)),
        "noop_runs_per_s": round(1 / _seconds_a_run(folder / "n", noop, num_runs)),
    }


def command_overhead_ms(folder: Path, *, quick: bool) -> dict[str, float]:
    """What a run of ``true`` on one worker takes more than the process itself."""
    num_runs = 200 if quick else 2_000
    sweep_file = _sweep_file(folder, "command", "{command: ['true']}")
    bare_s = _bare_seconds(num_runs // 2)
    run_s = _seconds_a_run(folder / "c", sweep_file, num_runs)
    bare_s = (bare_s + _bare_seconds(num_runs // 2)) / 2
    return {
        "command_overhead_ms": round(1000 * (run_s - bare_s), 2),
        "command_ms": round(1000 * run_s, 2),
        "bare_process_ms": round(1000 * bare_s, 2),
    }


def commands_under_kills(folder: Path, *, quick: bool, seed: int = 0) -> dict[str, int]:
    """No-op commands whose driver is killed again and again, then what ``verify`` finds."""
    num_runs, num_kills = (600, 4) if quick else (10_000, 20)
    dice = random.Random(seed)
    directory = folder / "kills"
    sweep_file = _sweep_file(folder, "command", "{command: ['true']}")
    words = [
        "launch",
        f"sweep={sweep_file}",
        f"sweep.n={num_runs}",
        *_place(directory),
        "--allow-target",
        "true",
    ]
    for kill in range(num_kills):
        driver = subprocess.Popen(
            [*EMSWEEP, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_for(directory, num_runs * (kill + 1) // (num_kills + 1), driver)
        time.sleep(dice.random() * 0.2)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        words = ["resume", str(directory), "--pool", "local", "--json"] if _is_launched(directory) else words
    finished = json.loads(_emsweep(*words))
    verified = json.loads(_emsweep("verify", str(directory), "--json"))
    return {
        "commands": num_runs,
        "driver_kills": num_kills,
        "commands_lost": verified["expected"] - verified["committed"],
        "commands_doubled": verified["duplicated"],
        "commands_failed": finished["failed"],
        "commands_attempts": _attempts(directory),
    }


def _sweep_file(folder: Path, kind: str, trainer: str) -> Path:
    path = folder / f"{kind}.yaml"
    path.write_text(SWEEP.format(kind=kind, trainer=trainer))
    return path


def _place(directory: Path) -> list[str]:
    return ["--dir", str(directory), "--pool", "local", "--yes", "--json"]


def _seconds_a_run(directory: Path, sweep_file: Path, num_runs: int) -> float:
    """Seconds that a run takes on one worker, between the first dispatch and the last commit."""
    words = [f"sweep={sweep_file}", f"sweep.n={num_runs}", "cluster.num_workers=1", *_place(directory)]
    told = json.loads(_emsweep("launch", *words, "--allow-target", "train", "--allow-target", "true"))
    return float(told["busy_s"] / told["new"])


def _bare_seconds(num: int) -> float:
    began_s = time.perf_counter()
    for _ in range(num):
        subprocess.run(["true"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began_s) / num


def _wait_for(directory: Path, num_done: int, driver: subprocess.Popen[bytes]) -> None:
    while driver.poll() is None:
        try:
            status: dict[str, Any] = json.loads((directory / "status.json").read_text())
        except (OSError, ValueError):
            status = {}
        if status.get("counts", {}).get("done", 0) >= num_done:
            return
        time.sleep(0.05)


def _is_launched(directory: Path) -> bool:
    return (directory / "manifest.parquet").exists() and (directory / "sweep.yaml").exists()


def _attempts(directory: Path) -> int:
    """Attempts that were begun, those that a kill cut short included."""
    from orchestrator.store.layout import Layout
    from orchestrator.store.spool import SpoolHealth, read_spool

    lines = (line for path in Layout(directory).journal_paths() for line in read_spool(path, SpoolHealth()))
    return sum(len(line.header["runs"]) for line in lines if line.header["kind"] == "lease")


def _emsweep(*words: str) -> str:
    done = subprocess.run([*EMSWEEP, *words], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"emsweep {' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout
