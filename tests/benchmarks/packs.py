"""What packs are worth: runs of one base trained together against one by one, evaluations, and a whole grid.

    python -m tests.benchmarks.packs --json
    python -m tests.benchmarks.packs --grid 840 --json

Both sides are measured in turn, round after round, in processor seconds; ratios are medians over rounds.

``pack_speedup_*``  rollouts and optimizer steps of 16 runs that share nothing but their model (16 seeds, five
                    rates, six temperatures), per run, against the same runs one by one
``eval_speedup_*``  a trained member judged on 200 problems, greedy and sampled, against the module's forward
``limit_share_*``   the arithmetic of one run, as torch counts it for a run by itself, over what this core
                    could compute in the run's processor seconds at the rate of its largest product
``grid_speedup``    runs of ``grid13440``, a whole kin of 30 at a time: launched twice, processor seconds of
                    all processes

and those of adapters over one model, see :mod:`tests.benchmarks.lora_packs`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch.utils.flop_counter import FlopCounterMode

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec import RunSpec
from tests.benchmarks import lora_packs
from tests.benchmarks.two_sides import in_turn, seconds
from trainers.em import EntropyMinimization
from trainers.evaluation.evaluate import Benchmark, settings_of
from trainers.model.base_model import load_base
from trainers.packs.cached import decode_rows
from trainers.packs.stack import Stack
from trainers.protocol import RunContext, RunResult, WorkerContext

MODELS = ("tiny-64", "tiny-96")
WIDTH = 16
GRID_SEEDS = 16
"""Seeds of the grid: 840 runs are those of one."""


def sixteen(model: str, *, judged: bool) -> list[RunSpec]:
    """Runs of the grid that share nothing but their model: one of each seed."""
    words = ["sweep=grid13440", f"model={model}", "example=carry-1", "seed=range(16)", "engine.pack=0"]
    manifest = build_manifest(compose_sweep([*words] if judged else [*words, "eval=none"]))
    each = len(manifest) // WIDTH
    by_seed = sorted(range(len(manifest)), key=lambda row: (manifest.seeds[row], row))
    return [manifest.spec(by_seed[k * each + (7 * k) % each]) for k in range(WIDTH)]


def packed(specs: Sequence[RunSpec], width: int = WIDTH) -> list[RunSpec]:
    return [dataclasses.replace(s, engine=dataclasses.replace(s.engine, pack=width)) for s in specs]


def trained(trainer: EntropyMinimization, specs: Sequence[RunSpec]) -> dict[int, RunResult]:
    outcomes = dict(trainer.run_group(specs, [RunContext()] * len(specs)))
    assert all(isinstance(outcome, RunResult) for outcome in outcomes.values()), outcomes
    return outcomes  # type: ignore[return-value]


def training(trainer: EntropyMinimization, model: str, rounds: int) -> dict[str, float]:
    """Rollouts and optimizer steps of sixteen runs, either way."""
    specs = sixteen(model, judged=False)
    found = in_turn(rounds, lambda: trained(trainer, specs), lambda: trained(trainer, packed(specs)))
    return {
        f"pack_speedup_{model}": found["speedup"],
        f"pack_speedup_wall_{model}": found["before_wall_s"] / found["after_wall_s"],
        f"run_cpu_ms_{model}": 1e3 * found["before_cpu_s"] / WIDTH,
        f"packed_run_cpu_ms_{model}": 1e3 * found["after_cpu_s"] / WIDTH,
    }


def judging(trainer: EntropyMinimization, model: str, rounds: int) -> dict[str, float]:
    """One trained member judged either way."""
    spec = sixteen(model, judged=True)[3]
    engine = trainer.engines.acquire(spec)
    base = load_base(spec.model)
    trainer.run(dataclasses.replace(spec, eval=dataclasses.replace(spec.eval, path=None)), RunContext())
    stack = Stack(engine.module, 1)
    benchmark, settings = Benchmark(spec.eval, base), settings_of(spec.eval)

    def before() -> list:
        with torch.inference_mode():
            return benchmark.evaluate(engine.module, settings, step=10, seed=spec.seed, gang=trainer.gang)

    def after() -> list:
        return benchmark.evaluate_by(
            lambda request: decode_rows(
                stack.matrices(None), stack.rotation, stack.shape, request, base.pad_id
            ),
            stack.shape.vocabulary,
            settings,
            step=10,
            seed=spec.seed,
            gang=trainer.gang,
        )

    agree = [a.correct == b.correct for a, b in zip(before(), after(), strict=True)]
    found = in_turn(5 * rounds, before, after)
    benchmark.close()
    return {
        f"eval_speedup_{model}": found["speedup"],
        f"eval_cpu_ms_{model}": 1e3 * found["before_cpu_s"],
        f"packed_eval_cpu_ms_{model}": 1e3 * found["after_cpu_s"],
        f"eval_agrees_{model}": float(all(agree)),
    }


def limits(trainer: EntropyMinimization, model: str, rounds: int) -> dict[str, float]:
    """The share of the arithmetic limit that whole judged runs reach, either way."""
    specs = sixteen(model, judged=True)
    with FlopCounterMode(display=False) as counted:
        trained(trainer, specs[:4])
    flops = counted.get_total_flops() / 4
    rate = product_rate(model)
    found = in_turn(rounds, lambda: trained(trainer, specs), lambda: trained(trainer, packed(specs)))
    return {
        f"run_mflop_{model}": flops / 1e6,
        f"product_gflops_{model}": rate / 1e9,
        f"whole_speedup_{model}": found["speedup"],
        f"limit_share_before_{model}": flops / rate / (found["before_cpu_s"] / WIDTH),
        f"limit_share_{model}": flops / rate / (found["after_cpu_s"] / WIDTH),
    }


def product_rate(model: str) -> float:
    """Operations a second of the model's largest product, at the rows of its evaluation."""
    shape = sixteen_shape(model)
    x, weight = torch.randn(264, shape[0]), torch.randn(shape[0], shape[1])
    out = x @ weight
    best = min(seconds(lambda: [torch.mm(x, weight, out=out) for _ in range(100)])[0] for _ in range(9))
    return 2 * 264 * shape[0] * shape[1] * 100 / best


