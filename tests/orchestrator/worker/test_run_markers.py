"""Which run printed what."""

from __future__ import annotations

import json
import threading
import time

import pytest

from orchestrator.cli import main
from orchestrator.inspect.status import run_story, status_text, story_text, sweep_status
from orchestrator.worker.run_markers import RunMarkers, output_of
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep whose runs print, in one worker process, and its manifest."""
    folder = tmp_path_factory.mktemp("swept")
    manifest = noop_manifest(3, target=f"{HERE}.Talkative")
    assert run(folder, manifest, pool="local", num_workers=1).committed == 3
    return folder, manifest


def test_the_log_of_a_run_has_what_each_of_its_attempts_printed_and_nothing_else(swept, capsys):
    folder, manifest = swept
    capsys.readouterr()
    assert main(["log", str(folder), "--run", manifest.run_ids[1][:10]]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    printed = [(r["attempt"], r["message"]) for r in told if r["event"] == "output"]
    assert sorted(printed) == sorted(
        (n, text) for n in (0, 1) for text in (f"print of 1, attempt {n}", "error of 1", "echo of 1")
    )
    assert [r["event"] for r in told if r["event"] != "output"] == ["failure", "traceback", "result"]


def test_what_a_run_said_last_is_kept_and_shown(swept):
    folder, manifest = swept
    story = run_story(folder, manifest.run_ids[1])
    assert story["words"] == "at seed 1 attempt 1"
    assert "said last: at seed 1 attempt 1" in story_text(story)


def test_a_run_at_work_shows_what_it_says(tmp_path):
    manifest = noop_manifest(3, target=f"{HERE}.Talkative", wait_s=6)
    sweep = threading.Thread(
        target=run, args=(tmp_path, manifest), kwargs={"pool": "local", "num_workers": 1}
    )
    sweep.start()
    shown, until_s = "", time.monotonic() + 60
    while "at seed 2" not in shown and time.monotonic() < until_s and sweep.is_alive():
        time.sleep(0.3)
        if (tmp_path / "status.json").exists():
            shown = status_text(sweep_status(tmp_path))
    sweep.join()
    assert f"{manifest.run_ids[2][:8]}: at seed 2 attempt 0" in shown


@pytest.mark.parametrize("verb", [["log"], ["status"]])
def test_a_run_that_is_not_there_is_refused_with_the_nearest(swept, capsys, verb):
    folder, manifest = swept
    assert main([*verb, str(folder), "--run", "zz"]) == 2
    assert "run 'zz': no run has that id or name" in capsys.readouterr().err
    close = manifest.run_ids[0][:7] + "x"
    assert main([*verb, str(folder), "--run", close]) == 2
    assert f'did you mean "{manifest.run_ids[0][:8]}"' in capsys.readouterr().err


def test_of_runs_computed_together_each_has_what_was_printed_until_it_ended(tmp_path):
    log = tmp_path / "w.log"
    log.write_text(
        "=== run a attempt 0 begins at 2026-01-01T00:00:00Z\n"
        "=== run b attempt 2 begins at 2026-01-01T00:00:00Z\n"
        "both\n=== run a attempt 0 ends: done\nonly b\n"
    )
    assert [line.text for line in output_of(log, {"a"})] == ["both"]
    assert [(line.text, line.attempt) for line in output_of(log, {"b"})] == [("both", 2), ("only b", 2)]


def test_a_process_whose_output_goes_elsewhere_marks_nothing(tmp_path, capfd):
    log = tmp_path / "w.log"
    log.touch()
    RunMarkers(log).begins("a", 0)
    assert (log.read_text(), *capfd.readouterr()) == ("", "", "")


def test_the_driver_that_computes_runs_itself_prints_no_markers(tmp_path, capfd):
    run(tmp_path, noop_manifest(1, target=f"{HERE}.Talkative"))
    assert "=== run" not in "".join(capfd.readouterr())
