"""kill -9, SIGSTOP, SIGTERM and SIGINT of drivers and workers at random moments of real sweeps."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import time

import pytest

from analysis import open_sweep
from tests.chaos.conftest import RUNS, WORDS
from tests.chaos.harness import Tally, kill, wait_until

pytestmark = pytest.mark.chaos


def kill_driver_repeatedly(sweep, times, seed, up_to_s):
    """Kill the driver at random moments, from before it has begun to after it has ended; count the kills."""
    moments, num_kills = random.Random(seed), 0
    for _ in range(times):
        process = sweep.launch()
        try:
            process.communicate(timeout=moments.uniform(0.0, up_to_s))
        except subprocess.TimeoutExpired:
            kill(process)
            sweep.fault()
            num_kills += 1
    return num_kills


def test_a_driver_killed_at_random_moments_loses_and_repeats_nothing(sweep, reference):
    kill_driver_repeatedly(sweep, 8, seed=1, up_to_s=2.5)
    sweep.prove(reference)
    assert sweep.verify()["duplicated"] == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_driver_killed_at_200_random_moments(tmp_path, new_sweep, reference):
    num_kills = 0
    for seed in itertools.count():
        sweep = new_sweep(tmp_path / f"sweep{seed}", pace_s=0.05)
        num_kills += kill_driver_repeatedly(sweep, min(10, 200 - num_kills), seed=seed, up_to_s=2.5)
        sweep.prove(reference)
        if num_kills == 200:
            return


def test_a_launch_killed_before_it_has_frozen_its_runs_can_be_repeated(sweep, reference):
    process = sweep.launch()
    wait_until(sweep.folder.exists)
    kill(process)
    sweep.fault()
    sweep.prove(reference)


def test_workers_killed_at_random_are_replaced_without_a_resume(sweep, reference):
    process = sweep.launch()
    moments = random.Random(2)
    for done in (10, 60, 110, 150):
        sweep.wait_for(done, process)
        if workers := sweep.workers():
            moments.choice(workers).kill()
            sweep.fault()
    sweep.pace(0)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["committed"] == RUNS
    sweep.prove(reference)


def test_a_stopped_worker_is_found_killed_and_replaced(sweep, reference):
    sweep.words = (*sweep.words, "cluster.lease_s=3")
    process = sweep.launch()
    sweep.wait_for(20, process)
    os.kill(sweep.workers()[0].pid, signal.SIGSTOP)
    sweep.fault()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    logs = [p.read_text() for p in (sweep.folder / "logs" / "workers").iterdir()]
    assert any("Current thread" in text or "Thread 0x" in text for text in logs), "no stack was recorded"
    sweep.prove(reference)


def test_sigterm_drains_and_leaves_a_directory_that_resume_finishes(sweep, reference):
    process = sweep.launch()
    sweep.wait_for(20, process)
    process.send_signal(signal.SIGTERM)
    sweep.fault()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["interrupted"] is True
    assert 0 < json.loads(out)["committed"] < RUNS
    sweep.assert_nothing_left()
    sweep.prove(reference)


def test_sigint_twice_stops_at_once_even_in_long_runs(sweep, reference):
    process = sweep.launch()
    sweep.wait_for(20, process)
    sweep.pace(300)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    sweep.fault()
    started_s = time.monotonic()
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - started_s < 8
    sweep.assert_nothing_left()
    sweep.prove(reference)


def test_the_workers_of_a_killed_driver_end_by_themselves_and_what_is_committed_is_not_computed_again(
    sweep, reference
):
    process = sweep.launch()
    sweep.wait_for(RUNS // 3, process)
    sweep.pace(300)
    assert sweep.workers()
    kill(process)
    sweep.fault()
    sweep.assert_no_process_left()
    before = sweep.committed()
    assert sweep.finish()["new"] <= RUNS - before
    sweep.prove(reference)  # the next driver removes their temporary folder


def test_a_second_driver_is_refused_and_the_first_goes_on(sweep, reference):
    process = sweep.launch()
    sweep.wait_for(1, process)
    sweep.pace(300)
    second = sweep.launch()
    sweep.fault()
    _, err = second.communicate(timeout=30)
    assert second.returncode == 2
    assert f"host {socket.gethostname()}, pid {process.pid}" in err
    sweep.pace(0)
    process.communicate(timeout=60)
    assert process.returncode == 0
    sweep.prove(reference)


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_driver_on_ray_killed_mid_way_leaves_no_ray_behind(ray_sweep, reference):
    process = ray_sweep.launch()
    ray_sweep.wait_for(30, process)
    kill(process)
    ray_sweep.fault()
    ray_sweep.prove(reference)


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_an_actor_killed_on_ray_is_replaced_without_a_resume(ray_sweep, reference):
    process = ray_sweep.launch()
    ray_sweep.wait_for(30, process)
    ray_sweep.workers()[0].kill()
    ray_sweep.fault()
    ray_sweep.pace(0)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    ray_sweep.prove(reference)


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_an_actor_stopped_on_ray_is_found_killed_and_replaced(ray_sweep, reference):
    ray_sweep.words = (*ray_sweep.words, "cluster.lease_s=3")
    process = ray_sweep.launch()
    ray_sweep.wait_for(30, process)
    os.kill(ray_sweep.workers()[0].pid, signal.SIGSTOP)
    ray_sweep.fault()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    ray_sweep.prove(reference)


def test_after_a_kill_tables_keep_what_they_had_while_the_next_driver_works(tmp_path, new_sweep):
    words = tuple(word for word in WORDS if not word.startswith("sweep.n="))
    sweep = new_sweep(words=(*words, "sweep.n=3000"), pace_s=0.0)
    process = sweep.launch()
    wait_until(lambda: list((sweep.folder / "parts").glob("runs-*.parquet")) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]
    sweep.pace(300)
    kill(process)
    sweep.fault()
    before = open_sweep(sweep.folder).counts()["done"]
    committed = sweep.committed()
    assert before >= 2000
    process = sweep.launch()
    wait_until(lambda: len(list((sweep.folder / "spool").glob("driver-*.jsonl"))) == 2 and sweep.workers())
    seen = {open_sweep(sweep.folder).counts()["done"] for _ in range(5)}
    assert min(seen) >= before, "what was there before the kill is there still"
    wait_until(lambda: open_sweep(sweep.folder).counts()["done"] >= committed, 40)
    kill(process)
    summary = sweep.finish()
    assert summary["committed"] == 3000
    assert open_sweep(sweep.folder).counts() == {"done": 3000}
    assert len(open_sweep(sweep.folder).steps()) == 9000, "no row twice"
    assert sweep.verify()["ok"]
    Tally.survived += sweep.num_faults
