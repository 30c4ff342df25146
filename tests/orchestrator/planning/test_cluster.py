"""What may be asked of a cluster, and what is refused before anything starts."""

from __future__ import annotations

import pytest

from orchestrator.planning.cluster import cluster_of, pool_factory, require_capacity
from orchestrator.scheduling.events import Capacity, Node
from sweeps.spec import SpecError
from sweeps.spec.errors import UserError
from tests.orchestrator.sweeping import noop_manifest


def asked(*words: str):
    return cluster_of(noop_manifest(2, *words).options)


def test_the_shipped_options_are_the_defaults_of_the_settings():
    cluster, bare = asked(), cluster_of({})
    assert cluster == bare


def test_what_is_asked_reaches_the_scheduler():
    words = ["cluster.watchdog_s=5", "cluster.retries.oom=7", "cluster.max_gpus=2.5", "cluster.num_workers=3"]
    cluster = asked(*words, "cluster.node_spools=scratch")
    assert (cluster.settings.watchdog_s, cluster.settings.policy.oom) == (5, 7)
    assert (cluster.settings.max_gpus, cluster.num_workers, cluster.node_spools) == (2.5, 3, "scratch")


def test_the_command_line_wins():
    cluster = cluster_of(noop_manifest(2, "cluster=ray_address").options, pool="local", address="auto")
    assert (cluster.pool, cluster.address) == ("local", "auto")


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("num_workers=0", "a whole number of at least 1"),
        ("num_workers=1.5", "a whole number of at least 1"),
        ("threads_per_worker=-1", "a whole number of at least 1"),
        ("watchdog_s=fast", "a number of at least 0"),
        ("lease_s=1", "a number of at least 2"),
        ("max_gpus=-1", "a number of at least 0"),
        ("retries.oom=-1", "a whole number of at least 0"),
        ("pool=rai", "did you mean 'ray'"),
    ],
)
def test_a_bad_option_is_refused_with_its_rule(word, rule):
    with pytest.raises(UserError) as refusal:
        asked(f"cluster.{word}")
    assert rule in str(refusal.value).replace('"', "'")


def test_a_run_that_could_never_start_is_refused():
    gang = noop_manifest(2, "resources.world_size=4", "resources.gpus_per_worker=1")
    require_capacity(gang, Capacity(slots=4, gpus=4))
    with pytest.raises(UserError, match="4 x 1 GPUs, the cluster has 3"):
        require_capacity(gang, Capacity(slots=4, gpus=3))
    with pytest.raises(UserError, match="room for 3 processes"):
        require_capacity(gang, Capacity(slots=3, gpus=4))
    with pytest.raises(UserError, match="max_gpus=2: a run takes 4 GPUs and could never start"):
        require_capacity(gang, Capacity(slots=4, gpus=4), max_gpus=2)


def test_ranks_of_a_gang_do_not_share_a_gpu():
    gang = noop_manifest(2, "resources.world_size=2", "resources.gpus_per_worker=0.5")
    with pytest.raises(UserError, match="ranks of a gang cannot share a GPU"):
        require_capacity(gang, Capacity(slots=4, gpus=4))


def test_gpus_that_are_not_here_are_refused_before_a_pool_starts(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    manifest = noop_manifest(2, "resources.gpus_per_worker=2", "cluster.pool=local")
    with pytest.raises(UserError, match="the cluster has 1"):
        pool_factory(manifest, cluster_of(manifest.options))


def test_a_fraction_above_one_gpu_is_refused():
    with pytest.raises(SpecError, match=r"gpus_per_worker=1.5: above 1 must be whole"):
        noop_manifest(2, "resources.gpus_per_worker=1.5")


def test_a_run_that_no_node_holds_is_refused_unless_nodes_may_come():
    wide = noop_manifest(1, "resources.cpus_per_worker=4")
    small = (Node(cpus=2), Node(cpus=2))
    require_capacity(wide, Capacity(slots=4, nodes=(*small, Node(cpus=4))))
    require_capacity(wide, Capacity(slots=4, nodes=small, grows=True))
    with pytest.raises(UserError, match="have room for 0 of these"):
        require_capacity(wide, Capacity(slots=4, nodes=small))


def test_a_cluster_that_grows_takes_what_it_cannot_hold_yet_below_the_cap():
    gang = noop_manifest(1, "resources.world_size=4", "resources.gpus_per_worker=1")
    require_capacity(gang, Capacity(slots=0, grows=True))
    with pytest.raises(UserError, match="room for 2 processes"):
        require_capacity(gang, Capacity(slots=0, grows=True), max_workers=2)
