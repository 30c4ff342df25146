"""What runs report, seen while they run, after they died and once they are done."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from analysis import open_sweep
from orchestrator.inspect.log import records
from orchestrator.inspect.status import run_story, status_text, story_text, sweep_status
from orchestrator.mirror import mirror_sweep
from orchestrator.store.layout import Layout
from tests.analysis.dashboard.conftest import client_of
from tests.chaos.harness import Sweep, kill, wait_until


@pytest.fixture
def sweep(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    words = ("sweep=noop", "sweep.n=2", "trainer.target=tests.chaos.trainers.Telling")
    words += (f"+trainer.params.folder={notes}", "cluster.num_workers=1", "cluster.batch_s=0")
    made = Sweep(tmp_path / "sweep", *words, pace_s=60)
    yield made
    made.close()


def newest(sweep):
    if not (sweep.folder / "manifest.parquet").exists() or not (sweep.folder / "sweep.yaml").exists():
        return []
    return sweep_status(sweep.folder).get("newest", [])


def page(sweep, run_id):
    client = client_of(sweep.folder)
    return client.get(f"/run/{run_id}").text, client.get(f"/run/{run_id}/curves.svg").status_code


def test_steps_are_shown_while_a_run_goes_on_kept_when_it_dies_and_its_own_once_it_is_done(sweep):
    process = sweep.launch()
    wait_until(lambda: bool(newest(sweep)))
    [row] = newest(sweep)
    assert row["metrics"] == {"loss": 1 / (row["step"] + 1), "nth": 0}
    assert f"{row['name']}: step " in status_text(sweep_status(sweep.folder))
    wait_until(lambda: newest(sweep)[0]["step"] > row["step"])
    live = open_sweep(sweep.folder)
    assert len(live.runs()) == 2
    reported = live.reported()
    assert set(reported["run_id"]) == {row["run_id"]}
    assert reported["ended"].isna().all()
    assert list(reported["step"]) == list(range(len(reported)))
    text, drawn = page(sweep, row["run_id"])
    assert "Reported so far" in text
    assert drawn == 200

    kill(process)
    sweep.assert_no_process_left()
    [attempt] = run_story(sweep.folder, row["run_id"])["attempts"]
    assert attempt["ended"] is None
    assert attempt["reported"] == attempt["newest"]["step"] + 1 >= len(reported)
    assert f"reported {attempt['reported']} steps, last step" in story_text(
        run_story(sweep.folder, row["run_id"])
    )
    told = [r for r in records(Layout(sweep.folder), {row["run_id"]}) if r["event"] == "step"]
    assert [r["step"] for r in told] == list(range(attempt["reported"]))
    assert not [r for r in records(Layout(sweep.folder)) if r["event"] == "step"]

    sweep.finish()
    done = open_sweep(sweep.folder)
    assert len(done.steps()) == 2 * 3
    again = done.where(f"seed={done.runs().set_index('run_id').loc[row['run_id'], 'seed']}").reported()
    assert set(again["run_id"]) == {row["run_id"]}
    assert list(again.groupby("attempt")["ended"].first().fillna("unknown")) == ["unknown", "done"]
    assert list(again[again["attempt"] == 1]["step"]) == [0, 1, 2]
    assert list(done.where("seed=0").steps()["nth"].unique()) in ([0], [1])
    text, _ = page(sweep, row["run_id"])
    assert f"Attempt 0 reported {attempt['reported']:,} steps" in text.replace("\u202f", ",")
    assert "Reported so far" not in text


def test_a_sweep_in_which_nothing_was_reported_has_an_empty_frame_and_no_folder(tmp_path):
    words = ["launch", "sweep=noop", "sweep.n=3", "--dir", str(tmp_path / "s"), "--pool", "inline", "--json"]
    subprocess.run([sys.executable, "-m", "orchestrator.cli", *words], check=True, capture_output=True)
    frame = open_sweep(tmp_path / "s").reported()
    assert len(frame) == 0
    assert {"run_id", "seed", "attempt", "ended", "step", "reported_at"} <= set(frame.columns)
    assert not (tmp_path / "s" / "reports").exists()


def test_what_is_reported_is_valid_json_on_the_command_line(sweep):
    sweep.pace(0.0)
    sweep.finish()
    run_id = open_sweep(sweep.folder).runs()["run_id"][0]
    words = [sys.executable, "-m", "orchestrator.cli"]

    def printed(verb, *more):
        command = [*words, verb, str(sweep.folder), "--run", run_id, *more]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout

    assert json.loads(printed("status", "--json"))["attempts"][0]["newest"]["step"] == 2
    steps = [json.loads(line) for line in printed("log").splitlines()]
    assert [s["step"] for s in steps if s["event"] == "step"] == [0, 1, 2]


SCRIPT = """
import sys
import time
from pathlib import Path

