"""How fast sweeps are planned.

    python -m tests.benchmarks.sweeps [--json]

``expand_s``       13,440 runs from the sweep file to a manifest on disk
``expand_1m_s``    1,000,000 runs the same way, in a fresh process with its peak memory ``expand_1m_gib``
``hydra_ratio``    Hydra's ``compose`` once per run over our time, per run of the 13,440
``plan_s``         the whole process of ``emsweep plan sweep=grid13440``
``refuse_s``       refusing a grid of 10⁹ runs
``sharing_ratio``  steps of ``horizons`` without and with sharing, as planned

180 runs of ``horizons`` are launched for real with sharing off and on, one launch after the other:

``sharing_speedup``       seconds of rollouts and training executed, off over on
``sharing_train_off_s``   those seconds, and ``sharing_train_on_s``
``sharing_steps_off``     optimizer steps executed, and ``sharing_steps_on``
``sharing_steps_ratio``   steps of all runs by themselves over steps executed with sharing
``sharing_wall_off_s``    wall seconds of the whole launch, evaluation included, and ``sharing_wall_on_s``
``sharing_identical``     1 if both launches wrote the same tables but for timings
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from sweeps.manifest.manifest_file import write_manifest

HYDRA_SAMPLE = 40
"""Configurations composed one by one; their mean stands for all 13,440, which would take minutes."""

HORIZONS = ("sweep=horizons", "model=tiny-64", "seed=0,1")
"""Part of ``horizons`` that is launched: 180 runs of 990 steps."""

UNLIKE = {"attempt", "worker", "host", "finished_at"}
"""Columns that two launches of the same runs may differ in, with every one that ends in ``_s``."""

GRID = ("tiny-32", "tiny-64", "tiny-64-hasty", "tiny-96")


def expand(path: Path) -> float:
    """Return the seconds from a sweep's name to its manifest on disk."""
    from sweeps.compose import compose_sweep
    from sweeps.manifest.build import build_manifest

    started = time.perf_counter()
    manifest = build_manifest(compose_sweep(["sweep=grid13440"]))
    write_manifest(manifest, path)
    assert len(manifest) == 13_440
    return time.perf_counter() - started


