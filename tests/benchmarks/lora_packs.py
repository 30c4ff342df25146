"""Packs of low-rank adapters over one model, against the same runs one by one: time and memory.

    python -m tests.benchmarks.lora_packs --json
    python -m tests.benchmarks.lora_packs --size 7m --json
    python -m tests.benchmarks.lora_packs --size 1.5b --rollouts 16 --json      # on a GPU

Sixteen runs on a randomly initialised Qwen2 model of the size: 16 seeds, ranks 4 and 8 on queries and values,
five rates; two rollouts of up to 8 tokens, which is what 64 of a trained model soon come down to once equal
ones are merged (``--rollouts`` for more). Both sides are measured in turn in processor seconds, memory by a
process of its own for each; on a GPU wall seconds and the GPU's memory count. There members are computed one
at a time: what a pack saves is the model's memory, 16 times over, and the engine's work between runs.

``lora_pack_speedup_*``  rollouts and optimizer steps, per run
``lora_memory_*``        most memory beyond what the process holds before it loads the model: a pack of 16
                         over a run by itself, with equally many rows a member
``lora_member_mib_*``    what each further member of the pack adds
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from sweeps.spec import RunSpec, spec_from_dict
from tests.benchmarks.two_sides import in_turn
from tests.trainers.made_models import save_random_model
from trainers.em import EntropyMinimization
from trainers.protocol import RunContext, RunResult, WorkerContext

WIDTH = 16

SIZES = {"7m": (256, 704, 9, 4), "40m": (512, 1408, 13, 8), "300m": (1024, 2816, 27, 16)}
"""Hidden width, feed-forward width, layers and heads."""

GPU_SIZES = {"1.5b": (1536, 8960, 28, 12)}
"""Those that only a GPU is asked for, with the vocabulary of Qwen2.5-Math-1.5B."""

VOCABULARY = {"1.5b": {"vocab_size": 151_936}}

STEPS = {"7m": 5, "40m": 3, "300m": 1, "1.5b": 2}

MOST_ROUNDS = {"300m": 2}
"""Rounds of what takes minutes each."""

TOKENS = {"1.5b": 64}
"""Longest completion, where it is not 8."""


def make_model(folder: Path, size: str) -> int:
    """Write the model; return its parameters."""
    hidden, feed_forward, layers, heads = (SIZES | GPU_SIZES)[size]
    model = save_random_model(
        folder,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(2, heads // 2) if size in SIZES else 2,
        tie_word_embeddings=True,
        **VOCABULARY.get(size, {}),
    )
    return sum(p.numel() for p in model.parameters())


def runs(folder: Path | str, size: str, rollouts: int, *, width: int, num: int = WIDTH) -> list[RunSpec]:
    """Runs that share nothing but their model."""
    return [
        spec_from_dict(
            {
                "model": {
                    "name": size,
                    "path": str(folder),
                    "adapter": "lora",
                    "adapter_rank": (4, 8)[seed % 2],
                    "adapter_targets": ["q_proj", "v_proj"],
                },
                "example": {"name": "one", "prompts": ["47+38="]},
                "sampling": {
                    "num_rollouts": rollouts,
                    "max_new_tokens": TOKENS.get(size, 8),
                    "temperature": 1.0,
                },
                "optim": {"lr": (1e-4, 2e-4, 5e-4, 1e-3, 2e-3)[seed % 5]},
                "engine": {"pack": width},
                "seed": seed,
                "steps": STEPS[size],
            }
        )
        for seed in range(num)
    ]


def trained(trainer: EntropyMinimization, specs: list[RunSpec]) -> list[RunResult]:
    found = dict(trainer.run_group(specs, [RunContext()] * len(specs)))
    for outcome in found.values():
        assert isinstance(outcome, RunResult), outcome
        assert ("pack" in outcome.layout) == bool(specs[0].engine.pack)
    return list(found.values())  # type: ignore[arg-type]


def speed(folder: Path, size: str, rollouts: int, rounds: int) -> dict[str, float]:
    """Sixteen runs either way."""
    trainer = EntropyMinimization(WorkerContext())
    plain, packed = (runs(folder, size, rollouts, width=width) for width in (0, WIDTH))
    rows = [row["num_distinct"] for row in trained(trainer, packed)[0].steps if "num_distinct" in row]
    found = in_turn(rounds, lambda: trained(trainer, plain), lambda: trained(trainer, packed))
    trainer.close()
    return {
        f"lora_pack_speedup_{size}": found["speedup"],
        f"lora_pack_speedup_wall_{size}": found["before_wall_s"] / found["after_wall_s"],
        f"lora_step_cpu_ms_{size}": 1e3 * found["before_cpu_s"] / WIDTH / STEPS[size],
        f"lora_packed_step_cpu_ms_{size}": 1e3 * found["after_cpu_s"] / WIDTH / STEPS[size],
        f"lora_rows_{size}": sum(rows) / len(rows),
    }


def own_peak_mib(folder: Path, size: str, rollouts: int, width: int) -> float:
    """Most memory of this process beyond what it holds now, while it trains."""
    trainer = EntropyMinimization(WorkerContext())
    trained(
        trainer, runs("pkg://trainers/tiny/models/tiny-32", size, rollouts, width=width, num=1)
    )  # all is imported
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = torch.cuda.memory_allocated() / 2**20 if on_gpu else _status_mib("VmRSS")
    trained(trainer, runs(folder, size, rollouts, width=width, num=width or 1))
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else _status_mib("VmHWM")
    return peak - before


def _status_mib(key: str) -> float:
    [line] = [t for t in Path("/proc/self/status").read_text().splitlines() if t.startswith(f"{key}:")]
    return int(line.split()[1]) / 1024


def memory(folder: Path, size: str, rollouts: int) -> dict[str, float]:
    """A pack's memory over that of one run."""
    command = [sys.executable, "-m", "tests.benchmarks.lora_packs", "--peak-of", str(folder), "--size", size]
    command += ["--rollouts", str(rollouts)]
    alone, pack = (
        float(subprocess.run([*command, "--width", str(width)], check=True, capture_output=True).stdout)
        for width in (0, WIDTH)
    )
    return {
        f"lora_memory_{size}": pack / alone,
        f"lora_alone_mib_{size}": alone,
        f"lora_pack_mib_{size}": pack,
        f"lora_member_mib_{size}": (pack - alone) / (WIDTH - 1),
    }


def figures(sizes: list[str], rounds: int, rollouts: int = 2) -> dict[str, float]:
    """All figures of these sizes."""
    found: dict[str, float] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found[f"lora_parameters_{size}"] = make_model(Path(folder), size)
            found |= speed(Path(folder), size, rollouts, min(rounds, MOST_ROUNDS.get(size, rounds)))
            found |= memory(Path(folder), size, rollouts)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES | GPU_SIZES, help="one size only")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both sides, default 5")
    parser.add_argument("--rollouts", type=int, default=2, help="of a run's step, default 2")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(own_peak_mib(options.peak_of, options.size, options.rollouts, options.width))
        return
    found = figures([options.size] if options.size else list(SIZES), options.rounds, options.rollouts)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:32} {value:12.3f}")


if __name__ == "__main__":
    main()
