"""What a sweep knows of the job it was handed to: while it waits, while it is followed, when it fails."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request

import pytest

from tests.slurm.queued_sweep import EMSWEEP, ROOT, QueuedSweep


@pytest.fixture
def sweep(cluster, tmp_path):
    return QueuedSweep(cluster, tmp_path)


def first_page(sweep):
    """What the dashboard shows of a sweep."""
    server = subprocess.Popen(
        [*EMSWEEP, "dashboard", str(sweep.dir), "--port", "0", "--json"],
        env={**sweep.cluster.environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = json.loads(server.stdout.readline())["url"]
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read().decode()
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_sweep_that_waits_in_the_queue_says_so_is_submitted_once_and_can_be_taken_out(full, sweep):
    job = sweep.submit(2)
    told = sweep.status()
    assert (told["state"], told["total"], told["counts"]["pending"], told["next"]) == ("waiting", 4, 4, [])
    assert (told["job"]["id"], told["job"]["phase"], told["job"]["state"]) == (job, "waiting", "PENDING")
    text = sweep.call("status", sweep.dir).stdout
    assert f"waiting in Slurm (job {job}, {told['job']['reason']})" in text
    assert told["job"]["since"] == pytest.approx(time.time(), abs=60)
    assert 'data-state="waiting"' in first_page(sweep)
    again = sweep.call(*sweep.launch_words(2))
    assert again.returncode == 2
    assert f"is with Slurm (job {job}" in again.stderr
    assert sweep.json("stop", sweep.dir)["job"] == job
    assert full.job_state(job) == "CANCELLED"
    assert sweep.status()["state"] == "interrupted"


def test_a_sweep_whose_runs_are_all_cancelled_leaves_the_queue(full, sweep):
    job = sweep.submit(2)
    sweep.json("cancel", sweep.dir, "seed=0")
    assert sweep.status()["state"] == "waiting", "the other runs are still wanted"
    assert sweep.json("cancel", sweep.dir)["cancelled"] == 4
    assert full.job_state(job) == "CANCELLED"
    assert sweep.status()["state"] == "finished"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_launch_that_is_followed_shows_progress_and_ends_as_one_on_this_machine_would(sweep):
    done = sweep.call(*sweep.launch_words(1), "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0/4 done" in done.stderr
    assert "1e-4" in done.stdout or "0.0001" in done.stdout
    assert sweep.status()["state"] == "finished"


@pytest.mark.slow
def test_a_job_that_failed_is_told_with_its_last_lines(sweep):
    done = sweep.call(*sweep.launch_words(1, setup="echo no such module; exit 3"), "--follow", "--json")
    assert done.returncode == 1
    assert "no such module" in done.stderr
    assert json.loads(done.stdout)["committed"] == 0
    told = sweep.status()
    assert told["state"] == "interrupted"
    assert told["job"]["state"] == "FAILED"
    assert any("no such module" in finding for finding in told["findings"])
