"""This machine as a node of a real Ray cluster: it joins, says what it does, and leaves nothing behind."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from orchestrator.pools.marked import marked
from orchestrator.pools.ray_internals import RAY
from orchestrator.pools.ray_node import NODE, RayNode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    token = tmp_path_factory.mktemp("secret") / "token"
    token.write_text(secrets.token_hex(32))
    return {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@pytest.fixture(scope="module")
def head(environment):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [
        *RAY,
        "start",
        "--head",
        "--block",
        f"--port={port}",
        "--num-cpus=0",
        "--include-dashboard=false",
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    address = f"127.0.0.1:{port}"
    until_s = time.monotonic() + 60
    while subprocess.run(
        [*RAY, "health-check", f"--address={address}"], env=environment, capture_output=True
    ).returncode:
        assert time.monotonic() < until_s
    yield address
    process.terminate()
    process.wait()


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
        assert node.drain(if_idle=False, within_s=5)
        wait_until(node, "ended")
        assert not node.drain(if_idle=True)
    finally:
        node.close()


def test_a_node_whose_head_is_not_there_ends_and_says_so(environment):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    node = RayNode(address, num_cpus=1, num_gpus=0, environment=environment)
    try:
        assert not node.drain(if_idle=True)
        wait_until(node, "ended")
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