from emsweep import report
from trainers.own import NUMBER  # the project's own package

for step in range(3):
    decision = report(step, loss=NUMBER / (step + 1), **{"eval/accuracy": step / 2})
    assert not decision.stop
while sys.argv[1] == "1" and not Path(__file__).with_name("go").exists():
    time.sleep(0.05)
print("final:", NUMBER)
"""

SCRIPT_SWEEP = """
# @package _global_
defaults: [{override /trainer: command}, {override /example: text}, {override /eval: none}]
trainer:
  command: [python, train.py, "{seed}"]
  patterns: {final: "final: ([0-9]+)"}
sweep: {axes: {seed: range(2)}}
"""


def test_a_script_reports_as_a_trainer_does_whatever_its_projects_packages_are_called(tmp_path):
    project = tmp_path / "project"
    (project / "trainers").mkdir(parents=True)
    (project / "trainers" / "__init__.py").touch()
    (project / "trainers" / "own.py").write_text("NUMBER = 6\n")
    (project / "train.py").write_text(SCRIPT)
    (project / "sweep.yaml").write_text(SCRIPT_SWEEP)
    words = (f"sweep={project / 'sweep.yaml'}", "cluster.num_workers=1", "--allow-target", "train.py")
    sweep = Sweep(tmp_path / "sweep", *words)
    try:
        process = sweep.launch()
        wait_until(lambda: any(row["name"].endswith("s1") and row["step"] == 2 for row in newest(sweep)))
        sweep.workers()[0].kill()  # the script goes with it; what it had reported stays
        wait_until(lambda: any(row["name"].endswith("s1") and row["attempt"] == 1 for row in newest(sweep)))
        kill(process)
        sweep.assert_no_process_left()
        (project / "go").touch()
        sweep.finish()
        found = open_sweep(sweep.folder)
        reported = found.reported()
        assert list(reported[reported["seed"] == 1].groupby("attempt")["step"].apply(list)) == [[0, 1, 2]] * 3
        assert list(reported["eval/accuracy"].unique()) == [0.0, 0.5, 1.0]
        assert list(found.steps()["loss"]) == [6.0, 3.0, 2.0] * 2
        assert list(found.runs()["final"]) == [6, 6]
    finally:
        sweep.close()


@pytest.mark.parametrize("to", ["tensorboard", "wandb"])
def test_a_mirror_that_follows_shows_runs_at_work_and_copies_each_whole_once_it_is_done(
    sweep, to, monkeypatch
):
    pytest.importorskip(to)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    process = sweep.launch()
    wait_until(lambda: bool(newest(sweep)))
    run_id = newest(sweep)[0]["run_id"]
    seen = []

    def look(_: float) -> None:
        """What the loop of the mirror does instead of waiting."""
        seen.append(shown(sweep.folder, to, run_id))
        if len(seen) > 100 or (seen[-1] and seen[-1] > seen[0]):
            sweep.pace(0.0)
        time.sleep(0.2)

    report = mirror_sweep(sweep.folder, to=to, project="p", online=False, follow=True, sleep=look)
    process.communicate(timeout=60)
    assert seen[-1] > seen[0]
    assert (report.new, report.already) == (2, 0)
    again = mirror_sweep(sweep.folder, to=to, project="p", online=False)
    assert (again.new, again.already) == (0, 2)
    kept = len(open_sweep(sweep.folder).steps().query(f"run_id == '{run_id}'"))
    if to == "tensorboard":
        assert shown(sweep.folder, to, run_id) == kept
    else:
        assert len(list((sweep.folder / "wandb").glob("offline-run-*"))) == 2


def shown(folder, to, run_id):
    """Steps of a run that TensorBoard reads, or bytes of W&B's offline file."""
    if to == "wandb":
        return sum(p.stat().st_size for p in (folder / "wandb").glob(f"offline-run-*-{run_id}/*.wandb"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [path] = (folder / "tensorboard").glob(f"cell-*/{run_id}")
    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    return len(events.Scalars("loss")) if "loss" in events.Tags()["scalars"] else 0


def test_rows_on_a_nodes_own_disk_are_in_the_sweep_directory_while_the_run_goes_on(sweep, tmp_path):
    sweep.words += (f"cluster.node_spools={tmp_path / 'node'}",)
    process = sweep.launch()
    wait_until(lambda: bool(newest(sweep)))
    process.kill()
    process.communicate()
    sweep.finish()
    for kept in (tmp_path / "node" / "reports").iterdir():
        own, copy = kept.read_bytes(), (sweep.folder / "reports" / kept.name).read_bytes()
        assert own.startswith(copy)  # what a worker wrote in the driver's last second did not arrive
        assert kept.name.startswith("e1-") or own == copy
    assert len(open_sweep(sweep.folder).steps()) == 2 * 3
