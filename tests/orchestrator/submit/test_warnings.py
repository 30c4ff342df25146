"""What plan and launch warn of before a job is submitted."""

from __future__ import annotations

import json

import pytest

from orchestrator.cli import main
from orchestrator.submit.warnings import names_registry

SWEEP = ("sweep=noop", "sweep.n=1", "cluster=kuberay")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("emsweep:0.1.0", False),
        ("lab/emsweep:0.1.0", False),
        ("docker.io/lab/emsweep", True),
        ("localhost/emsweep", True),
        ("registry:5000/emsweep@sha256:0a", True),
        ("ghcr.io/lab/emsweep:1", True),
    ],
)
def test_an_image_names_a_registry_if_its_first_part_is_a_host(image, expected):
    assert names_registry(image) is expected


@pytest.mark.parametrize("verb", [("plan",), ("launch", "--dry-run")])
def test_an_image_that_no_node_can_pull_is_warned_of_with_the_value_and_the_fix(capsys, verb):
    assert main([*verb, *SWEEP]) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "cluster.job.image='emsweep:0.1.0': names no registry" in line
    assert "push the image" in line
    assert "cluster.job.image=registry.example/emsweep:0.1.0" in line
    assert main([*verb, *SWEEP, "--json"]) == 0
    answer = capsys.readouterr()
    assert "warning" not in answer.err
    assert json.loads(answer.out)["warnings"] == [line.removeprefix("warning: ")]


@pytest.mark.parametrize("verb", [("plan",), ("launch", "--dry-run")])
def test_nothing_is_warned_of_once_the_image_names_a_registry(capsys, verb):
    assert main([*verb, *SWEEP, "cluster.job.image=ghcr.io/lab/emsweep:1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_plan_refuses_a_value_that_launch_would_refuse(capsys):
    assert main(["plan", "sweep=noop", "sweep.n=1", "cluster=slurm", 'cluster.job.sbatch=["--mem=3G"]']) == 2
    assert "set cluster.job.memory_gib instead" in capsys.readouterr().err
