"""What supervised fine-tuning of one run after another costs, against TRL's ``SFTTrainer``; and its memory.

    python -m tests.benchmarks.data --json

``cold``  ``SFTTrainer`` built anew for every run, as a script does: model, trainer, tokenized rows.
``warm``  one ``SFTTrainer`` that is kept: weights put back, a new optimizer.

Ours is one run by itself, and one of 16 that are trained in a pack (``vs_trl_cold_packed``,
``vs_trl_warm_packed``), which differ in their seeds: a sixteenth of what they take.

All take the same 50 AdamW steps of 8 rows each, in the order of the file, in fp32 on one thread, and
are timed in turn, round after round, so that a slow moment of the machine meets all of them. Ratios are
medians over rounds, of processor seconds (``vs_trl_cold``, ``vs_trl_warm``) and of wall seconds beside
(``…_wall``). ``max_loss_diff`` is the largest difference between ours and theirs over the 50 losses.
``memory_slope_bytes_per_run`` is, for each optimizer, the Theil-Sen slope of what a worker's process holds
over its later runs, the first quarter left out, after each of which the allocator gave back what is free.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import psutil
import torch
from omegaconf import OmegaConf

from sweeps.manifest.resolve_data import resolve_data
from sweeps.spec import RunSpec
from sweeps.spec.optimizers import OPTIMIZERS
from tests.benchmarks.two_sides import seconds
from tests.trainers.presets import preset_dict
from tests.trainers.worlds import package_file, tiny_spec
from trainers.em import EntropyMinimization
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, RunResult, WorkerContext
from trainers.tiny.world import Problem, solve_carefully

MODEL = "tiny-64"
STEPS, ROWS_A_STEP = 50, 8
LR = 2e-4
PACK = 16

Spent = tuple[float, float]
"""Processor seconds and wall seconds."""

WARMUP_RUNS = 400
"""Runs before memory is measured: until then caches of specifications fill, the largest with a dozen groups a
run of 4,096.
"""

LOOK_EVERY = 5
"""Runs between two looks at the process's memory, each of which takes as long as a run."""


def write_rows(file: Path, num: int) -> list[dict[str, str]]:
    """So many solved sums, as prompts and completions."""
    problems = [Problem(a=7 * n % 100, b=13 * n % 97) for n in range(num)]
    rows = [{"prompt": p.prompt, "completion": solve_carefully(p)} for p in problems]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def spec_of(file: Path, optim: dict[str, Any], steps: int = STEPS, seed: int = 0, pack: int = 0) -> RunSpec:
    data = {
        "path": str(file),
        "targets": "completions",
        "order": "file",
        "prompts_per_step": ROWS_A_STEP,
    }
    return tiny_spec(
        MODEL,
        example={"prompts": [], "name": ""},
        data=resolve_data(data)[0],
        objective=preset_dict("sft"),
        optim=optim,
        eval={"path": None},
        steps=steps,
        seed=seed,
        engine={"pack": pack},
    )


