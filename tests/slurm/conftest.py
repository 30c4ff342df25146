"""A real Slurm for a session of tests; skips with the line that installs it where there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.slurm.queued_sweep import LONG, QueuedSweep, of_one_machine
from tests.slurm.slurm_cluster import SlurmCluster, missing


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture
def full(cluster):
    """The cluster, whose nodes are taken by somebody else until it is asked to ``free`` them."""
    cluster.fill()
    yield cluster
    cluster.free()
    cluster.call("scancel", "--user=root")
    cluster.wait_for("idle", seconds=60)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    if why := missing():
        pytest.skip(why)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm") / "cluster", num_nodes=3)
    try:
        try:
            cluster.start()
        except (AssertionError, KeyError, OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"Slurm is installed and its nodes do not come up here: {error}")
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def expected(tmp_path_factory):
    """What one machine makes of the runs of ``sweep``."""
    return of_one_machine(tmp_path_factory.mktemp("one") / "out", LONG)


@pytest.fixture
def sweep(cluster, tmp_path):
    """A sweep long enough to be disturbed, not yet submitted."""
    return QueuedSweep(cluster, tmp_path, LONG)
