"""What Ray is asked for and gives: parts of GPUs, gangs whole or not at all, room that has yet to come."""

from __future__ import annotations

import json
import time

import pytest

from orchestrator.pools import ray_environment
from orchestrator.scheduling.events import Beat, Grant, Reported, Shape, WorkerLost, WorkerReady
from orchestrator.worker.protocol import Task, WorkerSetup
from tests.orchestrator.sweeping import noop_manifest

SEEING = "tests.orchestrator.pools.seeing.Seeing"


@pytest.fixture(scope="module")
def ray_of_this_module():
    """Four cores and two GPUs, of which Ray only counts."""
    ray_environment.prepare(own=True)
    from orchestrator.pools.ray_pool import RayPool

    pool = RayPool(num_workers=4, num_gpus=2)
    yield pool
    pool.close()


class Desk:
    """Asks a pool for workers and hears what becomes of them."""

    def __init__(self, pool, folder):
        self.pool, self.folder, self.heard = pool, folder, []
        self.manifest = noop_manifest(50, target=SEEING, folder=str(folder))
        self.num_asked = 0

    def start(self, name, **shape):
        spool, log = self.folder / f"{name}.jsonl", self.folder / f"{name}.log"
        setup = WorkerSetup(name=name, spool=spool, checkpoints=self.folder, log=log)
        self.pool.start_worker(setup, Shape(**shape))

    def wait(self, condition, timeout_s=60.0):
        until_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until_s, self.heard
            self.heard += self.pool.events(0.1)

    def listen(self, seconds):
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.heard += self.pool.events(0.1)

    def is_up(self, name):
        return any(isinstance(e, WorkerReady) and e.worker == name for e in self.heard)

    def is_gone(self, name):
        return any(isinstance(e, WorkerLost) and e.worker == name for e in self.heard)

    def beating(self):
        return {e.worker for e in self.heard if isinstance(e, Beat)}

    def up(self, *names):
        self.wait(lambda: all(map(self.is_up, names)))

    def stop(self, *names):
        for name in names:
            self.pool.stop_worker(name)
        self.wait(lambda: all(map(self.is_gone, names)))

    def sees(self, name, world_size=1):
        """What each rank of a worker sees."""
        run = self.num_asked
        self.num_asked += 1
        grant = Grant(run, 0, run + 1)
        self.pool.dispatch(name, [Task(grant, self.manifest.run_ids[run], self.manifest.spec(run))])
        reports = lambda: [r for e in self.heard if isinstance(e, Reported) for r in e.reports]  # noqa: E731
        self.wait(lambda: any(r.token == grant.token for r in reports()))
        files = [self.folder / f"{self.manifest.spec(run).seed}-{rank}" for rank in range(world_size)]
        self.wait(lambda: all(file.exists() and file.read_text() for file in files))
        return [json.loads(file.read_text()) for file in files]


@pytest.fixture
def desk(ray_of_this_module, tmp_path):
    made = Desk(ray_of_this_module, tmp_path)
    yield made
    for name in list(made.pool._workers):
        made.pool.kill_worker(name, record_stack=False)
    made.pool.events(0.1)
    time.sleep(1)  # Ray gives the room back


def test_two_workers_share_a_gpu_and_none_sees_two(desk):
    names = [f"half{i}" for i in range(4)]
    for name in names:
        desk.start(name, gpus=0.5)
    desk.up(*names)
    gpus = [desk.sees(name)[0]["gpus"] for name in names]
    assert sorted(gpus) == ["0", "0", "1", "1"]


def test_each_rank_of_a_gang_sees_a_gpu_of_its_own(desk):
    desk.start("gang", world_size=2, gpus=1, memory_gib=0.1)
    desk.up("gang")
    seen = desk.sees("gang", world_size=2)
    assert sorted(s["gpus"] for s in seen) == ["0", "1"]
    assert seen[0]["pid"] != seen[1]["pid"]


def test_a_gang_takes_no_gpu_until_there_is_one_for_each_rank(desk):
    desk.start("first", gpus=1)
    desk.up("first")
    desk.start("gang", world_size=2, gpus=1)
    desk.listen(2)
    assert not desk.is_up("gang")
    desk.start("second", gpus=1)  # the GPU that is free is free to others
    desk.up("second")
    desk.stop("first", "second")
    desk.up("gang")
    assert len(desk.sees("gang", world_size=2)) == 2


def test_a_worker_for_which_there_is_no_room_yet_is_not_taken_for_stuck(desk):
    desk.start("wide", cpus=3)
    desk.up("wide")
    desk.start("waiting", cpus=2)
    desk.start("gang", world_size=2, cpus=1)
    desk.start("giant", cpus=9)
    desk.wait(lambda: {"waiting", "gang"} <= desk.beating())
    assert "giant" not in desk.beating(), "no node could ever hold it"
    desk.stop("wide")
    desk.up("waiting", "gang")


def test_a_worker_that_is_stopped_frees_what_its_trainer_holds(desk):
    desk.start("warm")
    desk.up("warm")
    desk.sees("warm")
    desk.stop("warm")
    assert (desk.folder / "closed-0").exists()


def test_a_beat_tells_the_memory_that_a_worker_holds(desk):
    desk.start("beating")
    desk.up("beating")
    desk.wait(lambda: any(isinstance(e, Beat) and e.memory_gib > 0.02 for e in desk.heard))
