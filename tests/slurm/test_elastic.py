"""Sweeps whose nodes come and go one by one, on a real Slurm."""

from __future__ import annotations

import pytest

from tests.slurm.queued_sweep import SMALL, QueuedSweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


def states(cluster, job):
    """States of the jobs of an array, those that have not begun included."""
    return cluster.call("squeue", "--noheader", "--array", "--jobs", job, "--format=%T").split()


def test_nodes_that_start_late_are_used_and_all_is_given_back_at_the_end(cluster, sweep, expected):
    words = ("--parsable", "--ntasks=5", "--mem-per-cpu=100", "--output=/dev/null", "--wrap=sleep 900")
    blocker = cluster.call("sbatch", *words).strip()
    try:
        job = sweep.submit(2, elastic=True)
        told = sweep.wait(lambda status: status["state"] == "running")
        assert told["workers"] == 0
        assert (told["nodes"]["there"], told["nodes"]["asked"]) == (0, 2)
        assert "0 of 2 nodes there" in sweep.call("status", sweep.dir).stdout
        assert states(cluster, sweep.nodes_job) == ["PENDING", "PENDING"]
    finally:
        cluster.call("scancel", blocker)
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)
    cluster.wait_for("idle", seconds=30)
    assert states(cluster, sweep.nodes_job) == []


def test_a_node_that_is_preempted_leaves_with_notice_and_comes_back(cluster, sweep, expected):
    job = sweep.submit(2, elastic=True)
    sweep.wait_for_results(4)
    cluster.call("scancel", "--signal=USR1", "--batch", f"{sweep.nodes_job}_1")
    sweep.wait(lambda _: "PENDING" in states(cluster, sweep.nodes_job))
    cluster.begin_now(f"{sweep.nodes_job}_1")
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)
    log = "".join(path.read_text() for path in (sweep.dir / "logs").glob("driver-*.log"))
    assert "its machine will be taken away" in log
    assert "failed on" not in log, "no run is charged for a node that left with notice"


def test_a_node_that_vanishes_takes_only_what_it_was_at(cluster, sweep, expected):
    job = sweep.submit(2, elastic=True)
    sweep.wait_for_results(4)
    cluster.call("scancel", "--signal=KILL", "--full", f"{sweep.nodes_job}_2")
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)


def test_a_driver_that_begins_again_on_another_node_finds_the_nodes_that_live(cluster, sweep, expected):
    job = sweep.submit(2, elastic=True)
    sweep.wait_for_results(4)
    (host,) = cluster.nodes_of(job)
    cluster.call("scontrol", "update", f"NodeName={host}", "State=DRAIN", "Reason=test")
    try:
        cluster.call("scontrol", "requeue", job)
        sweep.wait(lambda _: cluster.job_state(job) != "RUNNING")
        assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    finally:
        cluster.call("scontrol", "update", f"NodeName={host}", "State=RESUME")
    assert sweep.verified().equals(expected)
    cluster.wait_for("idle", seconds=60)
    assert "the sweep's Ray has moved" in sweep.logs()
    assert "left: over; joined" in sweep.logs()


def test_no_more_nodes_are_asked_for_than_there_is_work(cluster, tmp_path):
    sweep = QueuedSweep(cluster, tmp_path, (*SMALL, "seed=0"))
    job = sweep.submit(3, elastic=True, cpus_per_node=1)
    assert len(states(cluster, sweep.nodes_job)) == 2
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    sweep.verified()


def test_stop_takes_the_driver_and_the_nodes_out_of_the_queue(full, sweep):
    job = sweep.submit(2, elastic=True)
    assert sweep.json("stop", sweep.dir)["job"] == job
    assert full.job_state(job) == "CANCELLED"
    assert states(full, sweep.nodes_job) == []
