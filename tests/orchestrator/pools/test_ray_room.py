"""A Ray that we start has room for the largest worker that the runs ask for."""

from __future__ import annotations

from orchestrator.pools import ray_environment
from orchestrator.scheduling.events import Shape
from tests.orchestrator.pools.desk import Desk


def test_a_worker_of_more_cores_than_the_machine_was_asked_for_starts(tmp_path):
    ray_environment.prepare(own=True)
    from orchestrator.pools.ray_pool import RayPool

    pool = RayPool(num_workers=1, num_gpus=0, largest=Shape(cpus=64))
    try:
        desk = Desk(pool, tmp_path)
        desk.start("wide", cpus=64)
        desk.up("wide")
    finally:
        pool.close()
