from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest

from tests.browser.conftest import ROOT, SCREENSHOTS, served, settled, until


def test_other_addresses_ask_for_the_token_and_keep_it_out_of_every_address(open_page, quickstart):
    with served(quickstart, "--host", "0.0.0.0") as server:
        url = server["url"].replace("0.0.0.0", "127.0.0.1")
        page = open_page()
        visited = []
        page.on("request", lambda request: visited.append(request.url))
        page.goto(url)
        assert page.url.endswith("/login")
        page.screenshot(path=SCREENSHOTS / "login.png")
        page.fill("#token", "wrong")
        page.click("text=Open")
        page.wait_for_selector("[role=alert]")
        page.fill("#token", server["token"])
        page.click("text=Open")
        page.wait_for_selector("a >> text=48 done")
        assert not any(server["token"] in address for address in visited)
        assert "emsweep" not in page.evaluate("document.cookie")
        page.close()


def test_a_live_sweep_is_followed_without_a_reload(open_page, tmp_path):
    folder = tmp_path / "live"
    words = ["sweep=noop", "sweep.n=400", "+trainer.params.duration_s=0.05", "+trainer.params.steps=3"]
    command = [sys.executable, "-m", "orchestrator.cli", "launch", *words, "--yes", "--pool", "local"]
    with subprocess.Popen([*command, "--dir", str(folder)], cwd=ROOT, stderr=subprocess.DEVNULL) as sweep:
        try:
            deadline_s = time.monotonic() + 60
            while not (folder / "status.json").exists():
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
            with served(folder) as server:
                page = open_page()
                page.goto(server["url"])
                page.wait_for_selector(".strip[data-state=running]")
                page.wait_for_selector(".coverage rect.running")
                page.screenshot(path=SCREENSHOTS / "live.png")
                page.evaluate("window.stayed = true")
                first = results(page)
                until(page, f"({RESULTS}) > {first}")
                assert sweep.wait(timeout=60) == 0  # the sweep ends as if nobody had looked
                page.wait_for_selector(".strip[data-state=finished]")
                until(page, f"({RESULTS}) == 400")
                assert page.evaluate("window.stayed")
                page.close()
        finally:
            sweep.kill()
    status = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "verify", str(folder), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert json.loads(status.stdout)["ok"]


RESULTS = "Number(document.querySelector('.tiles dd').firstChild.textContent.replaceAll(',', ''))"


def results(page):
    return page.evaluate(RESULTS)


def test_a_directory_that_disappears_and_returns(open_page, study, tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    for name in ("sweep.yaml", "manifest.parquet", "runs.parquet"):
        shutil.copy(study / name, folder / name)
    with served(folder) as server:
        page = open_page(expect=["status of 503"])
        settled(page, server["url"] + "runs")
        folder.rename(tmp_path / "away")
        time.sleep(0.6)
        page.click("#sort-gain_sampled")
        page.wait_for_selector("text=does not exist")
        (tmp_path / "away").rename(folder)
        page.reload()
        page.wait_for_selector("table.runs")
        page.close()


@pytest.mark.parametrize("words", [["--port", "99999"], ["--host", "203.0.113.7"]])
def test_an_address_that_cannot_be_had_ends_with_a_message(quickstart, words):
    command = [sys.executable, "-m", "orchestrator.cli", "dashboard", str(quickstart), *words]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --")
    assert "Traceback" not in ended.stderr
