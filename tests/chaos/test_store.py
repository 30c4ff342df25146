"""Torn, flipped, truncated, duplicated and deleted files; a full disk, a read-only one, a clock set back."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.conftest import RUNS
from tests.chaos.harness import Sweep, kill

pytestmark = pytest.mark.chaos

CLOCK_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/time.h>
static int (*real)(clockid_t, struct timespec *);
static struct timespec first;
int clock_gettime(clockid_t id, struct timespec *now) {
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(id, now);
  if (id != CLOCK_REALTIME) return failed;
  if (!first.tv_sec) first = *now;
  if (now->tv_sec - first.tv_sec >= 1) now->tv_sec -= 3600; /* an hour back, one second into the run */
  return failed;
}
"""


def spools(sweep, kind="e"):
    return sorted((sweep.folder / "spool").glob(f"{kind}*.jsonl"))


def interrupted(sweep, num):
    """Kill the sweep's driver when so many results are in."""
    process = sweep.launch()
    sweep.wait_for(num, process)
    kill(process)
    sweep.fault()


def test_torn_and_truncated_tails_are_skipped_and_their_runs_done_again(sweep, reference):
    interrupted(sweep, 60)
    for path in [*spools(sweep), *spools(sweep, "driver")]:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - random.Random(path.name).randrange(1, 400)])
        sweep.fault()
    sweep.prove(reference)


def test_flipped_bits_anywhere_are_found_and_the_runs_done_again(sweep, reference):
    sweep.finish()
    dice = random.Random(3)
    for path in spools(sweep):
        data = bytearray(path.read_bytes())
        for _ in range(5):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            sweep.fault()
        path.write_bytes(bytes(data))
    assert not sweep.verify()["ok"]
    sweep.prove(reference)


def test_a_spool_that_is_gone_is_computed_again(sweep, reference):
    sweep.finish()
    spools(sweep)[0].unlink()
    sweep.fault()
    assert not sweep.verify()["ok"]
    sweep.prove(reference)


def test_derived_files_may_be_deleted_or_overwritten_with_rubbish(sweep, reference):
    names = ("state.sqlite", "runs.parquet", "status.json", "driver.lock")
    interrupted(sweep, 60)
    for name in names:
        (sweep.folder / name).write_bytes(os.urandom(4096))
        sweep.fault()
    sweep.prove(reference)
    for name in names:
        (sweep.folder / name).unlink(missing_ok=True)
        sweep.fault()
    sweep.prove(reference)


def test_results_delivered_twice_count_once(sweep, reference):
    interrupted(sweep, 60)
    for path in spools(sweep):
        shutil.copy(path, path.with_name(f"{path.stem}-again.jsonl"))
        sweep.fault()
    sweep.prove(reference)
    assert sweep.verify()["superseded"] > 0


def test_a_directory_deleted_but_for_spools_and_manifest_is_rebuilt(sweep, reference):
    sweep.finish()
    for path in sweep.folder.iterdir():
        if path.name in ("spool", "manifest.parquet", "sweep.yaml"):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    sweep.fault()
    sweep.prove(reference)


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of its own; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no right to mount a tmpfs here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.timeout(180)
def test_a_full_disk_pauses_the_sweep_and_room_lets_it_go_on(small_disk):
    words = ("sweep=noop", "sweep.n=5000", "+trainer.params.steps=50", "cluster.num_workers=2")
    quiet = Sweep(small_disk.parent / "undisturbed", *words)
    quiet.finish()
    sweep = Sweep(small_disk / "sweep", *words)
    process = sweep.launch()
    until_s = time.monotonic() + 60
    while shutil.disk_usage(small_disk).free and time.monotonic() < until_s:
        time.sleep(0.05)
    sweep.fault()
    time.sleep(3)
    assert process.poll() is None, process.communicate()[1]
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    sweep.prove(quiet.numbers())


@pytest.mark.timeout(180)
def test_a_driver_killed_on_a_full_disk_resumes_once_there_is_room(small_disk):
    words = ("sweep=noop", "sweep.n=5000", "+trainer.params.steps=50", "cluster.num_workers=2")
    quiet = Sweep(small_disk.parent / "undisturbed", *words)
    quiet.finish()
    sweep = Sweep(small_disk / "sweep", *words)
    process = sweep.launch()
    until_s = time.monotonic() + 60
    while shutil.disk_usage(small_disk).free and time.monotonic() < until_s:
        time.sleep(0.05)
    kill(process)
    sweep.fault()
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    sweep.prove(quiet.numbers())


def test_a_read_only_store_is_refused_with_exit_2(small_disk):
    sweep = Sweep(small_disk / "sweep", "sweep=noop", "sweep.n=3")
    sweep.finish()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    sweep.fault()
    process = sweep.launch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot be written (Read-only file system)" in err
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    sweep.prove(sweep.numbers())


def test_a_clock_set_back_by_an_hour_changes_nothing(sweep, tmp_path, reference):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C compiler to build the clock with")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(CLOCK_SHIM)
    subprocess.run([compiler, "-x", "c", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    sweep.environment["LD_PRELOAD"] = str(library)
    process = sweep.launch()
    sweep.fault()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["committed"] == RUNS
    at = [json.loads(line)["at"] for line in spools(sweep, "driver")[0].open() if '"at":' in line]
    assert at, "the journal holds no time"
    del sweep.environment["LD_PRELOAD"]
    sweep.prove(reference)


def test_a_request_left_for_a_driver_that_died_does_no_harm(sweep, reference):
    interrupted(sweep, 60)
    (sweep.folder / "control" / "cancel-1-x.json").write_text("{not json")
    (sweep.folder / "control" / "dance-2-x.json").write_text('{"verb": "dance"}')
    sweep.fault()
    sweep.prove(reference)


def test_signals_are_not_needed_to_end_orphans(sweep):
    process = sweep.launch()
    sweep.wait_for(20, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    sweep.fault()
    sweep_left = Path(f"/proc/{process.pid}")
    assert not sweep_left.exists()
    sweep.assert_nothing_left()
