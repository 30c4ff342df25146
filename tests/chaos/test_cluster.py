"""Raylets and the head of a cluster of several nodes killed while runs go on."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest

from tests.chaos.cluster import RayNodes
from tests.chaos.conftest import RUNS
from tests.chaos.harness import wait_until

pytestmark = pytest.mark.chaos


@pytest.fixture
def cluster(new_sweep):
    """Starts a cluster and a sweep on it."""
    made = []

    def start(*cpus, pace_s):
        sweep = new_sweep(pool="ray", pace_s=pace_s)
        nodes = RayNodes(*cpus)
        made.append(nodes)
        nodes.start(sweep.environment)
        sweep.words = tuple(word for word in sweep.words if "num_workers" not in word)
        sweep.where += ["--address", nodes.address]
        sweep.environment |= nodes.access
        return nodes, sweep

    yield start
    for nodes in made:
        nodes.close()


def workers_of(nodes, number):
    """The training processes of a node."""
    raylet = psutil.Process(nodes.nodes[number]["raylet"])
    return [p for p in raylet.children() if p.name().startswith("ray::RayWorker")]


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_killed_raylet_costs_its_workers_and_the_sweep_completes_by_itself(cluster, reference):
    nodes, sweep = cluster(1, 1, pace_s=0.02)
    process = sweep.launch()
    sweep.wait_for(20, process)
    sweep.pace(2)  # nothing more is finished until the loss is found out
    (lost,) = workers_of(nodes, 1)
    nodes.kill(1, "raylet")
    sweep.fault()
    psutil.wait_procs([lost], timeout=30)
    sweep.pace(0)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["committed"] == RUNS
    nodes.close()
    sweep.prove(reference)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_stopped_actor_on_another_node_is_replaced(cluster, reference):
    nodes, sweep = cluster(1, 1, pace_s=0.02)
    sweep.words = (*sweep.words, "cluster.lease_s=3")
    process = sweep.launch()
    sweep.wait_for(20, process)
    (stopped,) = workers_of(nodes, 1)
    os.kill(stopped.pid, signal.SIGSTOP)
    sweep.fault()
    psutil.wait_procs([stopped], timeout=30)
    assert not stopped.is_running()
    sweep.pace(0)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    nodes.close()
    sweep.prove(reference)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_head_ends_the_driver_with_one_message_and_resume_completes_the_sweep(cluster, reference):
    nodes, sweep = cluster(1, 1, pace_s=1)
    process = sweep.launch()
    wait_until(lambda: sweep.committed() >= 2)
    nodes.kill(0, "gcs_server")
    sweep.fault()
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert json.loads(out)["reason"] == f"the Ray cluster at {nodes.address} has not answered for 20 s"
    assert "Traceback" not in err
    assert 0 < json.loads(out)["committed"] < RUNS
    nodes.close()
    _, err = sweep.launch().communicate(timeout=60)
    assert f"--address {nodes.address}: no Ray cluster answers there" in err
    sweep.where = ["--pool", "local"]
    sweep.prove(reference)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_head_of_a_ray_of_our_own_killed_is_told_and_resume_completes_the_sweep(ray_sweep, reference):
    ray_sweep.pace(1)
    process = ray_sweep.launch()
    wait_until(lambda: ray_sweep.committed() >= 2)
    (head,) = [p for p in ray_sweep.processes() if p.name() == "gcs_server"]
    head.kill()
    ray_sweep.fault()
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert json.loads(out)["reason"] == "the Ray of this machine has not answered for 20 s"
    ray_sweep.prove(reference)
