"""What each objective costs: ten steps of 64 rollouts, relative to entropy minimization.

    python -m tests.benchmarks.objectives --json

Every objective trains on the same labelled problem with the same engine and sampling, for whole runs on a
warm worker, evaluation left out. Runs are timed in turn, round after round, in seconds of processor time, so
that a busy machine meets all of them alike; a ratio is the median over rounds of a run's seconds over those
of ``em`` in the same round.

Objectives that keep more kinds of rollouts alive draw and train on more rows. So the learning rate is too low
to move the policy, and all of them see equal rollouts; ``--lr`` sets another.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from time import process_time

os.environ["OMP_NUM_THREADS"] = "1"

from sweeps.spec import ROLLOUT_OBJECTIVES, RunSpec
from tests.trainers.presets import preset_dict
from tests.trainers.worlds import tiny_spec
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext

LIMIT = 1.3
"""Most that a policy-gradient run may cost, over entropy minimization."""


def spec_of(name: str, lr: float) -> RunSpec:
    """Ten steps of an objective on one labelled problem, without evaluation."""
    return tiny_spec(
        example={"prompts": ["47+38="], "answers": ["085"]},
        objective=preset_dict(name) | {"temperature": 1.0},
        optim={"lr": lr},
        eval={"path": None},
    )


def seconds(trainer: PolicyTrainer, spec: RunSpec) -> float:
    """Seconds of processor time of one whole run on the warm worker."""
    start = process_time()
    trainer.run(spec, RunContext())
    return process_time() - start


def ratios(rounds: int, lr: float) -> dict[str, float]:
    """Seconds of an ``em`` run, and every objective's cost over it."""
    trainer = PolicyTrainer(WorkerContext())
    specs = {name: spec_of(name, lr) for name in ROLLOUT_OBJECTIVES}
    for spec in specs.values():
        trainer.run(spec, RunContext())
    times = [{name: seconds(trainer, spec) for name, spec in specs.items()} for _ in range(rounds)]
    trainer.close()
    figures = {"em_run_s": statistics.median(t["em"] for t in times)}
    return figures | {
        name: statistics.median(t[name] / t["em"] for t in times) for name in ROLLOUT_OBJECTIVES
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="rounds of all objectives, default 15")
    parser.add_argument("--lr", type=float, default=1e-9, help="learning rate, default 1e-9")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = ratios(options.rounds, options.lr)
    figures["max_policy_gradient"] = max(
        v for k, v in figures.items() if k not in ("em_run_s", "em", "em_ft")
    )
    if options.json:
        print(json.dumps(figures | {"limit": LIMIT}))
        return
    for name, value in figures.items():
        print(f"{name:26} {value:8.3f}")


if __name__ == "__main__":
    main()
