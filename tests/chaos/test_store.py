"""Torn, flipped, truncated, duplicated and deleted files; a full disk, a read-only one, a clock set back."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess

import pyarrow.parquet as pq
import pytest

from tests.chaos.conftest import PACE_S, RUNS, WORDS
from tests.chaos.harness import Sweep, kill

pytestmark = pytest.mark.chaos


CLOCK_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/time.h>
static int (*real)(clockid_t, struct timespec *);
int clock_gettime(clockid_t id, struct timespec *now) {
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(id, now);
  if (id != CLOCK_REALTIME) return failed;
  if (now->tv_sec % 2) now->tv_sec -= 3600; /* an hour back every other second, however late a run begins */
  return failed;
}
"""
"""Sets back the time of day alone: libfaketime moves the monotonic clock too, or breaks Python's sleep."""


def spools(sweep, kind="e"):
    """Those that hold more than who writes them, which is all that a worker leaves that came too late."""
    paths = sorted((sweep.folder / "spool").glob(f"{kind}*.jsonl"))
    return [path for path in paths if path.read_bytes().count(b"\n") > 1]


@pytest.fixture(scope="module")
def once_finished(tmp_path_factory):
    """The directory of the sweep, finished on local processes."""
    made = Sweep(tmp_path_factory.mktemp("finished") / "sweep", *WORDS)
    made.finish()
    yield made.folder
    made.close()


@pytest.fixture(scope="module")
def once_killed(tmp_path_factory):
    """The directory of the sweep, whose driver was killed when sixty results were in."""
    made = Sweep(tmp_path_factory.mktemp("killed") / "sweep", *WORDS, pace_s=PACE_S)
    process = made.launch()
    made.wait_for(60, process)
    kill(process)
    made.assert_no_process_left()
    yield made.folder
    made.close()


@pytest.fixture
def finished(sweep, once_finished):
    sweep.take_up(once_finished)
    return sweep


@pytest.fixture
def interrupted(sweep, once_killed):
    sweep.take_up(once_killed)
    sweep.fault()
    return sweep


def test_torn_and_truncated_tails_are_skipped_and_their_runs_done_again(interrupted, reference):
    for path in [*spools(interrupted), *spools(interrupted, "driver")]:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - random.Random(path.name).randrange(1, 400)])
        interrupted.fault()
    interrupted.prove(reference)


def test_flipped_bits_anywhere_are_found_and_the_runs_done_again(finished, reference):
    dice = random.Random(3)
    for path in spools(finished):
        data = bytearray(path.read_bytes())
        for _ in range(5):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            finished.fault()
        path.write_bytes(bytes(data))
    assert not finished.verify()["ok"]
    finished.prove(reference)


def test_a_spool_that_is_gone_is_computed_again(finished, reference):
    spools(finished)[0].unlink()
    finished.fault()
    assert not finished.verify()["ok"]
    finished.prove(reference)


def test_derived_files_may_be_deleted_or_overwritten_with_rubbish(interrupted, reference):
    names = ("state.sqlite", "runs.parquet", "status.json", "driver.lock")
    for name in names:
        (interrupted.folder / name).write_bytes(os.urandom(4096))
        interrupted.fault()
    interrupted.prove(reference)
    for name in names:
        (interrupted.folder / name).unlink(missing_ok=True)
        interrupted.fault()
    interrupted.prove(reference)


def test_results_delivered_twice_count_once(interrupted, reference):
    for path in spools(interrupted):
        shutil.copy(path, path.with_name(f"{path.stem}-again.jsonl"))
        interrupted.fault()
    interrupted.prove(reference)
    assert interrupted.verify()["superseded"] > 0


def test_a_directory_deleted_but_for_spools_and_manifest_is_rebuilt(finished, reference):
    for path in finished.folder.iterdir():
        if path.name in ("spool", "manifest.parquet", "sweep.yaml"):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    finished.fault()
    finished.prove(reference)


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
    del sweep.environment["LD_PRELOAD"]
    finished_at = pq.read_table(sweep.folder / "runs.parquet")["finished_at"].to_pylist()
    assert max(finished_at) - min(finished_at) > 3000, "the clock was not set back"
    sweep.prove(reference)


def test_a_request_left_for_a_driver_that_died_does_no_harm(interrupted, reference):
    (interrupted.folder / "control" / "cancel-1-x.json").write_text("{not json")
    (interrupted.folder / "control" / "dance-2-x.json").write_text('{"verb": "dance"}')
    interrupted.fault()
    interrupted.prove(reference)
