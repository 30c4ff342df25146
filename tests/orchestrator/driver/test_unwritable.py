"""What a driver says of a directory that it can no longer write to, in real processes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time

import pytest

LIMIT_BYTES = 150_000
"""Of a file: above what a driver writes for two runs, and below the result of one with many steps."""


def launch(folder, *words, pool="local", limit=None):
    def limited():
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "orchestrator.cli", "launch", "sweep=noop", *words]
    return subprocess.Popen(
        [*command, "--pool", pool, "--dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )


def wait_until(true, seconds=30):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def last_line(err):
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_a_result_larger_than_files_may_be_ends_the_sweep_with_the_limit_named(tmp_path):
    words = ("sweep.n=2", "+trainer.params.steps=5000", "cluster.num_workers=1")
    process = launch(tmp_path / "s", *words, limit=LIMIT_BYTES)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "ulimit -f" in last_line(err)
    assert "emsweep resume" in last_line(err)
    assert launch(tmp_path / "s", *words, pool="inline").wait(60) == 0


def test_a_limit_that_the_state_meets_first_ends_the_sweep_with_the_limit_named(tmp_path):
    process = launch(tmp_path / "s", "sweep.n=2", pool="inline", limit=30_000)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "ulimit -f" in last_line(err)


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "deleted"])
def test_a_directory_that_goes_under_a_driver_is_told_gone_not_safe(tmp_path, moved):
    folder = tmp_path / "s"
    words = ("sweep.n=400", "+trainer.params.duration_s=0.1", "cluster.num_workers=1")
    process = launch(folder, *words)
    status = folder / "status.json"
    wait_until(lambda: status.exists() and json.loads(status.read_text())["counts"]["done"] > 2)
    if moved:
        folder.rename(tmp_path / "elsewhere")
    else:
        while folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "is gone" in last_line(err)
    assert "is safe" not in err
    assert not os.path.lexists(folder / "manifest.parquet")
