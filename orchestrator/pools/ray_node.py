"""This machine as a node of a Ray cluster whose head is elsewhere.

Nothing here speaks to the head itself: a process that does is ended by Ray a minute after the head has gone,
and a node outlives its head.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Mapping
from typing import Literal

import psutil

from orchestrator.pools.marked import end_marked, start_guard
from orchestrator.pools.ray_internals import NODE_ID, RAY, RAYLET, WORKER_TITLE, drain_command

NODE = "EMSWEEP_NODE"
"""Variable that marks the processes of one node."""

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
        self._was_up = False
        self._mark = secrets.token_hex(16)
        self._environment = {**environment, NODE: self._mark}
        start_guard(f"{NODE}={self._mark}")  # a node does not outlive whoever looks after it
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
        if raylet is None:  # one that was let go ends alone: what started it waits on
            return "ended" if self._was_up else "starting"
        self._was_up = True
        with contextlib.suppress(psutil.Error):
            if any(_title(child).startswith(WORKER_TITLE) for child in raylet.children()):
                return "busy"
        return "idle"

    def drain(self, *, if_idle: bool, within_s: float = 0.0) -> bool:
        """Ask the head to let this node leave: nothing new begins here, and Ray may end by itself or wait to
        be closed. False when the head refuses, or does not answer.
        """
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
        """End Ray's processes here, and the workers with them, whatever they do."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        end_marked(f"{NODE}={self._mark}")
        self._process.wait()

    def _raylet(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self._process.pid).children():
                if child.name() == RAYLET and child.status() != psutil.STATUS_ZOMBIE:
                    return child
        return None


def _title(process: psutil.Process) -> str:
    try:
        return process.cmdline()[0]
    except (psutil.Error, IndexError):
        return ""
