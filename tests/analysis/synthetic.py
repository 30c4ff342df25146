"""Realistic sweep directories of any size with a known truth, for the tests, the benchmarks and the
dashboard.

    python -m tests.analysis.synthetic DIR --runs 13440

The world: a run's accuracy first rises with ``lr × step`` and then collapses, more for some models and
examples than for others. Items have difficulties; the noise of an evaluation is keyed by (seed, item,
sample), so every run of a seed shares it, as in the real trainer. Written in chunks: a million runs need
about 2 GB of memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.grid.columns import Column, kind_of
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_file import write_manifest
from sweeps.spec import GROUPS, RUN_ID_LENGTH, group_to_dict, group_type

CHUNK_RUNS = 8192
"""Runs generated at once."""

_MODELS = ("tiny-32", "tiny-64", "tiny-64-hasty", "tiny-96")
_EXAMPLES = ("carry", "no-carry", "short", "long", "certain", "unsure", "mixed")
_LRS = (3e-5, 1e-4, 2e-4, 4e-4, 1e-3)
_TAUS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class World:
    """A grid and the truth behind it."""

    axes: Mapping[str, tuple[Any, ...]]
    """Hydra key to values in YAML order; ``seed`` last, varying fastest."""
    num_steps: int = 10
    """Optimizer steps of every run."""
    eval_steps: tuple[int, ...] = (0, 1, 2, 5, 10)
    """Steps at which runs are evaluated."""
    item_steps: tuple[int, ...] = (0, 1, 2, 5, 10)
    """Evaluated steps whose per-item verdicts are kept."""
    num_items: int = 200
    """Items of the benchmark."""
    num_samples: int = 1
    """Sampled completions per item."""
    eval_temperatures: tuple[float, ...] = (1.0,)
    """Sampling temperatures of the evaluation; the first one gives ``accuracy_sampled``."""
    failed: float = 0.0
    """Share of runs that failed."""
    diverged: float = 0.0
    """Share of runs that diverged; they have no final accuracy."""
    pending: float = 0.0
    """Share of runs that have not run yet."""
    rollouts: bool = False
    """Write distinct rollouts of the first and last step."""
    logit_stats: bool = False
    """Write moments and histograms of raw logits; training skews them to the right."""
    extra_metrics: Mapping[str, Any] = field(default_factory=dict)
    """Further run columns: name to constant or to ``f(axis columns, random generator) -> array``."""
    base_accuracy: float = 0.825
    """Sampled accuracy of the base models before the model's own shift."""
    run_noise: float = 0.25
    """Standard deviation, in logits, of what one run adds of its own."""
    fresh_noise: float = 0.3
    """Share of evaluation draws that a run does not have in common with its seed's other runs."""
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the trainer's specification: an own target, what its metrics are."""
    rng_seed: int = 0
    """Seed of the world."""

    @property
    def num_runs(self) -> int:
        """Size of the grid."""
        return math.prod(len(v) for v in self.axes.values())


def quickstart_world(**changes: Any) -> World:
    """The shape of the shipped quickstart: 2 models × 3 examples × 4 learning rates × 4 seeds."""
    axes = {
        "model": ("tiny-64", "tiny-32"),
        "example": ("unsure", "carry", "short"),
        "optim.lr": (3e-5, 1e-4, 2e-4, 1e-3),
        "seed": tuple(range(4)),
    }
    return World(**{"axes": axes, **changes})


def grid_world(num_runs: int = 13_440, **changes: Any) -> World:
    """The shape of the full study, stretched so that the grid holds at least ``num_runs`` runs."""
    axes: dict[str, tuple[Any, ...]] = {
        "model": _MODELS,
        "example": _EXAMPLES,
        "optim.lr": _LRS,
        "objective.temperature": _TAUS,
    }
    cells = math.prod(len(v) for v in axes.values())
    if num_runs > 20 * 16 * cells:  # a large study has more cells, not hundreds of seeds
        axes["optim.weight_decay"] = tuple(
            round(0.01 * k, 2) for k in range(math.ceil(num_runs / 16 / cells))
        )
        cells *= len(axes["optim.weight_decay"])
    axes["seed"] = tuple(range(math.ceil(num_runs / cells)))
    return World(**{"axes": axes, **changes})


