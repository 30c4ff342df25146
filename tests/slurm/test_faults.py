"""What befalls jobs on a real Slurm: nothing is lost, nothing is done twice, and no number changes."""

from __future__ import annotations

import pytest

from tests.slurm.queued_sweep import LONG, QueuedSweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@pytest.fixture
def mended(cluster):
    """The cluster, whose nodes are all back afterwards."""
    yield cluster
    cluster.mend()


def test_a_job_that_waited_runs_once_there_is_room(full, sweep, expected):
    job = sweep.submit(2)
    assert sweep.status()["state"] == "waiting"
    full.free()
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)


def test_notice_before_the_limit_drains_and_the_job_queues_itself_again(cluster, sweep, expected):
    job = sweep.submit(2)
    sweep.wait_for_results(4)
    cluster.call("scancel", "--signal=USR1", "--batch", job)
    told = sweep.wait(lambda status: status["state"] == "waiting")
    assert told["job"]["id"] == job
    done_before = told["counts"]["done"]
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert 4 <= done_before < len(expected)
    assert sweep.verified().equals(expected)


def test_a_job_that_an_operator_queues_again_goes_on(cluster, sweep, expected):
    job = sweep.submit(2)
    sweep.wait_for_results(4)
    cluster.call("scontrol", "requeue", job)
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)


def test_a_cancelled_job_says_so_and_the_same_launch_finishes_it(cluster, sweep, expected):
    job = sweep.submit(1)
    sweep.wait_for_results(4)
    cluster.call("scancel", job)
    assert sweep.wait_for_end(job) == ["CANCELLED"]
    told = sweep.wait(lambda status: status["state"] == "interrupted")
    assert "CANCELLED" in "\n".join(told["findings"])
    again = sweep.submit(1)
    assert sweep.wait_for_end(again) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)


def test_a_time_limit_without_notice_loses_nothing_that_was_done(cluster, tmp_path, expected):
    sweep = QueuedSweep(cluster, tmp_path, (*LONG, "seed=range(192)"))  # outlasts the shortest limit there is
    job = sweep.submit(1, "cluster.notice_s=0", setup="sleep 30")
    sweep.wait_for_results(4)
    cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    assert sweep.wait_for_end(job) == ["TIMEOUT"], sweep.logs()
    told = sweep.wait(lambda status: status["state"] == "interrupted")
    assert told["counts"]["done"] >= 4
    assert "TimeLimit" in "\n".join(told["findings"])
    again = sweep.submit(2)
    assert sweep.wait_for_end(again) == ["COMPLETED"], sweep.logs()
    found = sweep.verified()
    of_others = found[found["seed"] < 32].reset_index(drop=True)
    assert of_others.equals(expected)


def test_a_job_whose_node_is_set_down_begins_again_when_it_is_back(mended, sweep, expected):
    job = sweep.submit(3)
    sweep.wait_for_results(4)
    mended.call("scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=test")
    sweep.wait(lambda status: status["state"] == "waiting")
    mended.bring_back("n3")
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)


def test_a_job_that_loses_a_worker_node_begins_again(mended, sweep, expected):
    job = sweep.submit(2)
    sweep.wait_for_results(4)
    mended.stop_node(mended.nodes_of(job)[-1])
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)


def test_when_the_heads_node_vanishes_the_job_begins_again_elsewhere(mended, sweep, expected):
    job = sweep.submit(2)
    sweep.wait_for_results(4)
    lost = mended.nodes_of(job)[0]
    mended.stop_node(lost)
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)
