"""How many trials a second a search proposes, runs and makes durable, beside others with the same sampler.

    python -m tests.benchmarks.decide --parts searched --json

``proposals_per_s``      ours in one process: from the first dispatch to the last durable commit
``optuna_rdb_per_s``     Optuna's own loop in one process, over its SQLite storage
``vs_optuna_rdb``        ours over that
``proposals_ray_per_s``  ours through Ray
``tune_per_s``           Ray Tune with OptunaSearch, as it comes: an actor for each trial
``vs_tune``              ours through Ray over that
``tune_reused_per_s``    the same with ``reuse_actors=True``, and ``vs_tune_reused``
``search_…_cpu_ms``      processor milliseconds of each for a trial, start and end included

All draw at random, so that the sampler's own time is next to none; with ``_tpe`` all use the tree-structured
Parzen estimator, whose own time grows with the trials. Two intervals and a choice, nothing to compute, a
process of its own for each, in turns; medians over rounds. The others get fewer trials than ours, for they
would take minutes; their rate does not rise with the number. A package that is not installed gives no figure.
"""

from __future__ import annotations

import importlib.util
import resource
import statistics
import tempfile
from functools import partial
from pathlib import Path

from sweeps.spec import RunSpec
from tests.benchmarks.orchestration import child, emsweep
from tests.benchmarks.races import StoredGrid
from trainers.noop import Noop
from trainers.protocol import RunContext, RunResult

TRIALS = {"random": 4_000, "tpe": 1_000}
"""Trials of ours."""

OTHERS = {"optuna_rdb": 150, "tune_reused": 100, "tune": 12}
"""Trials of the others."""

ROUNDS = 3

_SAMPLERS = {"random": "RandomSampler", "tpe": "TPESampler"}

_OPTUNA = """
import sys, time, tempfile, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
num, sampler = int(sys.argv[1]), getattr(optuna.samplers, sys.argv[2])(seed=int(sys.argv[3]))
def objective(trial):
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 1e-5, 1e-3, log=True)
    return (x - 0.3) ** 2 + y + (trial.suggest_categorical("kind", ["good", "bad"]) == "bad")
with tempfile.TemporaryDirectory() as folder:
    study = optuna.create_study(storage=f"sqlite:///{folder}/study.db", sampler=sampler)
    started = time.perf_counter()
    study.optimize(objective, n_trials=num)
    print("RATE", num / (time.perf_counter() - started))
"""

_TUNE = """
import logging, sys, time, tempfile, warnings, optuna, ray
warnings.simplefilter("ignore")
from ray import tune
from ray.tune.search.optuna import OptunaSearch
optuna.logging.set_verbosity(optuna.logging.ERROR)
quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
ray.init(address="local", num_cpus=2, **quiet)
num, sampler = int(sys.argv[1]), getattr(optuna.samplers, sys.argv[2])(seed=int(sys.argv[3]))
reuse = sys.argv[4:] == ["reuse"]
class Hill(tune.Trainable):
    def setup(self, config): self.config = config
    def step(self):
        c = self.config
        return {"loss": (c["x"] - 0.3) ** 2 + c["y"] + (c["kind"] == "bad"), "done": True}
    def reset_config(self, config): self.config = config; return True
    def save_checkpoint(self, folder): pass
    def load_checkpoint(self, folder): pass
with tempfile.TemporaryDirectory() as folder:
    tuner = tune.Tuner(
        Hill,
        param_space={
            "x": tune.uniform(0, 1), "y": tune.loguniform(1e-5, 1e-3), "kind": tune.choice(["good", "bad"])
        },
        tune_config=tune.TuneConfig(
            reuse_actors=reuse, num_samples=num, metric="loss", mode="min",
            search_alg=OptunaSearch(sampler=sampler),
        ),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    )
    started = time.perf_counter()
    results = tuner.fit()
    elapsed = time.perf_counter() - started
assert len(results) == num and not results.errors
print("RATE", num / elapsed)
"""


class Hill(Noop):
    """Computes next to nothing, of two numbers and a choice."""

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        params = spec.trainer.params
        loss = (params["x"] - 0.3) ** 2 + params["y"] + (params["kind"] == "bad")
        return RunResult(outcome="done", metrics={"loss": loss})


def ours(kind: str, seed: int, pool: str) -> float:
    """Trials a second of a search of our own."""
    with tempfile.TemporaryDirectory() as name:
        words = (
            "sweep=noop",
            f"trainer.target={__name__}.Hill",
            "+trainer.params.x=interval(0,1)",
            "+trainer.params.y=tag(log,interval(1e-5,1e-3))",
            "+trainer.params.kind=good,bad",
            "+trainer.metrics.loss={direction: min}",
            "seed=0",
            f"search={kind}",
            f"search.seed={seed}",
            f"search.trials={TRIALS[kind]}",
            "search.held_out_seeds=0",
        )
        flags = ("--dir", Path(name) / "search", "--pool", pool, "--yes")
        figures = emsweep("launch", *words, *flags)
        assert figures["search"]["trials"] == TRIALS[kind]
        return float(figures["runs_per_s"])


def searched(_grid: StoredGrid | None = None, _num_sweeps: int = 0) -> dict[str, float]:
    """All figures."""
    has_optuna = importlib.util.find_spec("optuna") is not None
    has_tune = has_optuna and importlib.util.find_spec("ray.tune") is not None
    figures: dict[str, float] = {}
    for kind, end in (("random", ""), ("tpe", "_tpe")):
        if has_optuna:
            figures |= _beside(kind, end, "inline", "proposals", "optuna_rdb", _OPTUNA)
        if has_tune:
            figures |= _beside(kind, end, "ray", "proposals_ray", "tune_reused", _TUNE, "reuse")
            figures |= _beside(kind, end, "ray", "proposals_ray", "tune", _TUNE)
    return figures


def _beside(kind: str, end: str, pool: str, own: str, other: str, code: str, *more: str) -> dict[str, float]:
    """Ours in a pool and somebody else's loop, in turns."""
    rates: dict[str, list[float]] = {own: [], other: []}
    spent: dict[str, list[float]] = {own: [], other: []}
    num = OTHERS[other]
    for seed in range(ROUNDS):
        for name, trials, work in (
            (own, TRIALS[kind], partial(ours, kind, seed, pool)),
            (other, num, partial(child, code, num, _SAMPLERS[kind], seed, *more)),
        ):
            before_s = _children_s()
            rates[name].append(work())
            spent[name].append(1e3 * (_children_s() - before_s) / trials)
    middle = statistics.median
    return {
        **{f"{name}_per_s{end}": middle(values) for name, values in rates.items()},
        f"vs_{other}{end}": middle(a / b for a, b in zip(rates[own], rates[other], strict=True)),
        **{f"search_{name}{end}_cpu_ms": middle(values) for name, values in spent.items()},
    }


def _children_s() -> float:
    """Processor seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
