"""What Ray is asked for and gives: parts of GPUs, gangs whole or not at all, room that has yet to come."""

from __future__ import annotations

import time

import pytest

from orchestrator.pools import ray_environment
from orchestrator.scheduling.events import Beat, WorkerReady
from tests.orchestrator.pools.desk import SEEING, Desk, manifest_of, seen


@pytest.fixture(scope="module")
def ray_of_this_module():
    """Four cores and two GPUs, of which Ray only counts."""
    ray_environment.prepare(own=True)
    from orchestrator.pools.ray_pool import RayPool

    pool = RayPool(num_workers=4, num_gpus=2)
    yield pool
    pool.close()


@pytest.fixture
def desk(ray_of_this_module, tmp_path):
    made = Desk(ray_of_this_module, tmp_path)
    yield made
    made.clear()
    time.sleep(1)  # Ray gives the room back


def sees(desk, name, world_size=1):
    """What each rank of a worker sees."""
    seed = len(desk.reports())
    desk.work(name, manifest_of(SEEING, folder=desk.folder), seed)
    return [seen(desk, seed, rank) for rank in range(world_size)]


def beating(desk):
    return {event.worker for event in desk.heard if isinstance(event, Beat)}


def test_two_workers_share_a_gpu_and_none_sees_two(desk):
    names = [f"half{i}" for i in range(4)]
    for name in names:
        desk.start(name, gpus=0.5)
    desk.up(*names)
    gpus = [sees(desk, name)[0]["gpus"] for name in names]
    assert sorted(gpus) == ["0", "0", "1", "1"]


def test_each_rank_of_a_gang_sees_a_gpu_of_its_own(desk):
    desk.start("gang", world_size=2, gpus=1, memory_gib=0.1)
    desk.up("gang")
    seen = sees(desk, "gang", world_size=2)
    assert sorted(s["gpus"] for s in seen) == ["0", "1"]
    assert seen[0]["pid"] != seen[1]["pid"]


def test_a_gang_takes_no_gpu_until_there_is_one_for_each_rank(desk):
    desk.start("first", gpus=1)
    desk.up("first")
    desk.start("gang", world_size=2, gpus=1)
    desk.listen(2)
    assert not desk.of(WorkerReady, "gang")
    desk.start("second", gpus=1)  # the GPU that is free is free to others
    desk.up("second")
    desk.stop("first", "second")
    desk.up("gang")
    assert len(sees(desk, "gang", world_size=2)) == 2


@pytest.mark.slow
def test_a_worker_for_which_there_is_no_room_yet_is_not_taken_for_stuck(desk):
    desk.start("wide", cpus=3)
    desk.up("wide")
    desk.start("waiting", cpus=2)
    desk.start("gang", world_size=2, cpus=1)
    desk.start("giant", cpus=9)
    desk.wait(lambda: {"waiting", "gang"} <= beating(desk))
    assert "giant" not in beating(desk), "no node could ever hold it"
    desk.stop("wide")
    desk.up("waiting", "gang")