def write_sweep(directory: Path, world: World) -> Path:
    """Write manifest, runs, steps and items of ``world`` under ``directory`` and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(world)
    write_manifest(manifest, directory / "manifest.parquet")
    (directory / "sweep.yaml").write_text(json.dumps(_asked(world), indent=1))
    writers: dict[str, pq.ParquetWriter] = {}
    try:
        for chunk in _chunks(world, manifest):
            for name, table in chunk.items():
                if name not in writers:
                    path = directory / f"{name}.parquet"
                    writers[name] = pq.ParquetWriter(path, table.schema, compression="zstd")
                writers[name].write_table(table)
    finally:
        for writer in writers.values():
            writer.close()
    return directory


def _asked(world: World) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "synthetic",
        "command": "emsweep launch sweep=synthetic",
        "overrides": ["sweep=synthetic"],
        "versions": {"emsweep": "0.1.0", "python": "3.11"},
        "axes": {k: list(v) for k, v in world.axes.items()},
    }


def _manifest(world: World) -> Manifest:
    keys = list(world.axes)
    codes = np.unravel_index(np.arange(world.num_runs), [len(world.axes[k]) for k in keys])
    columns = tuple(
        Column(key=key, values=tuple(world.axes[key]), kind=kind_of(key, world.axes[key]), codes=code)
        for key, code in zip(keys, codes, strict=True)
    )
    groups: dict[str, tuple[str, ...]] = {}
    group_codes = {}
    for group in GROUPS:
        key = next((k for k in keys if k.split(".")[0] == group), None)
        field = (key or "").partition(".")[2] or "name"
        options = [{field: value} for value in world.axes[key]] if key else [{}]
        options = [dict(world.trainer)] if group == "trainer" else options
        groups[group] = tuple(json.dumps(group_to_dict(group_type(group)(**option))) for option in options)
        group_codes[group] = codes[keys.index(key)] if key else np.zeros(world.num_runs, dtype=np.int64)
    words = [[f"{key}={value}" for value in world.axes[key]] for key in keys]
    texts = (
        " ".join(w[c] for w, c in zip(words, row, strict=True))
        for row in zip(*(code.tolist() for code in codes), strict=True)
    )
    return Manifest(
        sweep="synthetic",
        run_ids=[hashlib.sha256(text.encode()).hexdigest()[:RUN_ID_LENGTH] for text in texts],
        columns=columns,
        groups=groups,
        group_codes=group_codes,
        steps=np.full(world.num_runs, world.num_steps),
        seeds=np.asarray(world.axes["seed"])[codes[keys.index("seed")]],
        cells=np.arange(world.num_runs) // len(world.axes["seed"]),
        overrides=("sweep=synthetic",),
    )


def _chunks(world: World, manifest: Manifest) -> Iterator[dict[str, pa.Table]]:
    rng = np.random.default_rng(world.rng_seed)
    truth = _Truth.draw(world, rng)
    shares = {"failed": world.failed, "diverged": world.diverged, "pending": world.pending}
    shares["done"] = 1 - sum(shares.values())
    names = manifest.names()
    for start in range(0, world.num_runs, CHUNK_RUNS):
        rows = slice(start, min(start + CHUNK_RUNS, world.num_runs))
        codes = {column.key: column.codes[rows] for column in manifest.columns}
        values = {key: np.asarray(world.axes[key])[code] for key, code in codes.items()}
        identity = {
            "index": pa.array(np.arange(rows.start, rows.stop)),
            "run_id": pa.array(manifest.run_ids[rows]),
        }
        labels = {
            "name": pa.array(list(itertools.islice(names, rows.stop - rows.start))),
            "cell": pa.array(manifest.cells[rows]),
        }
        axes = {key: pa.array(value.tolist()) for key, value in values.items()}
        outcome = rng.choice(list(shares), size=rows.stop - rows.start, p=list(shares.values()))
        yield _results(world, truth, identity, labels, axes, codes, values, outcome, rng)


@dataclass(frozen=True, kw_only=True)
class _Truth:
    """Everything random that is fixed for the world."""

    difficulty: np.ndarray
    seed_effect: np.ndarray
    rise: Mapping[str, np.ndarray]
    uniform: np.ndarray

    @classmethod
    def draw(cls, world: World, rng: np.random.Generator) -> _Truth:
        sizes = {k: len(v) for k, v in world.axes.items()}
        return cls(
            difficulty=rng.normal(0, 1.2, world.num_items).astype(np.float32),
            seed_effect=rng.normal(0, 1, sizes["seed"]),
            rise={k: np.linspace(-0.4, 0.4, n) for k, n in sizes.items() if k in ("model", "example")},
            uniform=rng.random((sizes["seed"], world.num_items, world.num_samples), dtype=np.float32),
        )


def _results(world, truth, identity, labels, axes, codes, values, outcome, rng) -> dict[str, pa.Table]:
    size = len(outcome)
    ran = np.isin(outcome, ["done", "diverged"])
    pull = np.asarray(values.get("optim.lr", np.full(size, 1e-4))) / 2e-4
    tau = np.asarray(values.get("objective.temperature", np.full(size, 0.5)))
    shift = sum((truth.rise[k][codes[k]] for k in truth.rise), np.zeros(size))
    own_noise = rng.normal(0, world.run_noise, size)
    base_logit = math.log(world.base_accuracy / (1 - world.base_accuracy)) * np.ones(size)
    logits_RE = np.stack(
        [
            base_logit
            + np.where(pull * s > 0, (1.6 + shift - 0.4 * np.abs(tau - 0.5)) * (1 - np.exp(-pull * s / 4)), 0)
            - 0.35 * np.maximum(0, pull * s - 10) * (1 - 0.5 * shift)
            + np.sqrt(np.minimum(1, pull * s / 10)) * (0.3 * truth.seed_effect[codes["seed"]] + own_noise)
            for s in world.eval_steps
        ],
        axis=1,
    ).astype(np.float32)
    shared_RIK = truth.uniform[codes["seed"]]
    fresh_RIK = rng.random(shared_RIK.shape, dtype=np.float32)
    correct = {}  # (mode, temperature, step) -> counts per run and item
    for column, step in enumerate(world.eval_steps):
        for temperature in world.eval_temperatures:
            p_RI = _probability(logits_RE[:, column], truth.difficulty, temperature)
            draws = np.where(fresh_RIK < world.fresh_noise, fresh_RIK / world.fresh_noise, shared_RIK)
            correct["sampled", temperature, step] = (draws < p_RI[:, :, None]).sum(axis=2).astype(np.int32)
        greedy = _probability(logits_RE[:, column], truth.difficulty, 1.0) > 0.5
        correct["greedy", 0.0, step] = greedy.astype(np.int32)
    accuracy = {
        (_column(world, mode, temperature), step): counts.mean(axis=1)
        / (world.num_samples if temperature else 1)
        for (mode, temperature, step), counts in correct.items()
    }
    entropy = 0.2 + 0.1 * codes.get("example", np.zeros(size)) + 0.05 * codes.get("model", np.zeros(size))
    tables = {
        "runs": _runs(world, identity | labels, axes, values, outcome, accuracy, entropy, rng),
        "steps": _steps(world, identity, ran, outcome, accuracy, pull, rng),
        "items": _items(world, identity, ran, correct),
    }
    if world.rollouts:
        tables["rollouts"] = _rollouts(world, identity, ran, codes)
    if world.logit_stats:
        tables["logits"] = _logits(identity, ran, pull, rng)
    return tables


def _column(world: World, mode: str, temperature: float) -> str:
    named = mode == "sampled" and temperature != world.eval_temperatures[0]
    return f"accuracy_{mode}" + (f"_t{temperature:g}" if named else "")


def _rollouts(world, identity, ran, codes) -> pa.Table:
    """Two texts a step: the more frequent one has 32 to 63 of 64 draws, by example, and all but one at the
    end.
    """
    picks = np.flatnonzero(ran)
    often = 63 - 5 * codes.get("example", np.zeros(len(ran), dtype=int))[picks] % 32
    blocks = []
    for step, counts in ((0, often), (world.num_steps - 1, np.full(len(picks), 63))):
        for text, count in ((";11;131", counts), ("?121", 64 - counts)):
            columns = {k: v.take(pa.array(picks)) for k, v in identity.items()}
            columns["step"] = pa.array(np.full(len(picks), step))
            columns["prompt"] = pa.array(np.zeros(len(picks), dtype=np.int64))
            columns["text"] = pa.array([text] * len(picks))
            columns["count"] = pa.array(count, pa.int64())
            blocks.append(pa.table(columns))
    return pa.concat_tables(blocks)


def _logits(identity, ran, pull, rng) -> pa.Table:
    picks = np.flatnonzero(ran)
    blocks = []
    for state, text, shift in (("base", "own", 0.0), ("tuned", "own", 0.6), ("tuned", "shared", 0.5)):
        skewness = 1.0 + shift * np.minimum(1, pull[picks]) + rng.normal(0, 0.05, len(picks))
        columns = {k: v.take(pa.array(picks)) for k, v in identity.items()}
        columns["state"] = pa.array([state] * len(picks))
        columns["text"] = pa.array([text] * len(picks))
        columns["n"] = pa.array(np.full(len(picks), 1000))
        columns["skewness"] = pa.array(skewness)
        columns["first_bin"] = pa.array(np.full(len(picks), 70))
        columns["histogram"] = pa.array([[200, 400, 300, 100]] * len(picks), pa.list_(pa.int64()))
        blocks.append(pa.table(columns))
    return pa.concat_tables(blocks)


def _probability(logit_R: np.ndarray, difficulty_I: np.ndarray, temperature: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(logit_R[:, None] + difficulty_I) / np.float32(temperature)))


def _runs(world, labels, axes, values, outcome, accuracy, entropy, rng) -> pa.Table:
    size = len(outcome)
    done, diverged = outcome == "done", outcome == "diverged"
    last = world.eval_steps[-1]
    started = 1.7e9 + np.asarray(labels["index"]) * 0.05
    wall_s = rng.gamma(20, 0.01, size)
    metrics: dict[str, Any] = {}
    for name in dict.fromkeys(name for name, _ in accuracy):
        metrics[name] = (accuracy[name, last], done)
        metrics[f"base_{name}"] = (accuracy[name, 0], done | diverged)
        metrics[name.replace("accuracy", "gain")] = (accuracy[name, last] - accuracy[name, 0], done)
    metrics["first_entropy_nats"] = (entropy, done | diverged)
    for name, share in (("wall_s", 1.0), ("rollout_s", 0.5), ("train_s", 0.3), ("eval_s", 0.2)):
        metrics[name] = (wall_s * share, done | diverged)
    for name, value in world.extra_metrics.items():
        metrics[name] = (value(values, rng) if callable(value) else np.full(size, value), done)
    started_mask = outcome == "pending"
    columns = labels | {
        "outcome": pa.array(outcome),
        "attempt": pa.array(np.zeros(size), pa.int64(), mask=started_mask),
        "worker": pa.array([f"w{i % 2}" for i in range(size)], mask=started_mask),
        "host": pa.array(["node0"] * size, mask=started_mask),
        "finished_at": pa.array(started, pa.float64(), mask=started_mask),
    }
    columns |= axes
    columns |= {k: pa.array(np.asarray(v), pa.float64(), mask=~mask) for k, (v, mask) in metrics.items()}
    failed = outcome == "failed"
    columns["error"] = pa.array(["RuntimeError: planted"] * size, pa.string(), mask=~failed)
    columns["fingerprint"] = pa.array(["planted"] * size, pa.string(), mask=~failed)
    return pa.table(columns)


def _steps(world, identity, ran, outcome, accuracy, pull, rng) -> pa.Table:
    picks = np.flatnonzero(ran)
    width = world.num_steps + 1
    step = np.tile(np.arange(width), len(picks))
    run = np.repeat(picks, width)
    before = step == 0
    drift = pull[run] * step
    entropy = 0.45 * np.exp(-drift / 6) + rng.random(len(run)) * 0.02
    columns = {k: v.take(pa.array(run)) for k, v in identity.items()}
    columns["step"] = pa.array(step, pa.int64())
    for name, value in (
        ("loss", entropy),
        ("entropy_nats", entropy * 1.1),
        ("grad_norm", 0.5 + rng.random(len(run))),
        ("lr", pull[run] * 2e-4),
        ("completion_tokens", np.full(len(run), 8.0)),
        ("num_distinct", np.ceil(1 + 4 * np.exp(-drift / 6))),
        ("wall_s", np.full(len(run), 0.02)),
    ):
        columns[name] = pa.array(value, pa.float64(), mask=before)
    stopped = (outcome == "diverged")[run] & (step > world.num_steps // 2)
    for name in dict.fromkeys(name for name, _ in accuracy):
        value = np.full((len(ran), width), np.nan)
        for s in world.eval_steps:
            value[:, s] = accuracy[name, s]
        value = value[picks].ravel()
        columns[name] = pa.array(value, pa.float64(), mask=np.isnan(value) | stopped)
    return pa.table(columns).filter(pa.array(~stopped))


def _items(world, identity, ran, correct) -> pa.Table:
    picks = np.flatnonzero(ran)
    blocks = []
    for (mode, temperature, step), counts_RI in correct.items():
        if step not in world.item_steps:
            continue
        samples = 1 if mode == "greedy" else world.num_samples
        counts = counts_RI[picks]
        size = len(picks)
        blocks.append(
            pa.table(
                {k: v.take(pa.array(picks)) for k, v in identity.items()}
                | {
                    "benchmark": pa.array(["addition"] * size),
                    "step": pa.array(np.full(size, step), pa.int64()),
                    "mode": pa.array([mode] * size),
                    "temperature": pa.array(np.full(size, temperature), pa.float64()),
                    "num_samples": pa.array(np.full(size, samples), pa.int64()),
                    "correct": _lists(counts),
                    "strict": _lists(counts),
                    "boxed": _lists(np.full_like(counts, samples)),
                    "truncated": _lists(np.zeros_like(counts)),
                    "tokens": _lists(np.full_like(counts, 8 * samples)),
                }
            )
        )
    return pa.concat_tables(blocks)


def _lists(values_RI: np.ndarray) -> pa.Array:
    rows, items = values_RI.shape
    offsets = pa.array(np.arange(rows + 1) * items, pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values_RI.ravel(), pa.int32()))


def main() -> None:
    """Write a synthetic sweep from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--runs", type=int, default=13_440)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument(
        "--lean", action="store_true", help="per-item verdicts of the first and last step only"
    )
    args = parser.parse_args()
    world = grid_world(args.runs, num_items=args.items)
    if args.lean:
        world = dataclasses.replace(world, item_steps=(0, world.num_steps))
    write_sweep(args.directory, world)
    print(f"{world.num_runs:,} runs in {args.directory}")


if __name__ == "__main__":
    main()
