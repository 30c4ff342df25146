"""MLflow's own page on the same runs, measured in the same browser.

The runs go straight into MLflow's SQLite store, with axes as parameters and the final metrics: logging them
through its client takes 20 ms a run. The server is MLflow's, under an interpreter that has it.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

VIEW = "/experiments/1/runs?searchFilter={}&orderByKey={}&orderByAsc={}&lifecycleFilter=Active"
"""Address of the table inside the page: filter, column to sort by, direction."""

START_S = 120.0
"""Longest wait for MLflow's server."""

CHANGED = """(hash) => new Promise((resolve, reject) => {
  const shown = () => [...document.querySelectorAll("[role=row]")].slice(1, 12);
  const rows = () => shown().map((row) => row.innerText).join("|");
  const before = rows(), started = performance.now();
  location.hash = hash;
  const look = () => {
    const now = rows();
    if (now && now !== before) resolve(performance.now() - started);
    else if (performance.now() - started > 30000) reject(new Error("the table did not change"));
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})"""
"""Goes to a view of the table and returns the milliseconds until other rows are shown."""


def measure_mlflow(
    directory: Path, python: Path, scratch: Path, chromium: Callable[[], Any]
) -> dict[str, Any]:
    """First useful paint, sorting and filtering of MLflow's table of runs."""
    store = scratch / "mlflow.db"
    create = f"import mlflow; mlflow.set_tracking_uri('sqlite:///{store}'); mlflow.create_experiment('sweep')"
    subprocess.run([str(python), "-c", create], check=True, capture_output=True)
    _fill(directory, store)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        f"sqlite:///{store}",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with subprocess.Popen(
        [str(python), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url)
            with chromium() as browser:
                return _measure(browser, url) | {"server_mib": _tree_mib(server.pid)}
        finally:
            _stop(server.pid)


def _measure(browser: Any, url: str) -> dict[str, Any]:
    first_s = []
    for _ in range(3):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        started_s = time.perf_counter()
        page.goto(f"{url}/#{VIEW.format('', 'attributes.start_time', 'false')}", wait_until="commit")
        page.wait_for_selector("[role=row] >> text=tiny", timeout=60_000)
        first_s.append(time.perf_counter() - started_s)
        context.close()
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{url}/#{VIEW.format('', 'attributes.start_time', 'false')}")
    page.wait_for_selector("[role=row] >> text=tiny", timeout=60_000)
    times: dict[str, list[float]] = {"sort": [], "filter": []}
    for column in ("gain_sampled", "accuracy_sampled", "wall_s"):
        for ascending in ("true", "false"):
            key = f"metrics.%60{column}%60"
            times["sort"].append(page.evaluate(CHANGED, VIEW.format("", key, ascending)))
    for model in ("tiny-32", "tiny-64", "tiny-96", "tiny-64-hasty"):
        text = f"params.model%20%3D%20%22{model}%22"
        times["filter"].append(page.evaluate(CHANGED, VIEW.format(text, "attributes.start_time", "false")))
    return {
        "first_paint_s": statistics.median(first_s),
        **{f"{kind}_p50_ms": statistics.median(ms) for kind, ms in times.items()},
        "rows_shown": 100,
    }


def _fill(directory: Path, store: Path) -> None:
    """Write every run with its axes and metrics into the tables that MLflow has made."""
    from analysis import open_sweep

    sweep = open_sweep(directory)
    frame = sweep.runs().astype(dict.fromkeys(sweep.cell_keys, str))
    metrics = [name for name in sweep.metrics if frame[name].notna().any()]
    runs, params, values = [], [], []
    for number, row in enumerate(frame.to_dict("records")):
        uuid, at = row["run_id"], 1_700_000_000_000 + number
        runs.append((uuid, row["name"], "LOCAL", "", "", "me", "FINISHED", at, at + 1, 0, "active", "", 1))
        params += [(key, str(row[key]), uuid) for key in sweep.axis_keys]
        values += [(name, float(row[name]), at, uuid, 0, 0) for name in metrics if row[name] == row[name]]
    with contextlib.closing(sqlite3.connect(store)) as db, db:
        db.executemany(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, "
            "start_time, end_time, deleted_time, lifecycle_stage, artifact_uri, experiment_id) "
            "VALUES (?,?,?,?,?,?,?,?,?,NULLIF(?,0),?,?,?)",
            runs,
        )
        tags = [("mlflow.runName", run[1], run[0]) for run in runs]  # its page fails on a run without tags
        db.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?,?,?)", tags)
        db.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?,?,?)", params)
        for table in ("metrics", "latest_metrics"):
            db.executemany(
                f"INSERT INTO {table} (key, value, timestamp, run_uuid, step, is_nan) VALUES (?,?,?,?,?,?)",
                values,
            )


def _wait_for(url: str) -> None:
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)


def _tree(pid: int) -> list[Any]:
    import psutil

    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _tree_mib(pid: int) -> float:
    return sum(process.memory_info().rss for process in _tree(pid)) / 2**20


def _stop(pid: int) -> None:
    for process in reversed(_tree(pid)):
        process.terminate()
