"""Whether a driver is at work: one rule, whoever asks."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import pytest

from orchestrator.inspect.status import status_text, sweep_status
from orchestrator.store.layout import Layout
from orchestrator.store.liveness import SILENT_S, live_driver
from orchestrator.store.lock import DriverLock, holder_of
from orchestrator.store.status import write_status
from tests.orchestrator.sweeping import noop_manifest, run

HERE = {"state": "running", "host": socket.gethostname(), "pid": os.getpid(), "runs_per_s": 3.6}
ELSEWHERE = HERE | {"host": "another-machine"}


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path)
    made.create()
    return made


def age(layout, seconds):
    status = json.loads(layout.status.read_text())
    write_status(layout, status | {"updated_at": time.time() - seconds})


def test_whoever_holds_the_lock_lives_and_its_words_count_if_they_are_its_own(layout):
    lock = DriverLock(layout.lock)
    write_status(layout, HERE | {"pid": 1})
    driver = live_driver(layout)
    assert (driver.pid, driver.status) == (os.getpid(), None), "those of the one before"
    write_status(layout, HERE)
    assert live_driver(layout).status["runs_per_s"] == 3.6
    lock.release()
    assert live_driver(layout) is None, "fresh words of a process of this machine that is gone"


def test_a_driver_on_another_machine_lives_while_its_words_are_fresh(layout):
    write_status(layout, ELSEWHERE)
    assert live_driver(layout).host == "another-machine"
    age(layout, SILENT_S + 1)
    assert live_driver(layout) is None
    write_status(layout, ELSEWHERE | {"state": "finished"})
    assert live_driver(layout) is None


@pytest.mark.parametrize("text", ["", "[]", "null", '{"updated_at": "noon", "state": "running"}'])
def test_a_status_of_another_shape_tells_of_nobody(layout, text):
    layout.status.write_text(text)
    assert live_driver(layout) is None


def test_a_driver_that_is_stopped_is_told_as_silent_and_not_at_its_last_rate(tmp_path):
    run(tmp_path, noop_manifest(2))
    layout = Layout(tmp_path)
    lock = DriverLock(layout.lock)
    write_status(layout, json.loads(layout.status.read_text()) | HERE)
    age(layout, 90)
    status = sweep_status(tmp_path)
    lock.release()
    assert (status["live"], status["runs_per_s"], round(status["silent_s"])) == (True, 0.0, 90)
    assert "its driver has been silent for 1 min 30 s" in status_text(status)


def test_asking_who_holds_the_lock_keeps_no_driver_out(layout):
    layout.lock.touch()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            holder_of(layout.lock)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            DriverLock(layout.lock).release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
