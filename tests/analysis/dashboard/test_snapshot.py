from __future__ import annotations

import json
import os
import shutil
import threading
import time

import pytest

from analysis.dashboard import snapshot
from analysis.dashboard.snapshot import Store, Unwanted
from sweeps.spec.errors import UserError


@pytest.fixture
def folder(tmp_path, quickstart):
    return shutil.copytree(quickstart, tmp_path / "s")


def test_a_copy_has_the_same_id_and_a_change_another(folder, tmp_path):
    first = Store(folder).current().id
    shutil.copytree(folder, tmp_path / "copy")
    assert Store(tmp_path / "copy").current().id == first
    (folder / "steps.parquet").unlink()
    assert Store(folder).current().id != first


def test_an_unchanged_directory_keeps_its_snapshot_and_its_answers(folder, monkeypatch):
    monkeypatch.setattr(snapshot, "CHECK_S", 0.0)
    store = Store(folder)
    seen = store.current()
    calls = []
    for _ in range(3):
        assert store.current() is seen
        assert seen.answer("key", lambda sweep: calls.append(1) or "answer") == "answer"
    assert len(calls) == 1
    os.utime(folder / "runs.parquet")
    assert store.current() is not seen


def test_an_answer_asked_for_by_many_at_once_is_computed_once(folder):
    seen, calls = Store(folder).current(), []

    def compute(sweep):
        calls.append(1)
        time.sleep(0.1)
        return sweep.counts()

    threads = [threading.Thread(target=seen.answer, args=("counts", compute)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_slow_answer_does_not_hold_up_a_quick_one(folder):
    seen, started, release = Store(folder).current(), threading.Event(), threading.Event()

    def slow(sweep):
        started.set()
        release.wait(10)

    thread = threading.Thread(target=seen.answer, args=("slow", slow))
    thread.start()
    started.wait(10)
    assert seen.answer("quick", lambda sweep: sweep.counts(), lane="quick") == {"done": 96}
    assert thread.is_alive()
    release.set()
    thread.join()


def test_what_nobody_waits_for_any_more_is_not_computed(folder):
    seen, calls = Store(folder).current(), []
    with pytest.raises(Unwanted):
        seen.answer("key", calls.append, wanted=lambda: False)
    assert not calls
    assert seen.answer("key", lambda sweep: "answer") == "answer"


def test_answers_are_told_apart_by_their_filter(folder):
    seen = Store(folder).current()
    assert seen.answer("counts", lambda sweep: sweep.counts()) == {"done": 96}
    assert seen.answer("counts", lambda sweep: sweep.counts(), filters="model=tiny-64") == {"done": 48}


def test_following_waits_in_proportion_to_what_the_last_state_cost(folder, monkeypatch):
    monkeypatch.setattr(snapshot, "CHECK_S", 0.0)
    monkeypatch.setattr(snapshot, "FOLLOW_SHARE", 0.5 / (os.cpu_count() or 1))
    store = Store(folder)
    at_work(folder)
    shown = store.current()
    began_s = time.process_time()
    while time.process_time() - began_s < 0.5:  # work of half a second, twice of which must pass
        shown.sweep.counts()
    os.utime(folder / "runs.parquet")
    assert store.follow() is shown
    time.sleep(1.5)
    assert store.follow() is not shown


def test_following_is_never_far_behind(folder, monkeypatch):
    monkeypatch.setattr(snapshot, "CHECK_S", 0.0)
    monkeypatch.setattr(snapshot, "FOLLOW_SHARE", 1e-9)
    monkeypatch.setattr(snapshot, "LONGEST_WAIT_S", 0.2)
    store = Store(folder)
    at_work(folder)
    shown = store.current()
    os.utime(folder / "runs.parquet")
    assert store.follow() is shown
    time.sleep(0.2)
    assert store.follow() is not shown


def test_what_has_ended_is_shown_at_once(folder, monkeypatch):
    monkeypatch.setattr(snapshot, "CHECK_S", 0.0)
    monkeypatch.setattr(snapshot, "FOLLOW_SHARE", 1e-9)
    store = Store(folder)
    shown = store.current()
    os.utime(folder / "runs.parquet")
    assert store.follow() is not shown


def at_work(folder):
    told = {"state": "running", "total": 96, "counts": {}, "updated_at": time.time()}
    (folder / "status.json").write_text(json.dumps(told))


def test_a_driver_is_at_work_while_its_status_is_fresh(folder):
    store = Store(folder)
    at_work(folder)
    told = store.status()
    assert told["state"] == "running"
    (folder / "status.json").write_text(json.dumps({**told, "updated_at": time.time() - 3600}))
    assert store.status() is None
    (folder / "status.json").write_text(json.dumps({**told, "state": "finished"}))
    assert store.status() is None
    (folder / "status.json").write_text("{")
    assert store.status() is None


def test_reading_leaves_the_directory_as_it_was(folder):
    def listing():
        return sorted((p, p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*"))

    before = listing()
    seen = Store(folder).current()
    seen.answer("counts", lambda sweep: sweep.counts())
    assert listing() == before


def test_what_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Store(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a sweep"):
        Store(tmp_path)
