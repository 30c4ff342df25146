"""Who has a directory: by the kernel's lock, by the name of its file, and without locks by a claim."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import pytest

from orchestrator.store.lock import DriverLock, claim_path, holder_of
from sweeps.spec.errors import DirectoryBusyError, LostLockError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "driver.lock"


@pytest.fixture
def without_locks(monkeypatch):
    """A file system that has none."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_lock_whose_file_is_removed_or_replaced_is_lost(path):
    lock = DriverLock(path)
    lock.check()
    path.unlink()
    with pytest.raises(LostLockError, match="was removed"):
        lock.check()
    second = DriverLock(path)
    with pytest.raises(LostLockError, match="was replaced"):
        lock.check()
    second.check()
    lock.release()
    second.release()


def test_without_locks_a_second_driver_is_told_why_and_by_whom(path, without_locks):
    lock = DriverLock(path)
    lock.check()
    assert holder_of(path)["pid"] == os.getpid()
    with pytest.raises(DirectoryBusyError, match=rf"has no locks.*pid {os.getpid()} is at work.*remove"):
        DriverLock(path)
    lock.release()
    assert holder_of(path) is None
    DriverLock(path).release()
    assert not claim_path(path).exists()


def test_without_locks_the_claim_of_a_dead_process_is_taken_over(path, without_locks):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    claim_path(path).write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid}))
    assert holder_of(path) is None
    lock = DriverLock(path)
    assert holder_of(path)["pid"] == os.getpid()
    lock.release()


def test_without_locks_the_claim_of_another_machine_is_never_taken_over(path, without_locks):
    claim_path(path).write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(DirectoryBusyError, match="host elsewhere"):
        DriverLock(path)
    assert json.loads(claim_path(path).read_text())["host"] == "elsewhere"


def test_without_locks_a_claim_that_was_replaced_is_lost_and_left_alone(path, without_locks):
    lock = DriverLock(path)
    claim_path(path).unlink()
    claim_path(path).write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(LostLockError):
        lock.check()
    lock.release()
    assert claim_path(path).exists()


def _take(path, barrier, taken):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "no locks")

    fcntl.flock = refuse
    barrier.wait()
    try:
        DriverLock(path)
    except DirectoryBusyError:
        return
    with taken.get_lock():
        taken.value += 1
    barrier.wait()


def test_without_locks_one_of_many_takes_over_a_dead_claim(path):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    fork = multiprocessing.get_context("fork")
    for _ in range(5):
        claim_path(path).write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid}))
        barrier, taken = fork.Barrier(4), fork.Value("i", 0)
        workers = [fork.Process(target=_take, args=(path, barrier, taken)) for _ in range(4)]
        for worker in workers:
            worker.start()
        until_s = time.monotonic() + 30
        while sum(worker.is_alive() for worker in workers) > 1 and time.monotonic() < until_s:
            time.sleep(0.02)  # those that are refused end; who takes it holds it until all others have tried
        for worker in workers:
            worker.kill()
            worker.join()
        assert taken.value == 1
