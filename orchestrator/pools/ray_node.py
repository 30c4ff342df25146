"""This machine as a node of a Ray cluster whose head is elsewhere.

Nothing here speaks to the head itself: a process that does is ended by Ray a minute after the head has gone,
and a node outlives its head.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Literal

import psutil

from orchestrator.pools.ray_internals import NODE_ID, RAY, RAYLET, WORKER_TITLE, drain_command

END_S = 10.0
"""Time that Ray's processes get to end before they are killed."""

DRAIN_S = 30.0
"""Longest that the head may take to answer whether a node may leave."""

NodeUse = Literal["starting", "busy", "idle", "ended"]
"""Ray's processes begin; workers of ours live here; none does; Ray's processes have ended."""


class RayNode:
    """Ray's processes on this machine, from the moment they are asked for."""

    def __init__(
        self,
        address: str,
        *,
        num_cpus: int | None,
        num_gpus: int | None,
        environment: Mapping[str, str],
    ) -> None:
        """Start them.

        Args:
            address: ``host:port`` of the head.
            num_cpus: cores to offer; Ray counts them if ``None``.
            num_gpus: GPUs to offer, likewise.
            environment: of every process, with the secret of the cluster.
        """
        self.address = address
        self._environment = dict(environment)
        asked = {"--num-cpus": num_cpus, "--num-gpus": num_gpus}
        words = [f"{option}={number}" for option, number in asked.items() if number is not None]
        self._process = subprocess.Popen(
            [*RAY, "start", "--block", "--disable-usage-stats", f"--address={address}", *words],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def use(self) -> NodeUse:
        """What it does just now."""
        if self._process.poll() is not None:
            return "ended"
        raylet = self._raylet()
        if raylet is None:
            return "starting"
        with contextlib.suppress(psutil.Error):
            if any(_title(child).startswith(WORKER_TITLE) for child in raylet.children()):
                return "busy"
        return "idle"

    def drain(self, *, if_idle: bool, within_s: float = 0.0) -> bool:
        """Ask the head to let this node leave; false when it refuses, or does not answer."""
        raylet = self._raylet()
        try:
            ids = [word for word in raylet.cmdline() if word.startswith(NODE_ID)] if raylet else []
            if not ids:
                return False
            command = drain_command(
                self.address, ids[0].removeprefix(NODE_ID), if_idle=if_idle, within_s=int(within_s)
            )
            done = subprocess.run(
                command, env=self._environment, capture_output=True, timeout=DRAIN_S, check=False
            )
        except (psutil.Error, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def close(self) -> None:
        """End Ray's processes here, whatever they do."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
                break

    def _raylet(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self._process.pid).children():
                if child.name() == RAYLET:
                    return child
        return None


def _title(process: psutil.Process) -> str:
    try:
        return process.cmdline()[0]
    except (psutil.Error, IndexError):
        return ""
