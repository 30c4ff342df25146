"""A machine that joins a sweep's Ray: a real head, a real node, and what goes wrong between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from orchestrator.store.layout import Layout
from orchestrator.store.meeting import announce_meeting
from tests.orchestrator.ray_heads import ray_head, ray_variables

ROOT = Path(__file__).parents[3]


@pytest.fixture
def layout(tmp_path):
    announce_meeting(Layout(tmp_path))
    return Layout(tmp_path)


def meet(layout, state, address=""):
    """What the job that runs the head writes."""
    text = json.dumps({"version": 1, "state": state, "address": address})
    layout.meeting.write_text(text)


def joining(layout, *words, **environment):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "orchestrator.cli",
            "join",
            str(layout.root),
            "--cpus",
            "1",
            "--gpus",
            "0",
            *words,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_until(process, words):
    """Read what a process says until it says this."""
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it has ended and never said {words!r}")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_node_whose_ray_does_not_start_tries_again_and_follows_a_head_that_moves(layout):
    environment = ray_variables(layout.ray_token)
    with ray_head(environment) as first, ray_head(environment) as second:
        meet(layout, "open", first)
        node = joining(layout, "--trust", "--stay", "--json")
        read_until(node, "joining the sweep's Ray")
        kill_starting_ray(node.pid)
        read_until(node, "Ray did not start here; joining again in 2 s")
        read_until(node, "joined: runs may come here now")
        meet(layout, "open", second)
        read_until(node, "the sweep's Ray has moved")
        read_until(node, "joined: runs may come here now")
        meet(layout, "over")
        assert node.wait(60) == 0
        assert json.loads(node.stdout.read()) == {"dir": str(layout.root), "parting": "over", "joined": 2}


def kill_starting_ray(pid):
    """Kill Ray's own command before the node is up."""
    for _ in range(100):
        for child in psutil.Process(pid).children():
            if "ray.scripts.scripts" in child.cmdline():
                child.kill()
                return
        time.sleep(0.05)
    raise AssertionError("Ray was not started")


def test_a_machine_that_waits_for_a_head_leaves_when_it_is_told_to(layout):
    node = joining(layout, "--trust", "--json")
    read_until(node, "waiting for the sweep's Ray")
    node.send_signal(signal.SIGUSR1)
    assert node.wait(30) == 130
    assert json.loads(node.stdout.read())["parting"] == "notice"


def test_nobody_works_for_a_directory_that_he_has_not_launched(tmp_path, layout):
    node = joining(layout)
    assert node.wait(60) == 2
    assert "error:" in node.stderr.read()


def test_a_directory_that_is_not_there_is_refused_rather_than_waited_for(tmp_path):
    node = joining(Layout(tmp_path / "typo"), "--trust")
    assert node.wait(60) == 2
    assert "does not exist" in node.stderr.read()


def test_nobody_works_for_a_head_that_somebody_else_may_name(layout):
    layout.meeting.chmod(0o666)
    node = joining(layout, "--trust", "--stay")
    assert node.wait(60) == 2
    assert "this user's alone" in node.stderr.read()


def test_a_sweep_that_is_over_needs_no_machine(layout):
    meet(layout, "over")
    node = joining(layout, "--trust")
    assert node.wait(60) == 0
