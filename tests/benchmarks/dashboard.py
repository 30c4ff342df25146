"""How fast the dashboard is in a real Chromium, on synthetic sweeps of any size.

    python -m tests.benchmarks.dashboard --runs 13440 --json
    python -m tests.benchmarks.dashboard --runs 1000000 --json
    python -m tests.benchmarks.dashboard --runs 13440 --mlflow-python PYTHON_WITH_MLFLOW
    python -m tests.benchmarks.dashboard --live

A process of its own writes the sweep; the server is ``emsweep dashboard`` in another. Each time runs from the
click to the frame in which the answer is painted. No choice is made twice, so that nothing is answered from
what was computed before. ``first_paint_s`` is the first contentful paint of a page that a browser without a
cache opens, counts included; ``first_paint_cold_s`` the very first one after the server has started.
``server_mib`` is the server's peak, after every page was shown, the findings included (left out above 200,000
runs). Saving a figure as a file starts a process of 100 MiB for half a second; none is saved here.

``--live`` asks what following a live sweep costs it: beside one real sweep, an open overview and its server
are stopped and go on in turns (see :mod:`tests.benchmarks.turns`). Ten pairs of turns take 23 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from tests.benchmarks.turns import cost, family, sweep_at_work, take_turns

ROOT = Path(__file__).parents[2]

FINDINGS_UP_TO = 200_000
"""Runs up to which every finding is opened too."""

OPENINGS = 9
"""Times the overview is opened by a browser that has never seen it."""

TURN_S, PAIRS = 60.0, 10
"""Seconds of a turn of ``--live``, and pairs of turns. New results are shown about once a turn: the server's
clock goes on while it is stopped, so that it shows more of them than it would, rather than fewer.
"""

AFTER_VISIT_S = 60.0
"""How long a page has been open before its turns begin: opening it is a visit, not following."""

INCOMPLETE = "!!document.querySelector('.waiting, figure.undrawn, figure.drawing')"
"""Whether a part of the page is still to come."""

GRID_KINDS = ("sort", "filter", "group", "page")
"""Interactions that ``interaction_p50_ms`` and ``interaction_p95_ms`` are about."""

PAINTED = """(act) => new Promise((resolve) => {
  const started = performance.now();
  const painted = () => setTimeout(() => resolve(performance.now() - started), 0);
  const isOpen = (figure) => figure.matches(".undrawn, .drawing");
  const settled = () => {
    const figures = [...document.querySelectorAll("figure")].filter(isOpen);
    const look = () => requestAnimationFrame(() => figures.some(isOpen) ? look() : painted());
    look();
  };
  document.addEventListener("htmx:afterSettle", settled, {once: true});
  const element = document.querySelector(act.on);
  if (act.value === undefined) element.click();
  else { element.value = act.value; element.form.requestSubmit(); }
})"""
"""Acts on an element and returns the milliseconds until the answer is painted, its figures included."""


@contextlib.contextmanager
def served(directory: Path) -> Iterator[tuple[str, int]]:
    """A dashboard; yields its address and process id."""
    words = ["-m", "orchestrator.cli", "dashboard", str(directory), "--port", "0", "--json"]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"].rstrip("/"), process.pid
        finally:
            process.terminate()


def browser_path() -> str:
    """Where the browser is."""
    return shutil.which("chromium") or shutil.which("google-chrome") or "chromium"


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A real browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def window(url: str, profile: Path) -> Iterator[psutil.Process]:
    """A real browser that shows a page and that nobody drives: being watched costs it time."""
    words = ["--headless=new", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    silent = subprocess.DEVNULL
    with subprocess.Popen([browser_path(), *words, url], stdout=silent, stderr=silent) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def first_paint_s(browser: Any, url: str) -> float:
    """Open a page in a browser without a cache; seconds to the first contentful paint."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url, wait_until="commit")
    page.wait_for_selector("dl.tiles")
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    while (painted_ms := page.evaluate(paint)) is None:
        time.sleep(0.01)
    context.close()
    return painted_ms / 1000


def interactions(page: Any, url: str, axes: dict[str, list[str]]) -> dict[str, list[float]]:
    """Milliseconds of every interaction, by kind."""
    times: dict[str, list[float]] = {}

    def act(kind: str, on: str, value: str | None = None) -> None:
        given = {"on": on} if value is None else {"on": on, "value": value}
        times.setdefault(kind, []).append(page.evaluate(PAINTED, given))

    page.goto(f"{url}/runs")
    for column in ("gain_sampled", "accuracy_sampled", "wall_s", "model", "optim.lr", "seed"):
        for _ in range(2):
            act("sort", f"[id='sort-{column}']")
    values = list(itertools.islice(itertools.product(axes["model"], axes["example"]), 6))
    filters = [f"model={model} example={example}" for model, example in values]
    filters += [f"optim.lr>={lr}" for lr in axes["optim.lr"][:3]] + ["gain_sampled<0", "outcome=done seed<5"]
    for text in filters:
        act("filter", "#filter", text)
    act("filter", "#filter", "")
    page.goto(f"{url}/runs?sort=gain_sampled&way=down")
    for _ in range(8):
        act("page", "#page-next")
    act("page", "#page-last")
    for _ in range(3):
        act("page", "#page-back")
    for number in range(10):
        page.goto(f"{url}/runs?" + urlencode({"filter": f"seed!={number}"}))
        act("group", "#group", ("model", "example", "optim.lr", "objective.temperature")[number % 4])
    for kind, rests in (("heatmap", True), ("heatmap while the page still loads", False)):
        for number in range(10):
            asked = {"filter": f"seed!={number} seed<{15 + rests}", "x": "example", "y": "model"}
            page.goto(f"{url}/cells?{urlencode(asked)}")
            if rests:  # as people do: they look before they choose
                page.wait_for_load_state("networkidle")
            act(kind, "#x", ("optim.lr", "objective.temperature")[number % 2])
    pairs = list(itertools.permutations(axes["optim.lr"], 2))[:10]
    page.goto(f"{url}/compare")
    for number, (a, b) in enumerate(pairs):
        page.fill("#a", f"optim.lr={a}")
        act("compare", "#b", f"optim.lr={b}" + ("" if number % 2 else f" objective.temperature!={number}"))
    page.goto(f"{url}/runs?sort=gain_sampled")
    for number in range(1, 9):
        act("run", f"table.runs tbody tr:nth-child({number}) a")
        page.goto(f"{url}/runs?sort=gain_sampled")
    return times


