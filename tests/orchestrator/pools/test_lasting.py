"""A pool that outlives its drivers: warm processes, stored results, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.driver.session import Session
from orchestrator.planning.cluster import Cluster
from orchestrator.pools.lasting import LastingPool
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.store.layout import Layout
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from tests.orchestrator.sweeping import noop_manifest
from tests.orchestrator.trainers import HERE


def driven(folder, manifest, pool):
    """A driver's whole life, with the workers of ``pool``."""
    layout = Layout(folder)
    permission = permit(layout, manifest, consent_of(manifest.overrides, launched=True))
    with Session(layout, permission) as session:
        session.freeze(manifest, pool="local", address=None)
        cluster = Cluster(pool="local", settings=SchedulerConfig())
        return session.run(manifest, cluster, session.read(manifest), quiet=True, pool=lambda: pool)


def numbers(folder):
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "runs.parquet").to_pylist()
    return [row["nth"] for row in sorted(rows, key=lambda row: row["finished_at"])]


@pytest.fixture
def pool():
    pool = LastingPool(1)
    yield pool
    pool.end()


def test_a_second_driver_finds_the_process_and_its_trainer_warm(tmp_path, pool):
    for batch in (1, 2, 3):
        manifest = noop_manifest(2 * batch, target=f"{HERE}.Bare")
        assert driven(tmp_path, manifest, pool).committed == 2 * batch
    assert numbers(tmp_path) == [1, 2, 3, 4, 5, 6]
    logs = sorted(path.name for path in Layout(tmp_path).worker_logs.iterdir())
    assert logs == ["e1-w1.log", "e2-w1.log", "e3-w1.log"]


def test_each_driver_has_what_was_printed_for_it_in_its_own_log(tmp_path, pool):
    driven(tmp_path, noop_manifest(1, target=f"{HERE}.Talkative"), pool)
    driven(tmp_path, noop_manifest(2, target=f"{HERE}.Talkative"), pool)
    first, second = (Layout(tmp_path).worker_logs / f"e{n}-w1.log" for n in (1, 2))
    assert "print of 0" in first.read_text()
    assert "print of 1" not in first.read_text()
    assert "echo of 1" in second.read_text()


def test_a_process_that_dies_while_it_waits_is_replaced(tmp_path, pool):
    driven(tmp_path, noop_manifest(1, target=f"{HERE}.Bare"), pool)
    [worker] = pool._parked
    os.kill(worker.ranks[0].process.pid, signal.SIGKILL)
    worker.ranks[0].process.wait()
    assert driven(tmp_path, noop_manifest(3, target=f"{HERE}.Bare"), pool).committed == 3
    assert numbers(tmp_path) == [1, 1, 2]


def test_the_end_leaves_no_process_and_no_folder(tmp_path):
    pool = LastingPool(2)
    driven(tmp_path, noop_manifest(8, target=f"{HERE}.Bare"), pool)
    pids, folder = [worker.ranks[0].process.pid for worker in pool._parked], pool._folder.path
    assert pids
    assert folder.exists()
    pool.end()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not folder.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.orchestrator.pools.test_lasting import driven
from orchestrator.pools.lasting import LastingPool
from tests.orchestrator.sweeping import noop_manifest
pool = LastingPool(1)
driven(Path(sys.argv[1]), noop_manifest(1), pool)
print(pool._parked[0].ranks[0].process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_program_takes_its_waiting_workers_with_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "s")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, until_s = int(done.stdout), time.monotonic() + 10
    while _lives(pid) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not _lives(pid)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
