"""What early stopping saves on learning curves, and whether it keeps the best run.

    python -m tests.benchmarks.decide --parts pruned --json

``asha_steps_share``      steps that were taken, over those of all runs to their ends
``asha_reaches_optimum``  share of sweeps whose best run that went to its end is within 0.01 of the best
``asha_regret``           how much lower it is than that, mean

Real sweeps of 48 runs on four workers that do nothing but wait: after step t of 27 a run reports
``a (1 − exp(−t/3))`` and normal noise of spread 0.01, where ``a`` is uniform between 0.5 and 0.95. ASHA with
``min_steps=1``, ``reduction=3``: rungs at 1, 3, 9 and 27.
"""

from __future__ import annotations

import math
import random
import statistics
import tempfile
import time
from pathlib import Path

from orchestrator.store.layout import Layout
from orchestrator.store.reports import by_attempt, reported_rows
from sweeps.spec import RunSpec
from tests.benchmarks.orchestration import emsweep
from tests.benchmarks.races import StoredGrid
from trainers.noop import Noop
from trainers.protocol import RunContext, RunResult

RUNS, STEPS, SWEEPS = 48, 27, 3

STEP_S = 0.15
"""Length of a step: a decision takes up to a quarter of a second to reach a run."""

CLOSE = 0.01
"""The curves' noise: runs that are nearer have no better and worse."""


def curve(number: int, repeat: int) -> list[float]:
    """Values of one run after each step."""
    chosen = random.Random(f"{number}/{repeat}")
    height = chosen.uniform(0.5, 0.95)
    return [height * (1 - math.exp(-t / 3)) + chosen.gauss(0, 0.01) for t in range(1, STEPS + 1)]


class Riser(Noop):
    """Reports a curve, a step at a time, until it is told to stop."""

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        params = spec.trainer.params
        values = curve(int(params["number"]), int(params["repeat"]))
        for step, value in enumerate(values, 1):
            time.sleep(STEP_S)
            if context.report(step, value=value).stop:
                break
        return RunResult(outcome="done", metrics={"value": value})


def pruned(_grid: StoredGrid | None = None, _num_sweeps: int = 0) -> dict[str, float]:
    """All figures."""
    shares, regrets = [], []
    for repeat in range(SWEEPS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "pruned"
            words = (
                "sweep=noop",
                f"trainer.target={__name__}.Riser",
                f"+trainer.params.number=range({RUNS})",
                f"+trainer.params.repeat={repeat}",
                "+trainer.metrics.value={direction: max}",
                "seed=0",
                "prune=asha",
                "prune.reduction=3",
                "cluster.num_workers=4",
            )
            figures = emsweep("launch", *words, "--dir", folder, "--pool", "local", "--yes")
            assert figures["committed"] + figures["stopped"] == RUNS
            taken = sum(len(rows) for rows in by_attempt(reported_rows(Layout(folder))).values())
            shares.append(taken / (RUNS * STEPS))
            regrets.append(_regret(folder, repeat))
    return {
        "asha_steps_share": statistics.mean(shares),
        "asha_reaches_optimum": statistics.mean(regret <= CLOSE for regret in regrets),
        "asha_regret": statistics.mean(regrets),
    }


def _regret(folder: Path, repeat: int) -> float:
    from analysis import open_sweep

    best = max(curve(number, repeat)[-1] for number in range(RUNS))
    return best - float(open_sweep(folder).runs()["value"].max())
