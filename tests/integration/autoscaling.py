"""A Ray cluster that grows and shrinks by itself on this machine: Ray's own autoscaler, whose nodes are
raylets that its provider for tests starts and ends.

Ray's ``AutoscalingCluster`` stops every Ray of the machine before it starts and once more when it ends, and
needs a file that is not in Ray's package; of it the configuration is used.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.harness import Marked, wait_until
from tests.integration.nodes import OBJECT_STORE_BYTES, name_of

HEAD_ID = f"{'f' * 51}00000"
"""Id of the head's node, which the provider expects."""

PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


def _own_address() -> str:
    """The address that Ray gives to this machine, found as it does it; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to_somewhere:
        try:
            to_somewhere.connect(("8.8.8.8", 80))
        except OSError:
            return "127.0.0.1"
        return str(to_somewhere.getsockname()[0])


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


class AutoscalingCluster(Marked):
    """A head without a core, and up to so many nodes of each type."""

    def __init__(
        self,
        types: Mapping[str, Mapping[str, float]],
        most: int,
        *,
        environment: Mapping[str, str],
        version: int = 2,
        idle_s: float = 3.0,
    ) -> None:
        """Start the head.

        Args:
            types: what a node holds, by the name of its type.
            most: nodes of each type, and in all.
            environment: of every node, and so of the workers there.
            version: of the autoscaler.
            idle_s: time after which a node that nobody uses goes.
        """
        super().__init__()
        address = _own_address()
        self.address = f"{address}:{_free_port()}"
        self.access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        config = self.temporary / "config.json"
        config.write_text(json.dumps(self._config(types, most, version, idle_s)))
        second = {"RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD_ID} if version == 2 else {}
        self._log = self.temporary / "head.log"
        with self._log.open("wb") as log:
            self._head = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("ray")),
                    "start",
                    "--head",
                    "--block",
                    "--disable-usage-stats",
                    "--num-cpus=0",
                    f"--autoscaling-config={config}",
                    f"--node-ip-address={address}",
                    f"--port={self.address.rpartition(':')[2]}",
                    "--include-dashboard=false",
                    f"--object-store-memory={OBJECT_STORE_BYTES}",
                    f"--temp-dir={self.temporary / 'ray'}",
                ],
                env={
                    **environment,
                    **self.environment,
                    **self.access,
                    **second,
                    "PYTHONPATH": str(Path.cwd()),
                    "RAY_FAKE_CLUSTER": "1",
                    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
                    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                },
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self._raylets() or self._head.poll() is not None)
        assert self._head.poll() is None, self._log.read_text()

    def _config(
        self, types: Mapping[str, Mapping[str, float]], most: int, version: int, idle_s: float
    ) -> dict[str, Any]:
        store = {"object_store_memory": OBJECT_STORE_BYTES}
        kinds: dict[str, Any] = {
            name: {"resources": {**holds, **store}, "node_config": {}, "min_workers": 0, "max_workers": most}
            for name, holds in types.items()
        }
        kinds["ray.head.default"] = {"resources": {"CPU": 0, **store}, "node_config": {}, "max_workers": 0}
        provider: dict[str, Any] = {"type": "external", "module": PROVIDER, "gcs_address": self.address}
        # All nodes have this machine's address, and nothing is to be installed on them.
        provider |= {"use_node_id_as_ip": True, "disable_node_updaters": True}
        provider["disable_launch_config_check"] = True
        if version == 2:
            provider |= {"launch_multiple": True, "head_node_id": HEAD_ID}
        lists = ("cluster_synced_files", "initialization_commands", "setup_commands", "head_setup_commands")
        lists += ("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
        return {
            "cluster_name": "test",
            "max_workers": most,
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": idle_s / 60,
            "provider": provider,
            "auth": {},
            "available_node_types": kinds,
            "head_node_type": "ray.head.default",
            "file_mounts": {},
            "file_mounts_sync_continuously": False,
            **{name: [] for name in lists},
        }

    def _raylets(self) -> list[psutil.Process]:
        return [process for process in self.processes() if name_of(process) == "raylet"]

    @property
    def num_nodes(self) -> int:
        """Worker nodes that are there: the head's raylet is not one."""
        return max(0, len(self._raylets()) - 1)

    def logs(self) -> str:
        """What the autoscaler has said."""
        found = (self.temporary / "ray").glob("session_2*/logs/monitor.*")
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in found)

    def close(self) -> None:
        """End the head and every node."""
        super().close()
        self._head.wait()
