"""What people see who hand a sweep to a queue; its commands are pretended, a real Slurm is in tests/slurm."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.store.job_note import JobNote, read_job, write_job
from orchestrator.store.layout import Layout

WORDS = ("launch", "sweep=noop", "sweep.n=2", "cluster=slurm", "cluster.job.gpus_per_node=0")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Makes one of Slurm's commands out of lines of a shell; ``sbatch`` takes every job as number 7."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def make(name: str, lines: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)

    make("sbatch", f'cat > "{tmp_path}/submitted"; echo Submitted batch job 7')
    make.submitted = tmp_path / "submitted"
    return make


def test_a_directory_that_another_launch_has_just_submitted_is_not_submitted_again(slurm, capsys):
    assert main([*WORDS, "--dir", "out"]) == 0
    slurm.submitted.unlink()
    layout = Layout(Path("out"))
    write_job(layout, JobNote(system="slurm", job="8", submitted_at=1.0))
    theirs = layout.job.read_text()
    write_job(layout, JobNote(system="slurm", job="7", submitted_at=1.0))
    Path("theirs").write_text(theirs)
    slurm(
        "scontrol",
        "for job; do :; done\n"
        "[ $job = 8 ] && echo JobState=PENDING && exit\n"
        "cat theirs > out/job.json; echo JobState=FAILED",
    )
    assert main([*WORDS, "--dir", "out"]) == 2
    assert "is with Slurm (job 8) already" in capsys.readouterr().err
    assert not slurm.submitted.exists()
    assert read_job(layout).job == "8"


def test_a_job_in_a_state_that_is_no_end_is_not_joined_by_a_second(slurm, capsys):
    assert main([*WORDS, "--dir", "out"]) == 0
    slurm.submitted.unlink()
    for state in ("SPECIAL_EXIT", "POWER_UP_NODE"):
        slurm("scontrol", f"echo JobId=7 JobState={state} Reason=None")
        assert main([*WORDS, "--dir", "out"]) == 2
        assert "emsweep stop out" in capsys.readouterr().err
    assert not slurm.submitted.exists()


def test_a_job_is_not_said_to_wait_for_less_than_no_time(slurm, capsys):
    assert main([*WORDS, "--dir", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["job"] == "7"
    slurm("scontrol", "echo JobId=7 JobState=PENDING Reason=Priority SubmitTime=2999-01-01T00:00:00")
    assert main(["status", "out"]) == 0
    assert "waiting in Slurm (job 7, Priority) for 0" in capsys.readouterr().out


def test_what_goes_on_with_a_sweep_whose_job_has_ended_is_the_launch_that_submitted_it(slurm, capsys):
    assert main([*WORDS, "sweep.about=a question", "--dir", "my out"]) == 0
    slurm("scontrol", "echo JobId=7 JobState=FAILED Reason=NonZeroExitCode")
    again = "emsweep launch sweep=noop sweep.n=2 cluster=slurm cluster.job.gpus_per_node=0 "
    again += "'sweep.about=a question' --dir 'my out'"
    for verb, code in (("status", 0), ("verify", 1), ("resume", 2)):
        capsys.readouterr()
        assert main([verb, "my out"]) == code
        said = capsys.readouterr()
        assert again in said.out + said.err
        assert "emsweep resume" not in said.out + said.err
    slurm.submitted.unlink()
    assert main(shlex.split(again)[1:]) == 0
    assert slurm.submitted.exists()


def test_a_sweep_of_a_queue_ends_on_this_machine_where_that_is_asked_for(slurm, capsys):
    assert main([*WORDS, "--dir", "out"]) == 0
    slurm("scontrol", "echo JobId=7 JobState=FAILED Reason=NonZeroExitCode")
    assert main(["rerun", "out", "--incomplete"]) == 2
    assert "--pool local" in capsys.readouterr().err
    assert main(["resume", "out", "--pool", "local"]) == 0
    assert main(["verify", "out"]) == 0


def test_a_note_of_a_job_holds_no_secret(slurm, capsys):
    secret = "hf_" + "a1B2" * 9
    assert main([*WORDS, f"+cluster.environment.HF_TOKEN={secret}", "--dir", "out"]) == 0
    assert "cluster.job.gpus_per_node=0" in read_job(Layout(Path("out"))).launch
    assert secret not in Layout(Path("out")).job.read_text()


def test_a_machine_joins_for_a_finite_notice_alone(tmp_path, capsys):
    for text in ("nan", "inf", "-1"):
        assert main(["join", str(tmp_path), f"--notice={text}"]) == 2
        assert f"--notice {text}: must be a number" in capsys.readouterr().err
