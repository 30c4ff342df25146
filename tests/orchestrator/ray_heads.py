"""A real head of a Ray cluster, for tests of nodes that join one."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestrator.pools.ray_internals import RAY


def ray_variables(token: Path) -> dict[str, str]:
    """Variables of processes that belong to a cluster with this secret."""
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    return {**os.environ, **secret, "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def ray_head(environment: Mapping[str, str]) -> Iterator[str]:
    """A head without a core; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [*RAY, "start", "--head", "--block", f"--port={port}", "--num-cpus=0"]
    command += ["--include-dashboard=false"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    asks = [*RAY, "health-check", f"--address=127.0.0.1:{port}"]
    until_s = time.monotonic() + 90
    while subprocess.run(asks, env=environment, capture_output=True).returncode:
        assert time.monotonic() < until_s
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
