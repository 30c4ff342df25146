"""What queues say of a job, read by commands of theirs that are pretended; a real Slurm is in tests/slurm."""

from __future__ import annotations

import json

import pytest

from orchestrator.store.job_note import JobNote, read_job, write_job
from orchestrator.store.layout import Layout
from orchestrator.submit.queued import how_it_ended, last_lines, queued_job, withdraw
from sweeps.spec.errors import UserError


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Makes a command that notes how it was called and prints a text."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, says: str = "", status: int = 0) -> None:
        (folder / f"{name}.says").write_text(says)
        script = f'#!/bin/sh\necho "$*" >> "{folder}/called"\n/bin/cat "$0.says"\nexit {status}\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)

    make.called = folder / "called"
    return make


def job(system: str = "slurm", name: str = "17", log: str = "") -> JobNote:
    return JobNote(system=system, job=name, submitted_at=1.0, log=log)


@pytest.mark.parametrize(
    ("told", "phase", "reason"),
    [
        ("JobId=17 JobName=x JobState=PENDING Reason=Priority Dependency=(null)", "waiting", "Priority"),
        ("JobId=17 JobState=RUNNING Reason=None", "running", ""),
        ("JobId=17 JobState=FAILED Reason=NonZeroExitCode", "ended", "NonZeroExitCode"),
        ("JobId=17 JobState=SPECIAL_EXIT Reason=JobHeldUser", "waiting", "JobHeldUser"),
        ("JobId=17 JobState=A_WORD_OF_NEXT_YEAR Reason=None", "running", ""),
    ],
)
def test_a_job_of_slurm_is_in_the_phase_that_it_says(commands, told, phase, reason):
    commands("scontrol", told)
    found = queued_job(job())
    assert (found.phase, found.reason) == (phase, reason)


def test_a_job_that_slurm_has_forgotten_is_looked_up_in_its_accounts(commands):
    commands("scontrol", status=1)
    commands("sacct", "TIMEOUT\n")
    assert (queued_job(job()).phase, queued_job(job()).words) == ("ended", "Slurm (job 17, TIMEOUT)")


def test_where_no_queue_answers_nothing_is_claimed(commands):
    assert queued_job(job()).phase == "unknown"


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ({}, "waiting"),
        ({"jobDeploymentStatus": "Running"}, "running"),
        ({"jobDeploymentStatus": "Suspending"}, "waiting"),
        ({"jobDeploymentStatus": "ValidationFailed"}, "ended"),
        ({"jobDeploymentStatus": "Complete"}, "ended"),
    ],
)
def test_a_job_of_kuberay_is_asked_for_in_its_namespace(commands, status, phase):
    commands("kubectl", json.dumps({"status": status}))
    assert queued_job(job("kuberay", "team/emsweep-noop")).phase == phase
    assert commands.called.read_text().startswith("--namespace team get rayjob emsweep-noop")


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("PENDING", "waiting"),
        ("STARTING", "waiting"),
        ("RECOVERING", "running"),
        ("FAILED_NO_RESOURCE", "ended"),
        ("ManagedJobStatus.RUNNING", "running"),
    ],
)
def test_a_job_of_skypilot_is_found_among_all_of_its_jobs(commands, status, phase):
    commands("sky", json.dumps([{"job_id": 17, "status": "RUNNING"}, {"job_id": 7, "status": status}]))
    assert queued_job(job("skypilot", "7")).phase == phase
    assert queued_job(job("skypilot", "8")).phase == "unknown"
    if phase == "ended":
        assert "in its bucket" in how_it_ended(queued_job(job("skypilot", "7")))[0]
    withdraw(job("skypilot", "7"))
    assert commands.called.read_text().splitlines()[-1] == "jobs cancel --yes 7"


def test_an_answer_of_kubernetes_that_is_none_claims_nothing(commands):
    for text in ("", "[]", "not json"):
        commands("kubectl", text)
        found = queued_job(job("kuberay", "team/emsweep-noop"))
        assert found.phase == "unknown"
        assert how_it_ended(found) == [
            "job team/emsweep-noop: its queue does not answer here, or has forgotten it"
        ]


@pytest.mark.parametrize("name", ["--all", "17; rm -rf /", "", "a/b"])
def test_what_names_no_job_goes_into_no_command(commands, name):
    for command in ("scontrol", "sacct", "scancel"):
        commands(command)
    assert queued_job(job(name=name)).phase == "unknown"
    with pytest.raises(UserError, match="names no job"):
        withdraw(job(name=name))
    assert not commands.called.exists()


def test_a_queue_that_refuses_to_let_a_job_go_is_quoted(commands):
    commands("scancel", status=1)
    with pytest.raises(UserError, match="still in its queue"):
        withdraw(job())


def test_the_end_of_a_log_is_read_of_a_file_alone(tmp_path):
    log = tmp_path / "emsweep-noop-17.log"
    log.write_text("x" * 200_000 + "\n" + "".join(f"line {n}\n" for n in range(9)))
    assert last_lines(job(log=str(log))) == [f"line {n}" for n in range(4, 9)]
    private = tmp_path / "key"
    private.write_text("secret\n")
    link = tmp_path / "emsweep-link-17.log"
    link.symlink_to(private)
    for other in (private, link, tmp_path / "emsweep-noop-18.log"):
        assert last_lines(job(log=str(other))) == []
    assert last_lines(job(log="/dev/zero")) == last_lines(job(log=str(tmp_path))) == last_lines(job()) == []


def test_a_note_is_read_as_it_was_written_and_a_damaged_one_is_none(tmp_path):
    layout = Layout(tmp_path)
    assert read_job(layout) is None
    write_job(layout, job(log="/a/log"))
    assert read_job(layout) == job(log="/a/log")
    for text in (
        "",
        "[]",
        '{"version": 2}',
        '{"version": 1, "system": 3, "job": "1", "log": "", "submitted_at": 0}',
    ):
        layout.job.write_text(text)
        assert read_job(layout) is None