def sixteen_shape(model: str) -> tuple[int, int]:
    config = json.loads(
        (Path(load_base(sixteen(model, judged=False)[0].model).location) / "config.json").read_text()
    )
    return config["hidden_size"], 2 * config["intermediate_size"]


def grid(num_runs: int) -> dict[str, float]:
    """A part of the grid launched twice, packed and not, processor seconds of every process."""
    seeds = max(1, num_runs * GRID_SEEDS // 13440)
    found: dict[str, float] = {}
    for name, width in (("before", 0), ("after", WIDTH)):
        with tempfile.TemporaryDirectory() as folder:
            words = ["sweep=grid13440", f"seed=range({seeds})", f"engine.pack={width}"]
            start, used = perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [
                sys.executable,
                "-m",
                "orchestrator.cli",
                "launch",
                *words,
                "--pool",
                "local",
                "--yes",
                "--json",
            ]
            done = subprocess.run(
                [*command, "--dir", f"{folder}/grid"], capture_output=True, text=True, check=True
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            summary = json.loads(done.stdout.strip().splitlines()[-1])
            found[f"grid_{name}_runs"] = summary["committed"]
            found[f"grid_{name}_wall_s"] = perf_counter() - start
            found[f"grid_{name}_cpu_s"] = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return found | {
        "grid_speedup": found["grid_before_cpu_s"] / found["grid_after_cpu_s"],
        "grid_speedup_wall": found["grid_before_wall_s"] / found["grid_after_wall_s"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both sides, default 5")
    parser.add_argument("--grid", type=int, default=840, help="runs of the grid, 0 for none, default 840")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    trainer = EntropyMinimization(WorkerContext())
    figures: dict[str, float] = {}
    for model in MODELS:
        for part in (training, judging, limits):
            figures |= part(trainer, model, options.rounds)
    trainer.close()
    figures |= lora_packs.figures(list(lora_packs.SIZES), options.rounds)
    if options.grid:
        figures |= grid(options.grid)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value:12.3f}")


if __name__ == "__main__":
    main()
