"""A head and three nodes with separate folders: gangs across nodes, nodes that go, come, and are cut off."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.chaos.conftest import WORDS
from tests.chaos.harness import Sweep, wait_until
from tests.integration.nodes import Nodes, name_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("ip"), reason="network namespaces need root and iproute2"
    ),
]

PACED = tuple(word for word in WORDS if "num_workers" not in word)

GANG = ("sweep=quickstart", "model=tiny-32", "example=carry-1", "seed=range(3)", "optim.lr=1e-4")
GANG += ("eval.limit=20", "eval.steps=[0]", "resources.world_size=2", "engine.zero_stage=2")


@pytest.fixture
def make(tmp_path):
    """Makes sweeps, and the nodes they run on."""
    made = []
    hidden = tmp_path / "only-here"
    hidden.mkdir()

    def sweep_on(num_nodes, *words, pace_s=0.0, num_workers=0):
        sweep = Sweep(hidden / f"sweep{len(made)}", *words, pace_s=pace_s)
        made.append(sweep)
        if not num_nodes:
            sweep.words += (f"cluster.num_workers={num_workers}",)
            return sweep
        nodes = Nodes(hidden)
        made.append(nodes)
        for cpus in (0, *[1] * num_nodes):
            nodes.start(cpus, sweep.environment)
        sweep.words += (f"cluster.node_spools={nodes.disk}", "cluster.lease_s=6")
        sweep.environment |= nodes.access
        sweep.prefix = nodes.prefix
        sweep.where = ["--pool", "ray", "--address", nodes.address]
        wait_until(lambda: len(nodes.raylets()) == num_nodes + 1)
        return sweep, nodes

    yield sweep_on
    for thing in reversed(made):
        thing.close()


def hosts(sweep):
    return set(pq.read_table(sweep.folder / "runs.parquet")["host"].to_pylist())


def workers_on(nodes, number):
    return [p for p in nodes.processes_of(number) if name_of(p).startswith("ray::RayWorker")]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The numbers of the paced sweep, undisturbed on one machine."""
    sweep = Sweep(tmp_path_factory.mktemp("alone") / "sweep", *WORDS, pool="inline")
    try:
        sweep.finish()
        yield sweep.numbers()
    finally:
        sweep.close()


def test_a_gang_across_two_nodes_gives_the_bits_of_one_machine(make):
    alone = make(0, *GANG, num_workers=2)
    alone.finish()
    sweep, nodes = make(3, *GANG)
    sweep.finish()
    spooled = {p.name for p in (sweep.folder / "spool").glob("e*.jsonl")}
    on_nodes = {
        p.name
        for raylet in nodes.raylets()
        for p in Path(f"/proc/{raylet.pid}/root{nodes.disk}").rglob("e*.jsonl")
    }
    assert spooled
    assert on_nodes >= spooled, "the nodes keep spools of their own"
    assert hosts(sweep) <= {"node1", "node2", "node3"}
    nodes.close()
    sweep.prefix, sweep.where = [], ["--pool", "local"]
    sweep.prove(alone.numbers())


def test_a_partition_that_heals_costs_time_only(make, reference):
    sweep, nodes = make(3, *PACED, pace_s=0.1)
    process = sweep.launch()
    sweep.wait_for(15, process)
    nodes.cut_off(3)
    sweep.fault()
    time.sleep(12)
    nodes.heal(3)
    sweep.pace(0)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    nodes.close()
    sweep.prefix, sweep.where = [], ["--pool", "local"]
    sweep.prove(reference)


def test_a_node_leaves_for_good_and_another_joins(make, reference):
    sweep, nodes = make(2, *PACED, pace_s=0.1)
    process = sweep.launch()
    sweep.wait_for(10, process)
    assert workers_on(nodes, 2)
    nodes.power_off(2)
    sweep.fault()
    newcomer = nodes.start(1, sweep.environment)
    wait_until(lambda: bool(workers_on(nodes, newcomer)), timeout_s=90)
    before = sweep.committed()
    wait_until(lambda: sweep.committed() > before + 10)
    sweep.pace(0)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"node{newcomer}" in hosts(sweep)
    nodes.close()
    sweep.prefix, sweep.where = [], ["--pool", "local"]
    sweep.prove(reference)