class Theirs:
    """TRL's trainer of the same run."""

    def __init__(self, rows: list[dict[str, str]], folder: Path) -> None:
        import datasets
        import transformers
        import trl

        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
        self._path = str(package_file(f"trainers/tiny/models/{MODEL}"))
        self._rows = datasets.Dataset.from_list(rows)
        self._folder = str(folder)
        self.losses: list[float] = []
        losses = self.losses

        class Recording(trl.SFTTrainer):
            """Keeps each loss whole; logs round it."""

            def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
                found = super().compute_loss(*args, **kwargs)
                losses.append((found[0] if isinstance(found, tuple) else found).item())
                return found

        self._trainer_class = Recording
        self._kept = self._build()
        self._weights = {k: v.clone() for k, v in self._kept.model.state_dict().items()}

    def cold(self) -> None:
        self.losses.clear()
        self._build().train()

    def warm(self) -> None:
        self.losses.clear()
        trainer = self._kept
        trainer.model.load_state_dict(self._weights)
        trainer.optimizer = trainer.lr_scheduler = None
        trainer.train()

    def _build(self) -> Any:
        import transformers
        import trl

        settings = trl.SFTConfig(
            output_dir=self._folder,
            max_steps=STEPS,
            per_device_train_batch_size=ROWS_A_STEP,
            train_sampling_strategy="sequential",
            learning_rate=LR,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            optim="adamw_torch",
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        return self._trainer_class(
            transformers.AutoModelForCausalLM.from_pretrained(self._path, dtype=torch.float32),
            settings,
            train_dataset=self._rows,
            processing_class=transformers.AutoTokenizer.from_pretrained(self._path),
        )


def serve(rows: list[dict[str, str]], folder: Path, asked: Connection) -> None:
    """Train when asked, in a process of TRL's own, which knows of no ranks; answer seconds and losses."""
    torch.set_num_threads(1)
    theirs = Theirs(rows, folder)
    while (side := asked.recv()) is not None:
        spent = seconds(getattr(theirs, side))
        asked.send((spent, theirs.losses))


def _losses(result: RunResult) -> list[float]:
    return [float(row["loss"]) for row in result.steps]  # type: ignore[arg-type]


def speed(rounds: int, folder: Path) -> dict[str, float]:
    """Ratios of time and the largest difference of losses."""
    rows = write_rows(folder / "rows.jsonl", STEPS * ROWS_A_STEP)
    context = multiprocessing.get_context("spawn")
    there, asked = context.Pipe()
    process = context.Process(target=serve, args=(rows, folder / "trl", asked))
    process.start()

    def theirs(side: str) -> tuple[tuple[float, float], list[float]]:
        there.send(side)
        answered: tuple[tuple[float, float], list[float]] = there.recv()
        return answered

    trainer = EntropyMinimization(WorkerContext())
    optim = {"lr": LR, "weight_decay": 0.0, "grad_clip": 1.0}
    spec = spec_of(folder / "rows.jsonl", optim)
    specs = [spec_of(folder / "rows.jsonl", optim, seed=k, pack=PACK) for k in range(PACK)]

    def ours() -> list[float]:
        return _losses(trainer.run(spec, RunContext()))

    def packed() -> list[list[float]]:
        outcomes = [outcome for _, outcome in trainer.run_group(specs, [RunContext()] * PACK)]
        results = [outcome for outcome in outcomes if isinstance(outcome, RunResult)]
        assert all(result.layout["pack"] == PACK for result in results)
        return [_losses(result) for result in results]

    def turns(work: Callable[[], object], runs: int) -> list[tuple[Spent, Spent, Spent]]:
        """What each side took, round after round: theirs cold and warm, and a run of ours among so many."""
        work()
        spent = []
        for _ in range(rounds):
            cold, warm, (cpu, wall) = theirs("cold")[0], theirs("warm")[0], seconds(work)
            spent.append((cold, warm, (cpu / runs, wall / runs)))
        return spent

    expected, again, found, all_found = theirs("cold")[1], theirs("warm")[1], ours(), packed()
    alone, in_pack = turns(ours, 1), turns(packed, PACK)
    trainer.close()
    there.send(None)
    process.join()

    def median(times: list[tuple[Spent, Spent, Spent]], side: int, clock: int) -> float:
        return statistics.median(t[side][clock] for t in times)

    def ratio(times: list[tuple[Spent, Spent, Spent]], side: int, clock: int) -> float:
        return statistics.median(t[side][clock] / t[2][clock] for t in times)

    return {
        "vs_trl_cold": ratio(alone, 0, 0),
        "vs_trl_warm": ratio(alone, 1, 0),
        "vs_trl_cold_wall": ratio(alone, 0, 1),
        "vs_trl_warm_wall": ratio(alone, 1, 1),
        "vs_trl_cold_packed": ratio(in_pack, 0, 0),
        "vs_trl_warm_packed": ratio(in_pack, 1, 0),
        "max_loss_diff": max(
            abs(a - b)
            for own in (found, *all_found)
            for other in (expected, again)
            for a, b in zip(own, other, strict=True)
        ),
        "last_loss": found[-1],
        "run_cpu_s": median(alone, 2, 0),
        "run_wall_s": median(alone, 2, 1),
        "packed_run_cpu_s": median(in_pack, 2, 0),
        "trl_cold_cpu_s": median(alone, 0, 0),
        "trl_warm_cpu_s": median(alone, 1, 0),
    }


def held_bytes() -> int:
    """Bytes that this process holds once the allocator gave back what is free."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def slope(values: list[int]) -> float:
    """Theil and Sen's: the median of the slopes between any two values."""
    first, second = np.triu_indices(len(values), 1)
    held = np.array(values, dtype=np.float64)
    return float(np.median((held[second] - held[first]) / (second - first)))


def memory(runs: int, folder: Path, names: Iterable[str] = OPTIMIZERS) -> dict[str, float]:
    """What a warm worker gains in memory by a run, for each optimizer."""
    write_rows(folder / "few.jsonl", 2 * ROWS_A_STEP)
    slopes = {}
    _walk("lion", WARMUP_RUNS, folder)
    for name in names:
        held = _walk(name, runs, folder)
        slopes[name] = slope(held[len(held) // 4 :]) / LOOK_EVERY
    return slopes


def _walk(name: str, runs: int, folder: Path) -> list[int]:
    """What a worker's process holds now and then over runs that differ in their seeds."""
    trainer = PolicyTrainer(WorkerContext())
    optim = OmegaConf.to_container(OmegaConf.load(package_file(f"sweeps/conf/optim/{name}.yaml")))
    held = []
    for seed in range(runs):
        trainer.run(spec_of(folder / "few.jsonl", optim, steps=2, seed=seed), RunContext())
        if (seed + 1) % LOOK_EVERY == 0:
            held.append(held_bytes())
    trainer.close()
    return held


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds of the three sides, default 7; 0 for none"
    )
    parser.add_argument(
        "--runs", type=int, default=200, help="runs of each optimizer, default 200; 0 for none"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        figures: dict[str, Any] = dict(speed(options.rounds, Path(name))) if options.rounds else {}
        if options.runs:
            figures["memory_slope_bytes_per_run"] = memory(options.runs, Path(name))
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        for one, number in value.items() if isinstance(value, dict) else [("", value)]:
            print(f"{key:28} {one:14} {number:12.6g}")


if __name__ == "__main__":
    main()
