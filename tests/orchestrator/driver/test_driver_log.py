"""The driver's own log: what it decided, with the time, bounded."""

from __future__ import annotations

import json
import time

from orchestrator.cli import main
from orchestrator.driver.driver_log import DriverLog
from orchestrator.store.layout import Layout
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE


def test_what_a_driver_decided_is_in_its_log_and_shown_by_the_verb(tmp_path, capsys):
    began_s = time.time()
    run(tmp_path, noop_manifest(4, target=f"{HERE}.Faulty", every=2))
    text = Layout(tmp_path).driver_log(1).read_text()
    assert "driver 1 begins: 4 of 4 runs are open" in text
    assert "failed on e1-w1: error: ArithmeticError: seed 0 does not please me" in text
    assert "is over: quarantined" in text
    assert main(["log", str(tmp_path)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    decisions = [r for r in records if r["event"] == "decision"]
    assert len(decisions) == len(text.splitlines())
    assert all(began_s - 1 <= r["at"] <= time.time() for r in decisions)
    assert [r["at"] for r in records if r["at"]] == sorted(r["at"] for r in records if r["at"])


def test_each_life_has_a_log_of_its_own(tmp_path):
    run(tmp_path, noop_manifest(2))
    run(tmp_path, noop_manifest(4))
    assert "2 of 4 runs are open" in Layout(tmp_path).driver_log(2).read_text()


def test_a_log_that_is_full_keeps_the_newest_lines_and_stays_bounded(tmp_path):
    log = DriverLog(Layout(tmp_path), 1, max_bytes=1_000)
    for number in range(500):
        log.write(f"line {number}")
    log.close()
    files = sorted((tmp_path / "logs").iterdir())
    assert [p.name for p in files] == ["driver-00001.log", "driver-00001.old.log"]
    assert all(p.stat().st_size <= 1_000 for p in files)
    lines = (files[1].read_text() + files[0].read_text()).splitlines()
    assert lines[-1].endswith("line 499")
    numbers = [int(line.rpartition(" ")[2]) for line in lines]
    assert numbers == list(range(numbers[0], 500))


def test_a_line_stays_one_line_whatever_an_exception_says(tmp_path):
    log = DriverLog(Layout(tmp_path), 1)
    log.write("first\nsecond \x1b[31mred")
    log.close()
    (line,) = Layout(tmp_path).driver_log(1).read_text().splitlines()
    assert line.endswith("first second  [31mred")
