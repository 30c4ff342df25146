"""This machine as a node of a real Ray cluster: it joins, says what it does, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from orchestrator.pools.marked import marked
from orchestrator.pools.ray_node import NODE, RayNode
from tests.orchestrator.ray_heads import ray_head, ray_variables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    token = tmp_path_factory.mktemp("secret") / "token"
    token.write_text("ab" * 32)
    return ray_variables(token)


@pytest.fixture(scope="module")
def head(environment):
    with ray_head(environment) as address:
        yield address


def wait_until(node, use):
    until_s = time.monotonic() + 150  # Ray tries for a minute and a half
    while node.use() != use:
        assert time.monotonic() < until_s, node.use()
        time.sleep(0.2)


def test_a_node_joins_and_is_let_go_while_nothing_runs_on_it(head, environment):
    node = RayNode(head, num_cpus=1, num_gpus=0, environment=environment)
    try:
        wait_until(node, "idle")
        assert node.drain(if_idle=True)
    finally:
        node.close()


def test_a_node_ends_with_the_process_that_looks_after_it_however_that_ends(head, environment):
    text = (
        "import os, sys, time; from orchestrator.pools.ray_node import RayNode\n"
        f"node = RayNode({head!r}, num_cpus=1, num_gpus=0, environment=os.environ)\n"
        "while node.use() != 'idle': time.sleep(0.2)\n"
        "print(node._mark, flush=True); time.sleep(600)\n"
    )
    keeper = subprocess.Popen(
        [sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, text=True
    )
    mark = f"{NODE}={keeper.stdout.readline().strip()}"
    assert len(marked(mark)) > 1
    os.kill(keeper.pid, signal.SIGKILL)
    keeper.wait()
    until_s = time.monotonic() + 30
    while left := marked(mark):
        assert time.monotonic() < until_s, [psutil.Process(pid).cmdline() for pid in left]
        time.sleep(0.2)
