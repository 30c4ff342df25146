"""Sweeps on clusters that grow by themselves."""

from __future__ import annotations

import pytest

from tests.chaos.harness import Sweep
from tests.integration.autoscaling import AutoscalingCluster


@pytest.fixture
def sweeps(tmp_path):
    """Makes sweeps on this machine; what is made is closed, the last first."""
    made = []

    def sweep_of(*words, pace_s=0.0, pool="inline"):
        made.append(Sweep(tmp_path / f"sweep{len(made)}", *words, pool=pool, pace_s=pace_s))
        return made[-1]

    sweep_of.made = made
    yield sweep_of
    for thing in reversed(made):
        thing.close()


@pytest.fixture
def sweep_on(sweeps):
    """Makes sweeps on a cluster each, of up to so many nodes of each type."""

    def sweep_on(most, *words, types, pace_s=0.0, version=2):
        sweep = sweeps(*words, pace_s=pace_s)
        cluster = AutoscalingCluster(types, most, version=version, environment=sweep.environment)
        sweeps.made.append(cluster)
        sweep.environment |= cluster.access
        sweep.where = ["--pool", "ray", "--address", cluster.address]
        return sweep, cluster

    return sweep_on
