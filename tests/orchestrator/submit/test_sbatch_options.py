"""Further options of sbatch: each its own line, and none that says what another line says."""

from __future__ import annotations

import pytest

from orchestrator.submit import render
from orchestrator.submit.job_fields import checked_job
from sweeps.spec.errors import UserError
from tests.orchestrator.submit.test_request import request


def test_further_options_of_a_site_are_lines_of_the_job():
    word = 'cluster.job.sbatch=["--reservation=x", "--exclude=n[7-9],n12", "--exclusive", "--gres=tmp:40G"]'
    lines = render(request("cluster=slurm", word)).splitlines()
    expected = ["--reservation=x", "--exclude=n[7-9],n12", "--exclusive", "--gres=tmp:40G"]
    first = lines.index("#SBATCH --reservation=x")
    assert lines[first : first + 4] == [f"#SBATCH {option}" for option in expected]
    assert all(line.startswith("#SBATCH ") for line in lines[1 : first + 4])


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("--nodes=3", "set cluster.job.nodes instead"),
        ("--node=3", "set cluster.job.nodes instead"),  # sbatch takes the beginning of an option for it
        ("--mem-per-cpu=4G", "set cluster.job.memory_gib instead"),
        ("--time=1:00", "set cluster.job.time instead"),
        ("--part=gpu", "set cluster.job.partition instead"),
        ("--gpus=8", "set cluster.job.gpus_per_node instead"),
        ("--gres=gpu:a100:8", "set cluster.job.gpus_per_node instead"),
        ("--signal=B:USR1@10", "set cluster.notice_s instead"),
        ("--clusters=other", "asks the cluster of this machine"),
        ("--job-name=x", "set sweep.name instead"),
        ("--output=x", "reads the log where it is"),
        ("--array=1-4", "cluster.job.nodes"),
        ("--ntasks=4", "one task a node"),
        ("--no-requeue", "queues itself again"),
        ("--test-only", "--dry-run"),
        ("--wait", "--follow"),
    ],
)
def test_an_option_that_contradicts_a_line_of_the_job_is_refused_with_its_key(option, key):
    with pytest.raises(UserError, match=r"cluster\.job\.sbatch='--.* the job says --") as caught:
        checked_job("slurm", {"sbatch": [option]})
    assert key in str(caught.value)


@pytest.mark.parametrize(
    "option",
    ["--time-min=1:00", "--exclusive", "--mail-type=END", "--export=NONE", "--nodelist=n1", "--nice=5"],
)
def test_options_that_only_resemble_one_of_the_jobs_are_taken(option):
    assert checked_job("slurm", {"sbatch": [option]})["sbatch"] == [option]


@pytest.mark.parametrize(
    "option",
    [
        "--comment=a\n#SBATCH --uid=0",
        "--comment=a b",
        "--comment=$(id)",
        "-p gpu",
        "gpu",
        "--x=a#b",
        "--x='a'",
        3,
    ],
)
def test_an_option_that_would_leave_its_line_is_refused(option):
    with pytest.raises(UserError, match=r"cluster\.job\.sbatch=.*would not stay within its line"):
        checked_job("slurm", {"sbatch": [option]})


def test_one_text_is_no_list_of_options():
    with pytest.raises(UserError, match="must be a list of texts"):
        checked_job("slurm", {"sbatch": "--exclusive"})
