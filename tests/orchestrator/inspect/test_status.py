"""What ``status`` says."""

from __future__ import annotations

import json
import shlex
import socket

from orchestrator.cli import main
from orchestrator.inspect.status import run_story, status_text, sweep_status
from orchestrator.store.layout import Layout
from orchestrator.store.lock import DriverLock
from orchestrator.store.sqlite_path import state_path
from orchestrator.store.status import write_status
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE


def test_without_a_driver_status_is_the_same_from_the_index_and_from_the_spools(tmp_path):
    run(tmp_path, noop_manifest(20, target=f"{HERE}.Faulty", every=5))
    first = sweep_status(tmp_path)
    assert first["counts"] == {
        "pending": 0, "done": 16, "diverged": 0, "failed": 0, "quarantined": 4, "cancelled": 0, "skipped": 0,
        "stopped": 0, "running": 0,
    }  # fmt: skip
    assert (first["state"], first["live"]) == ("finished", False)
    state_path(Layout(tmp_path)).unlink()
    assert sweep_status(tmp_path) == first


def test_failures_come_with_a_line_that_runs_them_again(tmp_path, capsys):
    run(tmp_path, noop_manifest(20, target=f"{HERE}.Faulty", every=7))
    text = status_text(sweep_status(tmp_path))
    assert "17/20 done · 3 quarantined" in text
    assert "ArithmeticError" in text
    line = next(row for row in text.splitlines() if "again: " in row)
    words = shlex.split(line.split("again: ")[1])
    assert words[:2] == ["emsweep", "rerun"]
    assert main([*words[1:], "--pool", "inline", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"] == 3


def test_a_live_drivers_own_words_are_believed_and_those_of_a_dead_one_are_not(tmp_path):
    manifest = noop_manifest(3)
    run(tmp_path, manifest)
    layout = Layout(tmp_path)
    written = {**sweep_status(tmp_path), "state": "running", "pid": 1, "host": socket.gethostname()}
    write_status(layout, written)
    assert sweep_status(tmp_path)["state"] == "finished"
    lock = DriverLock(layout.lock)
    assert sweep_status(tmp_path)["state"] == "starting", "another driver has begun and not yet spoken"
    lock.release()


def test_a_runs_story_is_told_by_its_id_its_first_digits_and_its_name(tmp_path, capsys):
    manifest = noop_manifest(6, target=f"{HERE}.Moody")
    run(tmp_path, manifest)
    stories = [
        run_story(tmp_path, t) for t in (manifest.run_ids[3], manifest.run_ids[3][:12], manifest.name(3))
    ]
    assert stories[0] == stories[1] == stories[2]
    assert [a["ended"] for a in stories[0]["attempts"]] == ["failed", "done"]
    assert main(["status", str(tmp_path), "--run", manifest.name(3)]) == 0
    written = capsys.readouterr().out
    assert "attempt 0" in written
    assert "attempt_0.log" in written
    assert main(["status", str(tmp_path), "--run", "nobody"]) == 2


def test_the_story_is_known_in_outline_where_the_index_is_gone(tmp_path):
    manifest = noop_manifest(4, target=f"{HERE}.Faulty", every=2)
    run(tmp_path, manifest)
    state_path(Layout(tmp_path)).unlink()
    story = run_story(tmp_path, manifest.run_ids[0])
    assert story["outcome"] == "quarantined"
    assert "does not please me" in story["error"]
    assert len(story["logs"]) == 1
