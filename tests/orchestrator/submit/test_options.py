"""What is refused of the ``cluster`` options before anything is planned, printed or submitted."""

from __future__ import annotations

from importlib import resources

import pytest
import yaml

from orchestrator.cli import main
from orchestrator.submit import render, request_of, warnings_of
from orchestrator.submit.job_fields import KEYS
from orchestrator.submit.options import SYSTEMS, checked_options
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec.errors import UserError


def shipped(system, **more):
    file = resources.files("sweeps.conf").joinpath("cluster", f"{system}.yaml")
    options = yaml.safe_load(file.read_text()) | {"notice_s": 180}
    return {**options, **{key: value for key, value in more.items() if key != "job"}} | {
        "job": {**options["job"], **more.get("job", {})}
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_keys_of_a_job_are_those_of_its_cluster_file(system):
    assert set(KEYS[system]) == set(shipped(system)["job"])
    assert checked_options(shipped(system), {}).system == system


@pytest.mark.parametrize(
    ("system", "changed", "message"),
    [
        ("slurm", {"notice_s": "abc"}, "cluster.notice_s='abc': must be a whole number of seconds from 0"),
        ("slurm", {"notice_s": -1}, "cluster.notice_s=-1"),
        ("slurm", {"notice_s": 1.5}, "cluster.notice_s=1.5"),
        ("slurm", {"notice_s": 70_000}, "from 0 to 65535"),
        ("slurm", {"grace_s": "abc"}, "cluster.grace_s='abc': must be a number of seconds"),
        ("slurm", {"grace_s": float("nan")}, "cluster.grace_s=nan"),
        ("slurm", {"environment": "x"}, "cluster.environment='x': must be a map"),
        ("slurm", {"environment": {"A": True}}, "cluster.environment.A=True: must be a text or a number"),
        ("slurm", {"environment": {"A": [1]}}, r"cluster.environment.A=\[1\]"),
        ("slurm", {"environment": {"RAY_AUTH_MODE": "none"}}, "RAY_AUTH_MODE='none': the job sets it itself"),
        ("slurm", {"environment": {"HF_HOME": "/x"}}, "cluster.job.scratch"),
        ("slurm", {"job": {"setup": ["module load x"]}}, "cluster.job.setup=.*: must be one text"),
        ("slurm", {"job": {"partition": True}}, "cluster.job.partition=True: must be one text"),
        (
            "slurm",
            {"job": {"scratch": "$TMPDIR"}},
            "cluster.job.scratch='.TMPDIR': must be a folder from the",
        ),
        ("slurm", {"job": {"scratch": "/local/$SLURM_JOB_ID"}}, "without variables"),
        ("slurm", {"job": {"scratch": "~/x"}}, "must be a folder from the root"),
        ("slurm", {"job": {"queue": "x"}}, "cluster.job.queue: unknown key; a job of slurm has nodes"),
        ("kuberay", {"job": {"elastic": True}}, "cluster.job.elastic: unknown key; a job of kuberay has"),
        ("kuberay", {"job": {"partition": "x"}}, "cluster.job.partition: unknown key"),
        ("kuberay", {"job": {"nodes_min": 9}}, "cluster.job.nodes_min=9: is above cluster.job.nodes=8"),
        ("kuberay", {"job": {"node_selector": {"a": None}}}, "cluster.job.node_selector.a=None"),
        ("skypilot", {"job": {"elastic": True}}, "cluster.job.elastic: unknown key; a job of skypilot has"),
    ],
)
def test_a_value_that_would_be_misread_is_refused_with_its_rule(system, changed, message):
    with pytest.raises(UserError, match=message):
        checked_options(shipped(system, **changed), {})


@pytest.mark.parametrize("job", [None, 5, "x"])
def test_a_job_that_is_no_map_is_refused(job):
    with pytest.raises(UserError, match=r"cluster\.job=.*must be a map"):
        checked_options({**shipped("slurm"), "job": job}, {})


def test_a_job_of_a_file_that_lacks_a_key_is_told_where_they_come_from():
    with pytest.raises(
        UserError, match=r"has no gpus_per_node, .*; begin the cluster's file with defaults: \[slurm"
    ):
        checked_options({**shipped("slurm"), "job": {"nodes": 2}}, {})


def test_a_variable_that_is_null_is_none_and_a_number_is_its_text():
    asked = shipped("slurm", environment={"A": None, "B": 22, "C": "x"})
    assert checked_options(asked, {}).environment == {"B": "22", "C": "x"}


def test_a_text_that_yaml_reads_as_a_number_is_a_text():
    words = ("sweep=noop", "sweep.n=2", "cluster=kuberay", "cluster.job.image=5", "cluster.job.claim=5")
    text = render(request_of(build_manifest(compose_sweep(words)), words, directory="out"))
    assert 'claimName: "5"' in text
    assert 'image: "5"' in text


def test_a_notice_that_is_no_longer_than_the_grace_is_warned_of():
    assert warnings_of(shipped("slurm")) == []
    for notice_s in (0, 120):
        [warning] = warnings_of(shipped("slurm", notice_s=notice_s))
        assert f"cluster.notice_s={notice_s}: is not longer than cluster.grace_s=120" in warning


@pytest.mark.parametrize("verb", [("plan",), ("launch", "--dry-run")])
@pytest.mark.parametrize(
    "word", ["cluster.grace_s=abc", "cluster.job.nodes=abc", "cluster.max_gpus=-1", "cluster.retries.oom=x"]
)
def test_plan_and_launch_refuse_a_number_that_is_none(capsys, verb, word):
    assert main([*verb, "sweep=noop", "sweep.n=1", "cluster=slurm", word]) == 2
    assert f"error: {word.partition('=')[0]}=" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--until", "2h"), ("--pool", "local"), ("--address", "a:1")])
def test_an_option_that_a_job_would_not_hear_of_is_refused(capsys, option):
    assert main(["launch", "sweep=noop", "sweep.n=1", "cluster=slurm", "--dry-run", *option]) == 2
    assert f"{option[0]}: is for a launch here" in capsys.readouterr().err