def expand_million(path: Path) -> dict[str, float]:
    """Expand a grid of four groups and four keys to 1,000,000 runs in this process."""
    from sweeps.compose import compose_sweep
    from sweeps.grid.grid import axis, product
    from sweeps.manifest.build import build_manifest

    started = time.perf_counter()
    grid = product(
        axis("model", GRID),
        axis("example", ["carry-1", "nocarry-1", "long-1", "lowent-1", "highent-1"]),
        axis("optim.lr", [1e-5 * i for i in range(1, 26)]),
        axis("objective.temperature", [0.1 * i for i in range(1, 11)]),
        axis("schedule", ["constant", "linear"]),
        axis("seed", range(100)),
    )
    manifest = build_manifest(compose_sweep([], grid=grid))
    write_manifest(manifest, path)
    assert len(manifest) == 1_000_000
    seconds = time.perf_counter() - started
    return {
        "expand_1m_s": seconds,
        "expand_1m_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def hydra_seconds_per_run() -> float:
    """Return the seconds that Hydra's compose takes for one run of the grid, after a first one."""
    import hydra

    from sweeps.compose import CONFIG_MODULE, CONFIG_NAME, VERSION_BASE

    with hydra.initialize_config_module(CONFIG_MODULE, version_base=VERSION_BASE):
        hydra.compose(CONFIG_NAME, overrides=["sweep=grid13440"])
        started = time.perf_counter()
        for i in range(HYDRA_SAMPLE):
            words = [f"model={GRID[i % 4]}", f"optim.lr={1e-5 * (i + 1)}", f"seed={i}"]
            hydra.compose(CONFIG_NAME, overrides=["sweep=grid13440", *words])
        return (time.perf_counter() - started) / HYDRA_SAMPLE


def refuse() -> float:
    """Return the seconds of refusing 10⁹ runs."""
    from sweeps.compose import compose_sweep
    from sweeps.manifest.build import build_manifest
    from sweeps.spec import SpecError

    started = time.perf_counter()
    with contextlib.suppress(SpecError):
        build_manifest(compose_sweep(["optim.lr=range(1,1001)", "steps=range(1,1001)", "seed=range(1000)"]))
    return time.perf_counter() - started


def plan() -> tuple[float, dict[str, Any]]:
    """Return the wall seconds of the command and what it printed."""
    started = time.perf_counter()
    command = [Path(sys.executable).parent / "emsweep", "plan", "sweep=grid13440", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def share(folder: Path) -> dict[str, float]:
    """Launch :data:`HORIZONS` with sharing off and on and compare."""
    figures: dict[str, float] = {}
    for mode in ("off", "on"):
        command = [
            "launch",
            *HORIZONS,
            f"sharing={mode}",
            "--pool",
            "local",
            "--dir",
            folder / mode,
            "--json",
        ]
        done = subprocess.run(
            [Path(sys.executable).parent / "emsweep", *command], stdout=subprocess.PIPE, text=True, check=True
        )
        launched = json.loads(done.stdout)
        assert launched["committed"] == launched["expected"] == 180
        steps = executed_steps(folder / mode)
        figures[f"sharing_steps_{mode}"] = len(steps)
        figures[f"sharing_train_{mode}_s"] = float(steps["wall_s"].sum())
        figures[f"sharing_wall_{mode}_s"] = launched["wall_s"]
    num_naive = int(pd.read_parquet(folder / "on" / "runs.parquet", columns=["steps"])["steps"].sum())
    return figures | {
        "sharing_speedup": figures["sharing_train_off_s"] / figures["sharing_train_on_s"],
        "sharing_steps_ratio": num_naive / figures["sharing_steps_on"],
        "sharing_identical": float(same_tables(folder / "off", folder / "on")),
    }


def executed_steps(folder: Path) -> pd.DataFrame:
    """Return the optimizer steps that a launch executed, each once, with its seconds ``wall_s``.

    Runs that share a step record one and the same measurement of it, to the last bit. So among runs that
    differ only in their horizon, equal seconds of the same step are one execution.
    """
    runs = pd.read_parquet(folder / "runs.parquet", columns=["index", "model", "example", "optim.lr", "seed"])
    steps = pd.read_parquet(folder / "steps.parquet", columns=["index", "step", "wall_s"])
    taken = steps[steps["step"] > 0].merge(runs, on="index", validate="many_to_one")
    return taken.drop(columns="index").drop_duplicates()


def same_tables(one: Path, other: Path) -> bool:
    """Say whether two launches of the same runs wrote the same numbers, to the last bit."""
    tables = ("runs", "steps", "items", "rollouts")
    return all(numbers(one / f"{table}.parquet") == numbers(other / f"{table}.parquet") for table in tables)


def numbers(path: Path) -> list[str]:
    """Return a table's rows as text, but for :data:`UNLIKE` and timings; in no particular order on disk."""
    rows = pq.read_table(path).to_pylist()
    return sorted(
        repr({k: v for k, v in row.items() if k not in UNLIKE and not k.endswith("_s")}) for row in rows
    )


def measure() -> dict[str, float]:
    """Return every figure."""
    from sweeps.compose import compose_sweep
    from sweeps.cost.work_count import count_work
    from sweeps.manifest.build import build_manifest

    with tempfile.TemporaryDirectory() as folder:
        expand_s = min(expand(Path(folder) / "a.parquet") for _ in range(3))
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.sweeps",
            "--million",
            str(Path(folder) / "b.parquet"),
        ]
        million = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        shared = share(Path(folder))
    plan_s, planned = plan()
    assert planned["runs"] == 13_440
    work = count_work(build_manifest(compose_sweep(["sweep=horizons"])))
    return {
        "expand_s": expand_s,
        **million,
        "hydra_ratio": hydra_seconds_per_run() * 13_440 / expand_s,
        "plan_s": min(plan_s, plan()[0]),
        "refuse_s": refuse(),
        "sharing_ratio": work.naive.steps / work.shared.steps,
        **shared,
    }


def main() -> None:
    """Print the figures as text, or as one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--million", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.million:
        print(json.dumps(expand_million(arguments.million)))
        return
    figures = measure()
    if arguments.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:<20} {value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
