"""Scripts that are not ours as they are, through the command line, and what faults do to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import open_sweep
from tests.integration.test_own_code import EMSWEEP, ROOT, emsweep
from tests.orchestrator.pools.test_marked import alive, wait_until

EXAMPLES = ROOT / "tests" / "examples"

TRAIN = """
import argparse, os, subprocess, sys, time
from pathlib import Path
from emsweep import report

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--seed", type=int)
parser.add_argument("--mode")
arguments = parser.parse_args()
here = Path(__file__).parent
if arguments.mode == "wait" and not (here / "go").exists():
    process = subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
    (here / f"{arguments.seed}.new").write_text(f"{os.getpid()} {process.pid}")
    (here / f"{arguments.seed}.new").rename(here / f"{arguments.seed}.pids")
    time.sleep(600)
if arguments.mode == "fail" and arguments.seed == 1:
    raise ValueError("one does not please me")
for step in range(3):
    report(step, loss=arguments.lr / (step + 1))
Path("model.txt").write_text("weights")
"""
SWEEP = """# @package _global_
defaults: [{override /trainer: command}, {override /example: text}, {override /eval: none}]
trainer:
  command: [python, train.py, --lr, "{optim.lr}", --seed, "{seed}", --mode, "{trainer.params.mode}"]
  params: {mode: plain}
sweep: {axes: {optim.lr: [0.5, 1.0], seed: range(2)}}
"""
LAUNCH = ("launch", "sweep=project/sweep.yaml", "--dir", "out", "--pool", "local", "--yes")
ALLOWED = (*LAUNCH, "--allow-target", "train.py")


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "sweep.yaml").write_text(SWEEP)
    return folder


def started(tmp_path: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*EMSWEEP, *words], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)


def pids_of(project: Path, seed: int) -> list[int]:
    """Pids of a waiting script and of the process that it started in a session of its own."""
    note = project / f"{seed}.pids"
    assert wait_until(note.exists)
    return [int(pid) for pid in note.read_text().split()]


def test_the_example_of_a_command_runs_in_a_checkout_without_a_word(tmp_path):
    words = ("launch", f"sweep={EXAMPLES / 'command.yaml'}", "--dir", "out", "--pool", "local", "--json")
    answer = json.loads(emsweep(tmp_path, *words))
    assert (answer["expected"], answer["committed"], answer["failed"]) == (12, 12, 0)
    assert emsweep(tmp_path, "table", "out").startswith("loss by optim.lr")
    assert len(open_sweep(tmp_path / "out").steps()) == 12 * 20


def test_the_example_of_a_function_gives_the_numbers_of_the_script(tmp_path):
    words = ("launch", f"sweep={EXAMPLES / 'function.yaml'}", "--dir", "out", "--pool", "inline")
    emsweep(tmp_path, *words, "--allow-target", "function_train")
    by_function = open_sweep(tmp_path / "out").runs().set_index(["trainer.params.lr", "seed"])["loss"]
    script = [sys.executable, EXAMPLES / "command_train.py", "--lr", "0.1", "--seed", "2"]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split()
    assert by_function[0.1, 2] == pytest.approx(float(printed[-1]), abs=1e-6)


def test_a_script_needs_a_word_reports_and_keeps_what_it_saved(project, tmp_path):
    assert "--allow-target train.py" in emsweep(tmp_path, *LAUNCH, code=2)
    assert json.loads(emsweep(tmp_path, *ALLOWED, "--json"))["committed"] == 4
    sweep = open_sweep(tmp_path / "out")
    assert sorted(sweep.runs()["loss"]) == [0.5 / 3, 0.5 / 3, 1 / 3, 1 / 3]
    assert len(sweep.steps()) == 12
    run_id = sweep.runs()["run_id"].iloc[0]
    assert (tmp_path / "out" / "work" / run_id / "attempt_0" / "model.txt").read_text() == "weights"
    assert json.loads(emsweep(tmp_path, "verify", "out", "--json"))["ok"]


def test_a_failing_script_is_told_by_its_own_last_line_and_logged_with_its_command(project, tmp_path):
    told = emsweep(tmp_path, *ALLOWED, "trainer.params.mode=fail", code=1)
    assert "exit status 1: ValueError: one does not please me" in told
    runs = open_sweep(tmp_path / "out").runs()
    assert set(runs["outcome"]) == {"done", "quarantined"} or set(runs["outcome"]) == {"done", "failed"}
    run_id = runs[runs["seed"] == 1]["run_id"].iloc[0]
    log = emsweep(tmp_path, "log", "out", "--run", run_id)
    assert f"{project / 'train.py'} --lr" in log
    assert "ValueError: one does not please me" in log


@pytest.mark.slow
def test_an_edited_script_never_passes_off_old_results_as_its_own(project, tmp_path):
    emsweep(tmp_path, *ALLOWED, "trainer.params.mode=fail", code=1)
    (project / "train.py").write_text(TRAIN.replace("arguments.lr /", "-arguments.lr /"))
    assert "train.py has changed since" in emsweep(tmp_path, "rerun", "out", "--failed", code=2)
    change = "train.py has changed since the last launch: 4 runs of the earlier file stay on disk, 4 to run"
    assert change in emsweep(
        tmp_path, "plan", "sweep=project/sweep.yaml", "--dir", "out", "trainer.params.mode=fail"
    )
    emsweep(tmp_path, *ALLOWED, "trainer.params.mode=fail", code=1)
    assert set(open_sweep(tmp_path / "out").runs()["loss"].dropna()) == {-0.5 / 3, -1 / 3}


def test_kill_9_of_the_driver_ends_scripts_and_what_they_started_and_resume_finishes(project, tmp_path):
    driver = started(tmp_path, *ALLOWED, "trainer.params.mode=wait", "cluster.num_workers=1")
    pids = pids_of(project, 0)
    assert all(map(alive, pids))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert wait_until(lambda: not any(map(alive, pids)), 10)
    (project / "go").touch()
    assert json.loads(emsweep(tmp_path, "resume", "out", "--json"))["failed"] == 0
    assert json.loads(emsweep(tmp_path, "verify", "out", "--json"))["committed"] == 4


@pytest.mark.slow
def test_a_script_over_its_time_is_ended_with_what_it_started(project, tmp_path):
    words = ("trainer.params.mode=wait", "resources.timeout_s=2", "cluster.num_workers=2", "optim.lr=0.5")
    emsweep(tmp_path, *ALLOWED, *words, "cluster.retries.timeout=0", code=1)
    assert not any(map(alive, [*pids_of(project, 0), *pids_of(project, 1)]))
    assert open_sweep(tmp_path / "out").runs()["error"].str.contains("2 s").all()


def test_a_cancelled_sweep_ends_the_scripts_that_run(project, tmp_path):
    driver = started(tmp_path, *ALLOWED, "trainer.params.mode=wait", "cluster.num_workers=1")
    pids = pids_of(project, 0)
    emsweep(tmp_path, "cancel", "out")
    driver.wait(60)
    assert wait_until(lambda: not any(map(alive, pids)), 5)
