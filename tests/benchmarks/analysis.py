"""How fast a sweep's tables, analyses and report are, on synthetic sweeps of any size.

    python -m tests.benchmarks.analysis --runs 13440 --json --mlflow-python PYTHON_WITH_MLFLOW
    python -m tests.benchmarks.analysis --runs 1000000 --json
    python -m tests.benchmarks.analysis --truth --golds FOLDER --json

A process of its own writes the sweep (10 steps, 200 items a run); this one only reads, so that its peak
memory is the analysis's. ``table_s`` is the slowest of all tables. ``vs_wandb`` and ``vs_mlflow`` say how
many times longer the same runs with their steps take to load elsewhere, scaled from a few hundred runs.

- W&B: 96 runs mirrored by W&B itself, its offline files read with its own record types. It ships no reader of
  these files, only their upload, so the log around the records is read by :mod:`tests.benchmarks.wandb_file`.
- MLflow: a file store written and read by MLflow's client, ``search_runs`` and ``get_metric_history``. Its
  pins do not fit this project's, so it runs under the interpreter that ``--mlflow-python`` names; without
  one, ``vs_mlflow`` is null and ``vs_mlflow_missing`` says why.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ANALYSES_UP_TO = 200_000
"""Runs up to which the ten analyses and the report are timed too."""

GOLDS = Path(__file__).parents[2].parent / "shared" / "data"
"""Where the benchmarks' files are looked for: a folder beside the checkout."""

MLFLOW_RUNS = 200
"""Runs logged to MLflow, 20 ms each."""


def timed(work: Callable[[], Any]) -> float:
    """Seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(directory: Path, num_runs: int) -> dict[str, Any]:
    """Time reading, tables, analyses and report of one sweep."""
    from analysis import open_sweep
    from analysis.findings import FINDINGS
    from analysis.report import write_report
    from analysis.tables.best_cells import best_cells
    from analysis.tables.cell_table import cell_table, closing_table
    from analysis.tables.compare import compare, compare_levels
    from analysis.tables.costs import cost_table
    from analysis.tables.importance import importance

    runs_s = timed(lambda: open_sweep(directory).runs())
    steps_s = timed(lambda: open_sweep(directory).steps(["index", "step", "loss", "accuracy_sampled"]))
    sweep = open_sweep(directory)
    tables = {
        "every cell": lambda: cell_table(sweep),
        "by model and lr": lambda: cell_table(sweep, by=["model", "optim.lr"]),
        "by model and lr, seeds and items": lambda: cell_table(sweep, by=["model", "optim.lr"], over="both"),
        "every cell, seeds and items": lambda: cell_table(sweep, over="both"),
        "compare": lambda: compare(sweep, "optim.lr=1e-4", "optim.lr=2e-4", by=["model", "example"]),
        "compare levels": lambda: compare_levels(sweep, "optim.lr"),
        "importance": lambda: importance(sweep),
        "best cells": lambda: best_cells(sweep),
        "closing": lambda: closing_table(directory),
        "costs": lambda: cost_table(sweep),
    }
    table_s = {name: timed(work) for name, work in tables.items()}
    result: dict[str, Any] = {
        "runs": num_runs,
        "runs_s": runs_s,
        "steps_s": steps_s,
        "table_s": max(table_s.values()),
        "tables": table_s,
    }
    if num_runs <= ANALYSES_UP_TO:
        spent = {}
        for name, analyse in FINDINGS.items():

            def answer(analyse: Callable[..., Any] = analyse) -> None:
                figure = analyse(sweep).figure
                if figure is not None:
                    figure.svg()

            spent[name] = timed(answer)
        result["analyses_s"] = sum(spent.values())
        result["analyses"] = spent
        result["report_s"] = timed(lambda: write_report(sweep, directory / "report.html"))
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def wandb_load_s(folder: Path) -> float:
    """Seconds per run to read configuration, history and summary from W&B offline files."""
    from orchestrator.mirror import mirror_sweep
    from tests.analysis.synthetic import quickstart_world, write_sweep
    from tests.benchmarks.wandb_file import read_wandb_file

    directory = write_sweep(folder / "wandb", quickstart_world(num_items=20))
    mirror_sweep(directory, project="benchmark")
    files = sorted((directory / "wandb").glob("offline-run-*/*.wandb"))

    def load() -> list[dict[str, Any]]:
        return [
            {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            for path in files
            for record in read_wandb_file(path)
            if record.WhichOneof("record_type") == "history"
        ]

    assert len(load()) == 96 * 11
    return timed(load) / len(files)


def mlflow_load_s(folder: Path, python: Path, num_runs: int = MLFLOW_RUNS) -> float:
    """Seconds per run for MLflow to read parameters and metric histories from its own file store.

    Raises:
        subprocess.CalledProcessError: when the interpreter lacks MLflow or pandas; its words are on stderr.
    """
    script = Path(__file__).with_name("mlflow_store.py")
    command = [str(python), str(script), str(folder / "mlruns"), "--runs", str(num_runs)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer["runs_s_per_run"] + answer["steps_s_per_run"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=13_440)
    parser.add_argument("--directory", type=Path, help="a sweep written earlier, instead of a new one")
    parser.add_argument("--mlflow-python", type=Path, help="an interpreter that has mlflow and pandas")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--coverage", action="store_true", help="how often intervals hold the truth, alone")
    parser.add_argument(
        "--truth",
        action="store_true",
        help="coverage, false claims, importance, graders, model folders and layouts against planted truth",
    )
    parser.add_argument(
        "--golds", type=Path, default=GOLDS, help="folder of the benchmarks' files, for --truth"
    )
    args = parser.parse_args()
    if args.coverage or args.truth:
        from tests.benchmarks import truth

        show(truth.truth(args.golds) if args.truth else truth.coverage(), as_json=args.json)
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = args.directory or Path(scratch) / "sweep"
        if args.directory is None:
            words = ["--runs", str(args.runs), *(["--lean"] if args.runs > ANALYSES_UP_TO else [])]
            subprocess.run(
                [sys.executable, "-m", "tests.analysis.synthetic", str(directory), *words],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        result = measure(directory, args.runs)
        own_s = result["runs_s"] + result["steps_s"]
        result["vs_wandb"] = wandb_load_s(Path(scratch)) * args.runs / own_s
        if args.mlflow_python is None:
            missing = "no interpreter with mlflow and pandas was named: --mlflow-python PATH"
            result |= {"vs_mlflow": None, "vs_mlflow_missing": missing}
        else:
            load_s = mlflow_load_s(Path(scratch), args.mlflow_python)
            result["vs_mlflow"] = load_s * args.runs / own_s
    show(result, as_json=args.json)


def show(result: dict[str, Any], *, as_json: bool) -> None:
    """Print a result for people or as one JSON object."""
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, figure in value.items():
                shown = f"{figure:8.3f}" if isinstance(figure, float) else str(figure)
                print(f"    {name:<60} {shown}")
        elif isinstance(value, float):
            print(f"{key:<38} {value:10,.3f}")
        else:
            print(f"{key:<38} {'–' if value is None else value}")


if __name__ == "__main__":
    main()
