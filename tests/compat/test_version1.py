"""Sweep directories written by format version 1 stay readable, resumable and repeatable.

``version1/`` was written by emsweep 0.1.0 before its modules moved: ``tiny`` real training (8 of 12 runs
done, its second driver killed), ``flaky`` first attempts that fail (2 of 12 pending, 2 cancelled), ``faulty``
two quarantined runs; ``answers.json`` what that version said and what it computed for the rest.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from analysis import open_sweep
from orchestrator.cli import main
from tests.analysis.dashboard.conftest import client_of
from trainers.run_result import NUMERICS

VERSION1 = Path(__file__).with_name("version1")
ANSWERS = json.loads((VERSION1 / "answers.json").read_text())

LOSS_TOLERANCE = 1e-4
"""Another processor adds floats up in another order; on the one that wrote the answers they are equal."""


@pytest.fixture
def directory(tmp_path, request):
    """A copy of one of the directories, named by the test's parameter."""
    return Path(shutil.copytree(VERSION1 / request.param, tmp_path / request.param))


@pytest.fixture
def emsweep(capsys):
    """Runs a verb and returns what it printed."""

    def call(*words: object) -> str:
        main([str(word) for word in words])
        return capsys.readouterr().out

    return call


@pytest.fixture
def answer(emsweep):
    """Runs a verb and returns its JSON object."""
    return lambda *words: json.loads(emsweep(*words, "--json"))


@pytest.mark.parametrize("directory", ["tiny", "flaky", "faulty"], indirect=True)
def test_status_says_what_it_said(directory, answer):
    before, now = ANSWERS[f"status_{directory.name}"], answer("status", directory)
    now["counts"] = {key: now["counts"][key] for key in before["counts"]}  # there are more outcomes now
    assert {key: now[key] for key in before} == before


@pytest.mark.parametrize("directory", ["tiny"], indirect=True)
def test_table_prints_the_same_numbers(directory, emsweep):
    """Every column but the ends of intervals, which went beyond 100 % or were too short, and the counts of
    what is still to be run, which left out the runs of the grown grid.
    """
    printed = emsweep("table", directory, "--format", "csv")
    now, before = (list(csv.DictReader(io.StringIO(text))) for text in (printed, ANSWERS["table_csv"]))
    counts = ("expected", "missing", "num_seeds")
    kept = [name for name in before[0] if not name.endswith(("_low", "_high")) and name not in counts]
    assert [[row[name] for name in counts] for row in now] == [["3", "1", "3"]] * len(now)
    assert [{key: row[key] for key in kept} for row in now] == [
        {key: row[key] for key in kept} for row in before
    ]
    for row in now:
        for name in [name.removesuffix("_low") for name in before[0] if name.endswith("_low")]:
            if row[f"{name}_low"]:
                assert float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"])


@pytest.mark.parametrize("directory", ["tiny"], indirect=True)
def test_resume_computes_the_missing_runs_as_they_would_have_been(directory, answer):
    ended = answer("resume", directory, "--pool", "inline")
    assert (ended["expected"], ended["committed"], ended["new"]) == (12, 12, 4)
    assert answer("verify", directory)["ok"]
    assert f"8 of numerics 1 and 4 of numerics {NUMERICS}" in " ".join(open_sweep(directory).warnings)
    runs, steps = open_sweep(directory).runs(), open_sweep(directory).steps()
    accuracy = dict(zip(runs["run_id"], runs["accuracy_sampled"], strict=True))
    expected = {run_id: run["accuracy_sampled"] for run_id, run in ANSWERS["resumed"].items()}
    assert accuracy == pytest.approx(expected)
    losses = steps[steps["loss"].notna()]
    found: dict[str, dict[str, float]] = {}
    for run_id, step, loss in zip(losses["run_id"], losses["step"], losses["loss"], strict=True):
        found.setdefault(run_id, {})[str(step)] = loss
    assert found.keys() == ANSWERS["losses"].keys()
    for run_id, by_step in found.items():
        assert by_step == pytest.approx(ANSWERS["losses"][run_id], rel=LOSS_TOLERANCE)


@pytest.mark.parametrize("directory", ["tiny"], indirect=True)
def test_replay_repeats_a_run_of_it(directory, answer):
    run_id = next(iter(ANSWERS["resumed"]))
    replayed = answer("replay", directory, run_id)
    assert replayed["run_id"] == run_id
    assert replayed["environment"][0] == f"numerics: 1 then, {NUMERICS} now"
    assert replayed["max_abs_diff"] <= LOSS_TOLERANCE


@pytest.mark.parametrize("directory", ["flaky"], indirect=True)
def test_resume_of_an_own_trainer_keeps_cancelled_runs_cancelled(directory, answer):
    assert "add --allow-target tests" in answer("resume", directory)["error"], "who launched it is not known"
    ended = answer("resume", directory, "--allow-target", "tests")
    assert (ended["committed"], ended["cancelled"], ended["new"]) == (10, 2, 2)
    assert answer("verify", directory)["ok"]


@pytest.mark.parametrize("directory", ["tiny", "flaky", "faulty"], indirect=True)
def test_dashboard_opens_it(directory):
    with client_of(directory) as client:
        for page in ("/", "/runs"):
            assert client.get(page).status_code == 200


@pytest.mark.parametrize("directory", ["flaky"], indirect=True)
def test_a_runs_story_is_told_attempt_by_attempt_with_its_times_unknown(directory, emsweep, answer):
    story = answer("status", directory, "--run", "4ae5df9ef191d806a1fa5183dc565f6d")
    assert (story["outcome"], story["error"]) == ("done", None)
    assert [(a["attempt"], a["ended"], a["granted_at"]) for a in story["attempts"]] == [
        (0, "failed", None),
        (1, "done", None),
    ]
    assert story["attempts"][0]["error"] == "RuntimeError: not in the mood"
    assert "time unknown" in emsweep("status", directory, "--run", story["run_id"])


@pytest.mark.parametrize("directory", ["flaky"], indirect=True)
def test_what_is_written_into_it_raises_its_format_and_keeps_its_runs(directory, answer):
    before = answer("status", directory)["counts"]
    answer("cancel", directory)
    assert "\nformat: 2\n" in "\n" + (directory / "sweep.yaml").read_text()
    after = answer("status", directory)["counts"]
    assert after["cancelled"] == before["cancelled"] + before["pending"]
    assert after["done"] == before["done"]
