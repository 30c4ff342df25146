"""A real Chromium on real dashboards: each served by ``emsweep dashboard`` in a process of its own.

Every page is watched: a message on the console, an error in a script, or a request to anywhere but the
dashboard fails the test. Screenshots are left in ``tests/browser/screenshots``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.synthetic import grid_world, write_sweep
from tests.browser.hostile import ROLLOUTS

ROOT = Path(__file__).parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
INSTALL = (
    "apt-get install chromium && .venv/bin/python -m pip install --constraint constraints.txt playwright"
)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    """The browser; skips with the line that installs it where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip(f"playwright is not installed: {INSTALL}")
    if CHROMIUM is None:
        pytest.skip(f"Chromium is not installed: {INSTALL}")
    SCREENSHOTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def served(directory: Path, *words: str) -> Iterator[dict]:
    """A dashboard of a directory; yields its ``url`` and ``token``."""
    command = [sys.executable, "-m", "orchestrator.cli", "dashboard", str(directory), "--port", "0", "--json"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory):
    """The real quickstart sweep, with half of its seeds, four steps, judged on a tenth of the problems."""
    folder = tmp_path_factory.mktemp("real") / "quickstart"
    command = [
        sys.executable,
        "-m",
        "orchestrator.cli",
        "launch",
        "sweep=quickstart",
        "seed=0,1",
        "steps=4",
        "eval.limit=50",
        "--yes",
        "--pool",
        "local",
        "--dir",
        str(folder),
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    return folder


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """13,440 synthetic runs of which some failed, diverged or have not run; one has hostile rollouts."""
    world = grid_world(failed=0.01, diverged=0.02, pending=0.03, rollouts=True)
    folder = write_sweep(tmp_path_factory.mktemp("synthetic") / "study", world)
    path = folder / "rollouts.parquet"
    rollouts = pd.read_parquet(path)
    first = rollouts.iloc[[0] * len(ROLLOUTS)].assign(text=list(ROLLOUTS.values()), count=1, step=0)
    pd.concat([first, rollouts], ignore_index=True).to_parquet(path, index=False)
    return folder


@pytest.fixture(scope="session")
def quickstart_url(chromium, quickstart):
    with served(quickstart) as server:
        yield server["url"].rstrip("/")


@pytest.fixture(scope="session")
def study_url(chromium, study):
    with served(study) as server:
        yield server["url"].rstrip("/")


class Watched:
    """What went on in a browser while a test ran."""

    def __init__(self, context, expected):
        self.expected = expected
        self.complaints: list[str] = []
        self.requests: list[str] = []
        context.on("console", lambda message: self._said(message))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("dialog", lambda dialog: self._dialog(dialog))
        context.on("request", lambda request: self.requests.append(request.url))

    def _said(self, message):
        refused = "status of 4" in message.text  # what tests of bad input ask for
        expected = any(words in message.text for words in self.expected)
        if message.type in ("error", "warning") and not refused and not expected:
            self.complaints.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog):
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture
def open_page(chromium):
    """Open pages of a size; at the end nothing may have been complained of, or asked of anyone else."""
    contexts = []

    def open_one(*, width=1280, height=900, expect=(), **options):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, **options
        )
        context.set_default_timeout(20_000)
        contexts.append((context, Watched(context, expect)))
        return context.new_page()

    yield open_one
    for context, watched in contexts:
        context.close()
        assert not watched.complaints
        assert all(url.startswith(("http://127.0.0.1:", "blob:", "data:")) for url in watched.requests)


def settled(page, url):
    """Go to a page and wait until every part of it is there."""
    page.goto(url)
    until(page, "!document.querySelector('.waiting, figure.undrawn, figure.drawing')", timeout_s=60.0)
    page.wait_for_load_state("networkidle")


def until(page, expression, timeout_s=20.0):
    """Wait until an expression holds; Playwright's own way would need the page to allow ``eval``."""
    deadline_s = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < deadline_s, expression
        time.sleep(0.05)
