"""Sweeps on a Ray cluster whose autoscaler starts nodes for them, and ends those that nobody uses."""

from __future__ import annotations

import subprocess
import time

import pytest

from orchestrator.store.layout import Layout
from orchestrator.store.status import read_status
from tests.chaos.harness import Sweep, kill, wait_until

pytestmark = pytest.mark.timeout(400)

LINGERING = ("sweep=noop", "sweep.n=12", "trainer.target=tests.chaos.trainers.Lingering")
LINGERING += ("+trainer.params.duration_s=0.5", "cluster.give_back_s=2")

PACED = ("sweep=noop", "sweep.n=200", "trainer.target=tests.chaos.trainers.Paced")

TINY = ("sweep=quickstart", "model=tiny-32", "example=carry-1", "optim.lr=1e-4,2e-4", "seed=range(4)")
TINY += ("eval.limit=8", "steps=2")

GANG = ("sweep=quickstart", "model=tiny-32", "example=carry-1", "seed=range(2)", "optim.lr=1e-4")
GANG += ("eval.limit=8", "steps=2", "resources.world_size=2", "engine.zero_stage=2")

SMALL = {"small": {"CPU": 1}}

GIVEN_BACK_S = 60.0
"""Longest that a node which nobody needs may stay."""


def ended(process: subprocess.Popen[str], timeout_s: float = 120.0) -> None:
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, out + err


def prove_equal(sweep: Sweep, alone: Sweep) -> None:
    """The sweep's every number is one machine's."""
    assert sweep.verify()["ok"]
    alone.finish()
    assert sweep.numbers() == alone.numbers()


@pytest.mark.slow
@pytest.mark.parametrize("most", [2, 4])
def test_nodes_come_for_the_work_go_while_one_run_is_left_and_are_gone_once_none_is(sweeps, sweep_on, most):
    sweep, cluster = sweep_on(most, *LINGERING, types=SMALL, pace_s=1000)
    assert cluster.num_nodes == 0
    process = sweep.launch()
    wait_until(lambda: cluster.num_nodes == most or process.poll() is not None)
    status = read_status(Layout(sweep.folder))
    assert status["nodes"]["there"] + 1 >= status["workers"]
    assert status["nodes"]["workers_asked"] > 0
    sweep.wait_for(11, process)
    wait_until(lambda: cluster.num_nodes == 1, GIVEN_BACK_S)
    assert sweep.committed() == 11, "the node of the run that is left stays"
    sweep.pace(0)
    ended(process)
    wait_until(lambda: cluster.num_nodes == 0, GIVEN_BACK_S)
    prove_equal(sweep, sweeps(*LINGERING))


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_models_are_trained_to_one_machines_numbers_under_either_autoscaler(sweeps, sweep_on, version):
    sweep, cluster = sweep_on(2, *TINY, types=SMALL, version=version)
    sweep.finish()
    wait_until(lambda: cluster.num_nodes == 0, GIVEN_BACK_S)
    prove_equal(sweep, sweeps(*TINY))


@pytest.mark.slow
def test_a_gang_whose_ranks_need_two_nodes_gets_two(sweeps, sweep_on):
    sweep, cluster = sweep_on(3, *GANG, types=SMALL)
    process = sweep.launch()
    most = 0
    while process.poll() is None:
        most = max(most, cluster.num_nodes)
        time.sleep(0.2)
    ended(process)
    assert most >= 2
    wait_until(lambda: cluster.num_nodes == 0, GIVEN_BACK_S)
    prove_equal(sweep, sweeps(*GANG, "cluster.num_workers=2", pool="local"))


@pytest.mark.slow
def test_what_a_killed_driver_asked_for_is_taken_back_and_a_resume_asks_anew(sweeps, sweep_on):
    sweep, cluster = sweep_on(2, *PACED, types=SMALL, pace_s=0.5)
    process = sweep.launch()
    sweep.wait_for(4, process)
    kill(process)
    wait_until(lambda: cluster.num_nodes == 0, GIVEN_BACK_S)
    wait_until(lambda: not sweep.processes(), GIVEN_BACK_S)
    sweep.finish()
    prove_equal(sweep, sweeps(*PACED))
