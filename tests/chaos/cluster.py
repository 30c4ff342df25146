"""A Ray cluster of several nodes on this machine, to be taken apart.

``python -m tests.chaos.cluster FOLDER CPUS...`` starts a head without CPUs and a node for each further
number, with real raylets (``ray.cluster_utils``), and prints a JSON line for each. A number on its standard
input adds a node with so many CPUs; the end of its input ends the cluster.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

from tests.chaos.harness import Marked

OBJECT_STORE_BYTES = 80 * 2**20


class RayNodes(Marked):
    """The cluster, in processes of its own."""

    def __init__(self, *cpus: int) -> None:
        super().__init__()
        self.access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        """Environment that drivers need to be let in."""
        self.environment |= {**self.access, "RAY_TMPDIR": str(self.temporary), "RAY_USAGE_STATS_ENABLED": "0"}
        self._process: subprocess.Popen[str] | None = None
        self._cpus = cpus
        self.nodes: list[dict[str, int]] = []
        """Pids of each node's services by name, the head's first."""
        self.address = ""

    def start(self, environment: dict[str, str]) -> None:
        """Start the nodes, whose workers get ``environment`` too."""
        self.environment = {**environment, **self.environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.temporary / "ray"), *map(str, self._cpus)],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        head = self._read()
        self.address = head.pop("address")
        self.nodes = [head, *(self._read() for _ in self._cpus)]

    def add(self, cpus: int) -> None:
        """Let a node join."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{cpus}\n")
        self._process.stdin.flush()
        self.nodes.append(self._read())

    def _read(self) -> dict:
        assert self._process is not None
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def kill(self, node: int, service: str) -> None:
        """``kill -9`` of a node's ``raylet``, or of the head's ``gcs_server``."""
        os.kill(self.nodes[node][service], signal.SIGKILL)

    def close(self) -> None:
        """End the cluster whatever state it is in."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        super().close()


def main() -> None:
    """Start the cluster, add to it, and end it."""
    from ray.cluster_utils import Cluster

    folder = Path(sys.argv[1])
    folder.mkdir()
    cluster = Cluster()

    def add(cpus: int) -> dict:
        node = cluster.add_node(
            num_cpus=cpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            temp_dir=str(folder),
        )
        return {name: processes[0].process.pid for name, processes in node.all_processes.items()}

    head = add(0)
    print(json.dumps({"address": cluster.address, **head}), flush=True)
    for cpus in sys.argv[2:]:
        print(json.dumps(add(int(cpus))), flush=True)
    for line in sys.stdin:
        print(json.dumps(add(int(line))), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
