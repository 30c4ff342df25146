"""Log runs to an MLflow file store and time how long MLflow takes to load them again.

    PYTHON_WITH_MLFLOW tests/benchmarks/mlflow_store.py FOLDER --runs 200

Runs under an interpreter of its own and imports nothing of this project, because MLflow's pins do not fit it.
Loads as a user does: ``mlflow.search_runs`` for a frame of parameters and last values, then
``get_metric_history`` for each metric of each run. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

METRICS = ("loss", "entropy_nats", "grad_norm", "lr", "completion_tokens", "num_distinct", "accuracy_sampled")
PARAMETERS = ("model", "example", "optim.lr", "objective.temperature", "seed")
STEPS = 11


def main() -> None:
    """Log, load, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    args = parser.parse_args()
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # needed from MLflow 3 on, unknown before
    import mlflow
    from mlflow.entities import Metric, Param

    mlflow.set_tracking_uri(args.folder.resolve().as_uri())
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("sweep")
    started = time.perf_counter()
    for number in range(args.runs):
        run_id = client.create_run(experiment).info.run_id
        metrics = [Metric(name, 0.1 * step, step, step) for name in METRICS for step in range(STEPS)]
        params = [Param(name, str(number % 16)) for name in PARAMETERS]
        client.log_batch(run_id, metrics, params, [])
        client.set_terminated(run_id)
    logged = time.perf_counter()
    frame = mlflow.search_runs([experiment])
    searched = time.perf_counter()
    values = [
        (point.step, point.value)
        for run_id in frame["run_id"]
        for name in METRICS
        for point in client.get_metric_history(run_id, name)
    ]
    loaded = time.perf_counter()
    assert len(frame) == args.runs
    assert len(values) == args.runs * len(METRICS) * STEPS
    figures = {
        "version": mlflow.__version__,
        "log_s_per_run": (logged - started) / args.runs,
        "runs_s_per_run": (searched - logged) / args.runs,
        "steps_s_per_run": (loaded - searched) / args.runs,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
