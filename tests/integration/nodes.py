"""A head and nodes on one machine that share nothing but a network: each has a network namespace, a name and
a disk of its own, and cannot see the folder that the sweeps are in.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.chaos.harness import Marked

OBJECT_STORE_BYTES = 80 * 2**20

START_WORKER = """
hostname "$NAME" &&
for folder in "$DISK" "$RAY" "$HIDDEN"; do mount -t tmpfs tmpfs "$folder"; done &&
exec "$@"
"""


class Nodes(Marked):
    """Node 0 is the head, whose network namespace drivers are to be started in (:attr:`prefix`)."""

    def __init__(self, hidden: Path) -> None:
        """Prepare the network.

        Args:
            hidden: folder that only the head sees.
        """
        super().__init__()
        self._name = f"em{os.getpid()}-"
        self._net = f"10.{os.getpid() % 100 + 100}.7."
        self._hidden = hidden
        self.disk = self.temporary / "disk"
        """Path of each node's own disk."""
        self.address = f"{self._net}1:6379"
        self.prefix = ["ip", "netns", "exec", f"{self._name}0"]
        self.access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._hub = f"{self._name}hub"
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "hub", "type", "bridge")
        _ip("-n", self._hub, "link", "set", "hub", "up")

    def start(self, cpus: int, environment: dict[str, str]) -> int:
        """Let a node join, the head first, whose workers get ``environment``; return its number."""
        number = len(self._processes)
        space, ours, theirs = f"{self._name}{number}", f"{self._name}p{number}", f"{self._name}v{number}"
        _ip("netns", "add", space)
        _ip("link", "add", theirs, "netns", space, "type", "veth", "peer", "name", ours, "netns", self._hub)
        _ip("-n", self._hub, "link", "set", ours, "master", "hub", "up")
        _ip("-n", space, "addr", "add", f"{self._net}{number + 1}/24", "dev", theirs)
        _ip("-n", space, "link", "set", theirs, "up")
        _ip("-n", space, "link", "set", "lo", "up")
        ray = self.temporary / "ray"
        for folder in (self.disk, ray):
            folder.mkdir(exist_ok=True)
        command = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--block",
            "--disable-usage-stats",
            f"--node-ip-address={self._net}{number + 1}",
            f"--num-cpus={cpus}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
        ]
        if number == 0:
            command += ["--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={ray}"]
        else:
            command = ["unshare", "-m", "-u", "sh", "-ec", START_WORKER, "sh", *command]
            command += [f"--address={self.address}"]
        self._processes.append(
            subprocess.Popen(
                ["ip", "netns", "exec", space, *command],
                env={
                    **environment,
                    **self.environment,
                    **self.access,
                    "PYTHONPATH": str(Path.cwd()),
                    "NAME": f"node{number}",
                    "DISK": str(self.disk),
                    "RAY": str(ray),
                    "HIDDEN": str(self._hidden),
                },
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return number

    def cut_off(self, number: int) -> None:
        """Unplug a node."""
        _ip("-n", self._hub, "link", "set", f"{self._name}p{number}", "down")

    def heal(self, number: int) -> None:
        """Plug it in again."""
        _ip("-n", self._hub, "link", "set", f"{self._name}p{number}", "up")

    def power_off(self, number: int) -> None:
        """Kill everything on a node, and unplug it so that nobody is told."""
        self.cut_off(number)
        for process in self.processes_of(number):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def processes_of(self, number: int) -> list[psutil.Process]:
        """Everything alive on a node."""
        pids = subprocess.run(
            ["ip", "netns", "pids", f"{self._name}{number}"], capture_output=True, text=True, check=True
        )
        processes = []
        for pid in map(int, pids.stdout.split()):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
                processes.append(psutil.Process(pid))
        return processes

    def raylets(self) -> list[psutil.Process]:
        """The raylet of each node that has one."""
        processes = (p for number in range(len(self._processes)) for p in self.processes_of(number))
        return [process for process in processes if name_of(process) == "raylet"]

    def close(self) -> None:
        """End every node and its network."""
        super().close()
        for process in self._processes:
            process.wait()
        for space in (self._hub, *(f"{self._name}{n}" for n in range(len(self._processes)))):
            subprocess.run(["ip", "netns", "del", space], check=False)


def name_of(process: psutil.Process) -> str:
    """A process's name, empty once it has ended."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no right to make network namespaces here: {done.stderr.strip()}")