def measure(directory: Path, num_runs: int) -> dict[str, Any]:
    """Time everything but ``--live`` and MLflow on one sweep."""
    from analysis import open_sweep

    sweep = open_sweep(directory)
    axes = {axis.key: [str(value) for value in axis.values] for axis in sweep.axes}
    with chromium() as browser, served(directory) as (url, pid):
        cold_s = first_paint_s(browser, url)
        warm_s = [first_paint_s(browser, f"{url}/?x={number}") for number in range(OPENINGS)]
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        started_s = time.perf_counter()
        page.goto(url)
        while page.evaluate(INCOMPLETE):
            time.sleep(0.02)
        overview_s = time.perf_counter() - started_s
        times = interactions(page, url, axes)
        findings_s = None
        if num_runs <= FINDINGS_UP_TO:
            started_s = time.perf_counter()
            page.goto(f"{url}/findings")
            while page.evaluate(INCOMPLETE):
                time.sleep(0.02)
            findings_s = time.perf_counter() - started_s
        server_mib = peak_mib(pid)
    grid = [ms for kind in GRID_KINDS for ms in times[kind]]
    return {
        "runs": num_runs,
        "first_paint_s": statistics.median(warm_s),
        "first_paint_p95_s": p95(warm_s),
        "first_paint_cold_s": cold_s,
        "interaction_p50_ms": statistics.median(grid),
        "interaction_p95_ms": p95(grid),
        "server_mib": server_mib,
        "overview_complete_s": overview_s,
        "findings_complete_s": findings_s,
        "by_kind": {
            kind: {"p50_ms": statistics.median(ms), "p95_ms": p95(ms), "n": len(ms)}
            for kind, ms in times.items()
        },
    }


def p95(values: list[float]) -> float:
    """95th percentile, between the two nearest values."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def peak_mib(pid: int) -> float:
    """Most memory that a process and its children have held at once, in MiB, as the kernel counts it."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    peaks_kib = []
    for process in processes:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peaks_kib.append(int(next(x for x in status.splitlines() if x.startswith("VmHWM")).split()[1]))
    return sum(peaks_kib) / 1024


def live_cost(scratch: Path, num_pairs: int) -> dict[str, Any]:
    """What an open overview takes from the rate of a real sweep on every core."""
    folder = scratch / "live"
    with sweep_at_work(folder), served(folder) as (url, pid), window(url, scratch / "profile") as browser:
        time.sleep(AFTER_VISIT_S)
        server = psutil.Process(pid)
        groups = {"server": lambda: family(server), "browser": lambda: family(browser)}
        turns = take_turns(num_pairs, TURN_S, groups)
    figures = asdict(cost(folder, turns))
    return {
        "live_cost": figures.pop("share"),
        "live_cost_standard_error": figures.pop("standard_error"),
        **figures,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=13_440)
    parser.add_argument(
        "--directory", type=Path, help="a sweep that is there already, instead of a synthetic one"
    )
    parser.add_argument("--live", action="store_true", help="what following a live sweep costs it, instead")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of turns of --live")
    parser.add_argument("--mlflow-python", type=Path, help="an interpreter that has mlflow")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.live:
            result = live_cost(Path(scratch), args.pairs)
        else:
            directory = args.directory or Path(scratch) / "sweep"
            if args.directory is None:
                lean = ["--lean", "--items", "16"] if args.runs > FINDINGS_UP_TO else []
                words = ["-m", "tests.analysis.synthetic", str(directory), "--runs", str(args.runs), *lean]
                subprocess.run([sys.executable, *words], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            result = measure(directory, args.runs)
            if args.mlflow_python is None:
                missing = "no interpreter with mlflow was named: --mlflow-python PATH"
                result |= {"mlflow": None, "mlflow_missing": missing}
            else:
                from tests.benchmarks.mlflow_ui import measure_mlflow

                result["mlflow"] = measure_mlflow(directory, args.mlflow_python, Path(scratch), chromium)
    if args.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:26} {value:.4g}" if isinstance(value, float) else f"{name:26} {value}")


if __name__ == "__main__":
    main()
