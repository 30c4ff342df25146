"""Virtual sweeps against bounds that can be worked out by hand."""

from __future__ import annotations

import pytest

from orchestrator.scheduling.backlog import Group, Workload
from orchestrator.scheduling.cluster_model import ClusterModel, parse_cluster
from orchestrator.scheduling.events import Shape
from orchestrator.scheduling.simulate import simulate
from sweeps.spec.errors import UserError


def workload(num, gpus=1.0, world_size=1):
    group = Group(shape=Shape(gpus=gpus, world_size=world_size), affinity="m")
    return Workload(groups=[group], group_of=[0] * num)


def test_equal_runs_on_a_whole_cluster_take_exactly_their_rounds():
    cluster = ClusterModel(gpus=16, start_s=30)
    outcome = simulate(workload(160), lambda _: 600.0, cluster)
    assert outcome.runs == 160
    # The canary holds the others back for half a minute; then ten rounds, the first one shared with it.
    assert outcome.makespan_s <= 30 + 600 * 10 + 600
    assert outcome.lower_bound_s == 30 + 6000


def test_a_large_sweep_comes_within_5_percent_of_the_lower_bound():
    outcome = simulate(workload(20_000), lambda _: 600.0, ClusterModel(gpus=256))
    assert outcome.overhead < 1.05
    assert outcome.utilisation > 0.95


def test_failing_nodes_cost_retries_but_no_run():
    cluster = ClusterModel(gpus=64, mtbf_h=20, preempt_h=20)
    outcome = simulate(workload(4_000), lambda _: 900.0, cluster)
    assert outcome.runs == 4_000
    assert outcome.node_failures > 10
    assert outcome.retries >= outcome.node_failures
    assert outcome.lost_gpu_h > 0


def test_nodes_that_are_lost_while_their_workers_start_do_not_end_the_sweep():
    cluster = ClusterModel(gpus=64, gpus_per_node=16, preempt_h=1, repair_min=1, start_s=120)
    outcome = simulate(workload(3_000), lambda _: 300.0, cluster)
    assert (outcome.runs, outcome.stopped) == (3_000, "")


def test_a_sweep_that_gives_up_says_why():
    cluster = ClusterModel(gpus=8, mtbf_h=0.001, start_s=600)
    outcome = simulate(workload(100), lambda _: 900.0, cluster)
    assert outcome.runs < 100
    assert "while starting" in outcome.stopped


def test_gangs_take_all_their_gpus_or_none():
    outcome = simulate(workload(100, world_size=2), lambda _: 100.0, ClusterModel(gpus=9, gpus_per_node=3))
    assert outcome.runs == 100
    assert outcome.makespan_s >= 100 * 100 / 4, "nine GPUs hold four gangs of two"


def test_fractions_share_a_gpu():
    half = simulate(workload(200, gpus=0.5), lambda _: 100.0, ClusterModel(gpus=4))
    whole = simulate(workload(200, gpus=1.0), lambda _: 100.0, ClusterModel(gpus=4))
    assert half.makespan_s < 0.6 * whole.makespan_s


def test_the_same_seed_gives_the_same_story():
    cluster = ClusterModel(gpus=32, mtbf_h=10, spread=0.5)
    assert simulate(workload(500), lambda _: 60.0, cluster) == simulate(
        workload(500), lambda _: 60.0, cluster
    )


def test_a_cluster_is_read_from_one_line():
    assert parse_cluster("gpus=1024,mtbf_h=500") == ClusterModel(gpus=1024, mtbf_h=500.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu=8", 'unknown name .gpu. .did you mean "gpus"'),
        ("gpus=many", "'many' is no number"),
        ("gpus=0", "must be above 0"),
        ("start_s=-1", "must be at least 0"),
    ],
)
def test_a_wrong_cluster_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_cluster(text)
