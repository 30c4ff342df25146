"""What a trainer starts, also in a session of its own, ends with its worker and with a killed driver."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis import open_sweep
from orchestrator.pools.marked import end_marked, marked, start_guard
from tests.orchestrator.trainers import HERE

ROOT = Path(__file__).parents[3]


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def wait_until(true, seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(true())


def launch(folder: Path, pool: str, *, wait: bool) -> subprocess.Popen[bytes]:
    """A sweep whose first run starts a process in a session of its own, and kills its worker or sleeps."""
    words = ["launch", "sweep=noop", "sweep.n=3", f"trainer.target={HERE}.Littering", "cluster.num_workers=1"]
    words += [f"+trainer.params.note={folder / 'note'}", f"+trainer.params.wait={str(wait).lower()}"]
    words += ["--dir", str(folder / "out"), "--pool", pool, "--yes"]
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        start_new_session=True,
    )


def test_marked_processes_are_found_whatever_session_they_are_in_and_ended():
    mark = f"EMSWEEP_TEST={os.getpid()}"
    name, _, value = mark.partition("=")
    script = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(600)"
    subprocess.run([sys.executable, "-S", "-c", script], env={name: value}, check=True)
    assert wait_until(lambda: len(marked(mark)) == 1)
    assert marked(f"{mark}0") == []
    end_marked(mark)
    assert marked(mark) == []


def test_a_guard_ends_what_is_marked_once_the_process_that_started_it_is_killed(tmp_path):
    mark = f"EMSWEEP_TEST=guard-{os.getpid()}"
    script = f"from orchestrator.pools.marked import start_guard; start_guard({mark!r}); input()"
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, cwd=ROOT)
    sleeper = subprocess.Popen(["sleep", "600"], env=dict([mark.split("=")]), start_new_session=True)
    time.sleep(1.0)
    assert sleeper.poll() is None
    owner.kill()
    owner.wait()
    assert sleeper.wait(20) == -signal.SIGKILL


def test_a_guard_that_is_no_longer_needed_ends_nothing():
    mark = f"EMSWEEP_TEST=calm-{os.getpid()}"
    sleeper = subprocess.Popen(["sleep", "600"], env=dict([mark.split("=")]))
    guard = start_guard(mark)
    guard.kill()
    guard.wait()
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()


@pytest.mark.parametrize("pool", ["local", "ray"])
def test_what_a_trainer_started_ends_with_its_worker_while_the_sweep_goes_on(pool, tmp_path):
    driver = launch(tmp_path, pool, wait=False)
    assert driver.wait(200) == 0
    left = open_sweep(tmp_path / "out").runs()["left"]
    assert left.tolist() == [False, False, False]  # as the runs after it saw it


def test_what_a_trainer_started_ends_when_the_driver_is_killed(tmp_path):
    driver = launch(tmp_path, "local", wait=True)
    assert wait_until((tmp_path / "note").exists)
    pid = int((tmp_path / "note").read_text())
    assert alive(pid)
    driver.kill()
    driver.wait()
    assert wait_until(lambda: not alive(pid), 10)
