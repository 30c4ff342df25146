"""What something costs a sweep at work: the sweep runs on, while it is stopped and let go on in turns.

Two launches, one with it and one without, differ by more than the cost: a machine's speed drifts by several
per cent within minutes. So one sweep runs through, the order of the turns lets a drift fall on both kinds
alike, and how far the sweep had come at the edges of a turn is known to a fraction of a run, from the moments
at which its workers finished their runs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

ROOT = Path(__file__).parents[2]

SETTLING_S = 3.0
"""Time after a switch that belongs to no turn."""

Processes = Callable[[], Sequence[psutil.Process]]
"""The processes of something, which may come and go."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Some seconds with what is measured, or without it."""

    is_on: bool
    start_s: float
    """Unix time."""
    end_s: float
    """Unix time."""
    spent_s: dict[str, float]
    """Processor time that each group of processes took."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Share of a sweep's rate that is lost, over pairs of neighbouring turns."""

    share: float
    """Mean over pairs."""
    standard_error: float
    """Of that mean; NaN of one pair."""
    runs_per_s_on: float
    """Mean rate with it."""
    runs_per_s_off: float
    """Mean rate without."""
    processor_shares: dict[str, float]
    """Processor time that each group of processes took while on, over that of all cores."""
    pairs: int


@contextlib.contextmanager
def sweep_at_work(folder: Path, *words: str) -> Iterator[None]:
    """A sweep of real runs that are all alike, on every core, for as long as the body lasts."""
    command = [sys.executable, "-m", "orchestrator.cli", "launch", "sweep=quickstart", "model=tiny-32"]
    command += ["example=carry-1", "optim.lr=1e-4", "seed=range(20000)", *words]
    command += ["--yes", "--pool", "local", "--dir", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=silent, stderr=silent) as driver:
        try:
            _wait(lambda: _num_finished(folder) > 100)
            yield
        finally:
            driver.send_signal(signal.SIGINT)  # so that it writes its tables


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it has started, itself first: a stopped parent starts nothing more."""
    return [process, *process.children(recursive=True)]


def take_turns(num_pairs: int, turn_s: float, groups: Mapping[str, Processes]) -> list[Turn]:
    """Stop all these processes, let them go on, go on, stop, stop, go on and so on.

    What is stopped keeps all that it holds, so that a turn costs no start.
    """
    turns = []
    try:
        for is_on in itertools.islice(itertools.cycle((False, True, True, False)), 2 * num_pairs):
            _switch(groups, is_on=is_on)
            time.sleep(SETTLING_S)
            start_s, before_s = time.time(), _spent_s(groups)
            time.sleep(turn_s)
            end_s, after_s = time.time(), _spent_s(groups)
            spent_s = {name: after_s[name] - before_s[name] for name in groups}
            turns.append(Turn(is_on=is_on, start_s=start_s, end_s=end_s, spent_s=spent_s))
    finally:
        _switch(groups, is_on=True)
    return turns


def _switch(groups: Mapping[str, Processes], *, is_on: bool) -> None:
    for process in itertools.chain(*(processes() for processes in groups.values())):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume() if is_on else process.suspend()


def _spent_s(groups: Mapping[str, Processes]) -> dict[str, float]:
    """Processor time of each group until now, that of children which have ended included."""
    cpu_s = {}
    for name, processes in groups.items():
        cpu_s[name] = 0.0
        for process in processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                cpu_s[name] += sum(process.cpu_times()[:4])
    return cpu_s


def cost(folder: Path, turns: Sequence[Turn]) -> Cost:
    """Compare neighbouring turns, once the sweep has ended and its tables are written."""
    from analysis import open_sweep

    progress = Progress(open_sweep(folder).where("outcome=done").runs(["worker", "finished_at"]))
    pairs = [{turn.is_on: progress.rate(turn) for turn in pair} for pair in itertools.pairwise(turns)][::2]
    lost = [1 - rates[True] / rates[False] for rates in pairs]
    on = [turn for turn in turns if turn.is_on]
    on_s = sum(turn.end_s - turn.start_s for turn in on) * (os.cpu_count() or 1)
    return Cost(
        share=statistics.mean(lost),
        standard_error=statistics.stdev(lost) / math.sqrt(len(lost)) if len(lost) > 1 else math.nan,
        runs_per_s_on=statistics.mean(rates[True] for rates in pairs),
        runs_per_s_off=statistics.mean(rates[False] for rates in pairs),
        processor_shares={name: sum(turn.spent_s[name] for turn in on) / on_s for name in on[0].spent_s},
        pairs=len(pairs),
    )


class Progress:
    """How far a sweep had come at any moment, to a fraction of a run."""

    def __init__(self, runs: pd.DataFrame) -> None:
        """``runs`` has the columns ``worker`` and ``finished_at``, Unix seconds."""
        self._curves = []
        for _, finished in runs.groupby("worker")["finished_at"]:
            moments, counts = np.unique(finished, return_counts=True)
            self._curves.append((moments, np.cumsum(counts)))

    def at(self, moment_s: float) -> float:
        """Runs finished by then, each counted in proportion while it is under way."""
        return sum(float(np.interp(moment_s, *curve)) for curve in self._curves)

    def rate(self, turn: Turn) -> float:
        """Runs a second in a turn."""
        return (self.at(turn.end_s) - self.at(turn.start_s)) / (turn.end_s - turn.start_s)


def _num_finished(folder: Path) -> int:
    try:
        counts = json.loads((folder / "status.json").read_text())["counts"]
    except (OSError, ValueError):
        return 0
    return counts["done"] + counts["diverged"]


def _wait(holds: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError("the sweep did not start")
        time.sleep(0.2)
