"""What the driver relies on in a pool: every pool passes the same tests.

The inline pool has no process of its own: nothing can be said to a run under way, and none can die alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from orchestrator.pools import ray_environment
from orchestrator.pools.inline import InlinePool
from orchestrator.pools.local import LocalPool
from orchestrator.scheduling.events import Beat, Reported, WorkerLost, WorkerReady
from orchestrator.store.outcomes import ERROR, OOM
from tests.chaos.harness import Marked
from tests.orchestrator.pools.desk import SEEING, Desk, manifest_of, seen
from tests.orchestrator.trainers import HERE

POOLS = ("inline", "local", "ray")

SLOTS = {"inline": 1, "local": 2, "ray": 2}


def make(name):
    if name == "inline":
        return InlinePool()
    if name == "local":
        return LocalPool(SLOTS[name], num_gpus=0)
    ray_environment.prepare(own=True)
    from orchestrator.pools.ray_pool import RayPool

    return RayPool(num_workers=SLOTS[name], num_gpus=0)


@pytest.fixture(scope="module", params=POOLS)
def pool(request):
    made = make(request.param)
    yield request.param, made
    made.close()


@pytest.fixture
def desk(pool, tmp_path):
    made = Desk(pool[1], tmp_path)
    yield made
    made.clear()


@pytest.fixture
def desk_of_processes(pool, desk):
    """The desk of a pool whose workers are processes."""
    if pool[0] == "inline":
        pytest.skip("the inline pool's runs are in the driver's own process")
    return desk


def test_capacity_is_what_the_pool_was_made_for(pool):
    name, made = pool
    capacity = made.capacity()
    assert (capacity.slots, capacity.gpus) == (SLOTS[name], 0)


def test_a_worker_that_was_asked_for_is_up_once(desk):
    desk.start("w")
    desk.up("w")
    desk.listen(0.3)
    [ready] = desk.of(WorkerReady, "w")
    assert ready.host


class TestRunsOfOneWorker:
    """What comes to a worker's runs while it goes on."""

    @pytest.fixture(scope="class")
    def at_work(self, pool, tmp_path_factory):
        """The desk of a worker that was asked for where the driver sees two GPUs."""
        made = Desk(pool[1], tmp_path_factory.mktemp("at-work"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
            made.start("w")
            made.up("w")
        yield made
        made.clear()

    @pytest.fixture
    def desk(self, at_work):
        at_work.heard.clear()
        return at_work

    def test_a_worker_beats_while_it_is_idle(self, desk):
        desk.wait(lambda: len(desk.of(Beat, "w")) >= 2)
        assert {beat.token for beat in desk.of(Beat, "w")} == {0}

    def test_a_worker_that_asks_for_no_gpu_sees_none(self, desk_of_processes):
        desk = desk_of_processes
        desk.work("w", manifest_of(SEEING, folder=desk.folder), 0)
        assert seen(desk, 0)["gpus"] == ""

    def test_the_runs_of_a_batch_are_reported_once_each_in_their_order(self, desk):
        manifest = manifest_of()
        tokens = desk.give("w", manifest, 5, 2, 7) + desk.give("w", manifest, 0, 1)
        assert desk.outcomes(tokens) == ["done"] * 5
        desk.listen(0.3)
        assert [r.token for r in desk.reports()] == tokens
        assert [r.run for r in desk.reports()[:3]] == [5, 2, 7]

    def test_a_report_says_the_most_memory_that_the_worker_has_held(self, desk):
        desk.outcomes(desk.give("w", manifest_of(f"{HERE}.Heavy"), 0))
        [reported] = [event for event in desk.heard if isinstance(event, Reported)]
        assert reported.peak_mib > 300

    def test_an_attempt_called_off_before_its_turn_never_starts(self, desk):
        tokens = desk.give("w", manifest_of(SEEING, folder=desk.folder, duration_s=0.5), 0, 1, 2)
        desk.pool.cancel("w", (tokens[2],))
        assert desk.outcomes(tokens) == ["done", "done", "cancelled"]
        assert not (desk.folder / "2-0").exists()

    def test_an_attempt_called_off_under_way_ends_and_the_batch_goes_on(self, desk_of_processes):
        desk = desk_of_processes
        tokens = desk.give("w", manifest_of(f"{HERE}.Endless", below=1), 0, 1)
        desk.wait(lambda: any(beat.token == tokens[0] for beat in desk.of(Beat, "w")))
        desk.pool.cancel("w", (tokens[0],))
        assert desk.outcomes(tokens) == ["cancelled", "done"]

    def test_beats_tell_of_the_run_under_way_its_progress_and_the_memory_held(self, desk_of_processes):
        desk = desk_of_processes
        [token] = desk.give("w", manifest_of(f"{HERE}.Endless", below=1), 0)
        beats = lambda: [beat for beat in desk.of(Beat, "w") if beat.token == token]  # noqa: E731
        desk.wait(lambda: len(beats()) >= 2)
        assert beats()[-1].progress > beats()[0].progress
        assert beats()[-1].memory_gib > 0.02
        desk.pool.cancel("w", (token,))
        assert desk.outcomes([token]) == ["cancelled"]

    def test_an_exception_fails_its_run_with_its_class_and_the_worker_goes_on(self, desk):
        assert desk.work("w", manifest_of(f"{HERE}.Faulty", every=4), 0, 1, 4) == ["failed", "done", "failed"]
        first, second = (r.failure for r in desk.reports() if r.failure)
        assert first.failure_class == second.failure_class == ERROR
        assert first.fingerprint == second.fingerprint
        assert first.message == "ArithmeticError: seed 0 does not please me"
        assert "in run" in first.details
        assert desk.work("w", manifest_of(f"{HERE}.Greedy"), 0) == ["failed"]
        assert desk.reports()[-1].failure.failure_class == OOM


def test_a_worker_that_is_stopped_frees_what_its_trainer_holds_and_is_lost_once(desk):
    desk.start("w")
    desk.up("w")
    desk.work("w", manifest_of(SEEING, folder=desk.folder), 0)
    desk.stop("w")
    assert (desk.folder / "closed-0").exists()
    desk.pool.stop_worker("w")
    desk.listen(0.3)
    assert len(desk.of(WorkerLost, "w")) == 1


def test_a_worker_that_is_killed_is_lost_and_another_takes_its_room(desk):
    desk.start("w")
    desk.up("w")
    desk.pool.kill_worker("w", record_stack=False)
    desk.gone("w")
    desk.start("next")
    desk.up("next")
    assert desk.work("next", manifest_of(), 3) == ["done"]


def test_a_hung_worker_leaves_its_stack_in_its_log_when_it_is_killed(desk_of_processes):
    desk = desk_of_processes
    desk.start("w")
    desk.up("w")
    [token] = desk.give("w", manifest_of(f"{HERE}.Hanging"), 2)
    desk.wait(lambda: any(beat.token == token for beat in desk.of(Beat, "w")))
    desk.pool.kill_worker("w", record_stack=True)
    desk.gone("w")
    assert "in run" in (desk.folder / "w.log").read_text()
    assert desk.reports() == []


def test_a_worker_that_dies_is_lost_and_what_it_had_finished_is_not(desk_of_processes):
    desk = desk_of_processes
    desk.start("w")
    desk.up("w")
    manifest = manifest_of(f"{HERE}.Suicidal", seed=2)
    assert desk.work("w", manifest, 0, 1) == ["done", "done"]
    desk.give("w", manifest, 2, 3)
    desk.gone("w")
    [lost] = desk.of(WorkerLost, "w")
    assert lost.reason
    desk.listen(0.3)
    assert len(desk.reports()) == 2


def test_a_worker_that_is_stopped_by_the_system_is_silent_until_it_is_killed(desk_of_processes):
    desk = desk_of_processes
    desk.start("w")
    desk.up("w")
    desk.work("w", manifest_of(SEEING, folder=desk.folder), 0)
    pid = seen(desk, 0)["pid"]
    os.kill(pid, signal.SIGSTOP)
    desk.listen(1.5)
    before = len(desk.of(Beat, "w"))
    desk.listen(2.5)
    assert len(desk.of(Beat, "w")) == before
    desk.pool.kill_worker("w", record_stack=False)
    desk.gone("w")
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not psutil.pid_exists(pid)


def test_a_gang_reports_as_one_and_dies_as_one(desk_of_processes):
    desk = desk_of_processes
    desk.start("gang", world_size=2)
    desk.up("gang")
    assert desk.work("gang", manifest_of(SEEING, folder=desk.folder), 0) == ["done"]
    pids = [seen(desk, 0, rank)["pid"] for rank in range(2)]
    assert len({*pids, os.getpid()}) == 3
    desk.listen(0.3)
    assert len(desk.reports()) == 1
    os.kill(pids[1], signal.SIGKILL)
    desk.gone("gang")
    until_s = time.monotonic() + 10
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < until_s:
        desk.listen(0.1)
    assert not any(map(psutil.pid_exists, pids))


CLOSING = """
import sys, psutil
from pathlib import Path
from tests.orchestrator.pools.desk import Desk, manifest_of
from tests.orchestrator.pools.test_conformance import HERE, SLOTS, make

name, folder = sys.argv[1], Path(sys.argv[2])
pool = make(name)
desk = Desk(pool, folder)
workers = [f"w{k}" for k in range(SLOTS[name])]
desk.start(*workers)
desk.up(*workers)
if name != "inline":
    desk.work("w0", manifest_of("tests.orchestrator.pools.seeing.Littering"), 0)
    desk.give("w0", manifest_of(f"{HERE}.Hanging"), 2)
    desk.listen(0.5)
pool.close()
print(*[p.cmdline() for p in psutil.Process().children(recursive=True)], sep="\\n", end="")
"""


@pytest.mark.parametrize("name", POOLS)
def test_closing_leaves_no_process_socket_or_temporary_file_even_of_a_hung_worker(name, tmp_path):
    marked = Marked()
    try:
        done = subprocess.run(
            [sys.executable, "-c", CLOSING, name, str(tmp_path)],
            env=marked.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        marked.assert_nothing_left()
    finally:
        marked.close()
