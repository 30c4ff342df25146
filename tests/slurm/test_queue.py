"""What a sweep knows of the job it was handed to: while it waits, while it is followed, when it fails."""

from __future__ import annotations

import json

import pytest

from tests.slurm.test_launch import called, emsweep, launch_words, submitted


@pytest.fixture
def full(cluster):
    """A cluster whose nodes are taken by somebody else."""
    job = cluster.call(
        "sbatch", "--parsable", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"
    )
    yield cluster
    cluster.call("scancel", job.strip())
    cluster.wait_for("idle", seconds=30)


def test_a_sweep_that_waits_in_the_queue_says_so_is_submitted_once_and_can_be_taken_out(full, tmp_path):
    job = submitted(full, tmp_path, 2)
    told = emsweep(full, tmp_path, "status", tmp_path / "out")
    assert (told["state"], told["total"], told["counts"]["pending"], told["next"]) == ("waiting", 4, 4, [])
    assert (told["job"]["id"], told["job"]["phase"], told["job"]["state"]) == (job, "waiting", "PENDING")
    text = called(full, tmp_path, "status", tmp_path / "out").stdout
    assert f"waiting in Slurm (job {job}, {told['job']['reason']})" in text
    again = called(full, tmp_path, *launch_words(tmp_path, 2))
    assert again.returncode == 2
    assert f"is with Slurm (job {job}" in again.stderr
    assert emsweep(full, tmp_path, "stop", tmp_path / "out")["job"] == job
    assert full.wait_for_job(job, seconds=30) == "CANCELLED"
    assert emsweep(full, tmp_path, "status", tmp_path / "out")["state"] == "interrupted"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_launch_that_is_followed_shows_progress_and_ends_as_one_on_this_machine_would(cluster, tmp_path):
    done = called(cluster, tmp_path, *launch_words(tmp_path, 1), "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0/4 done" in done.stderr
    assert "lr=1e-4" in done.stdout or "1e-4" in done.stdout
    assert emsweep(cluster, tmp_path, "status", tmp_path / "out")["state"] == "finished"


@pytest.mark.slow
def test_a_job_that_failed_is_told_with_its_last_lines(cluster, tmp_path):
    words = launch_words(tmp_path, 1, setup="echo no such module; exit 3")
    done = called(cluster, tmp_path, *words, "--follow", "--json")
    assert done.returncode == 1
    assert "no such module" in done.stderr
    assert json.loads(done.stdout)["committed"] == 0
    told = emsweep(cluster, tmp_path, "status", tmp_path / "out")
    assert told["state"] == "interrupted"
    assert told["job"]["state"] == "FAILED"
    assert any("no such module" in finding for finding in told["findings"])
