"""The Ray that a pool runs on: one that we start on this machine, or a cluster that is already running.

A Ray that we start listens on 127.0.0.1 only, all its processes do, has no dashboard and a small object
store, and keeps its files in a folder of its own that no other user can enter and that goes with it. Whether
the cluster still answers is asked in a thread: Ray's own calls wait a minute for a head that has gone, and
then end the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping

import ray

from orchestrator.pools import ray_internals
from orchestrator.pools.ray_autoscaler import Autoscaler
from orchestrator.pools.temp_folders import TemporaryFolder, temporary_files
from orchestrator.scheduling.events import Node, Shape
from orchestrator.worker.process_env import import_environment, own_import_path
from sweeps.spec.errors import UserError

OBJECT_STORE_MIB = 80
"""Smallest object store that Ray takes: results travel through spools, only messages through Ray."""

LOOK_S = 1.0
"""Period of asking the cluster what it holds; the answer takes about 2 ms."""

PATIENCE_S = 20.0
"""Silence after which the head counts as gone. A restarted one needs less; Ray itself ends us after 60 s."""

CONNECT_S = 5.0
"""Longest a head may take to accept a connection; asked first, since Ray tries for minutes."""

SPEAK_S = 30.0
"""Time that a cluster without a core gets for its first worker node to join, or for its autoscaler to speak,
which starts after the head.
"""

LOOPBACK = "127.0.0.1"

RAY_FOLDER = "r"
"""Ray's folder below ours: it gives everybody every right to its own, and sockets take short paths only."""

WORKERS_FOLDER = "t"
"""Folder below ours for the workers' temporary files."""


class RayCluster:
    """The connection of this process to Ray; one at a time."""

    def __init__(self, name: str, folder: TemporaryFolder | None = None) -> None:
        """Begin to watch the Ray to which this process has just connected.

        Args:
            name: what to call it in messages.
            folder: its files, when we started it.
        """
        self._name = name
        self._folder = folder
        self.node = str(ray.get_runtime_context().get_node_id())
        """Ray's id of the node that this process is on."""
        self.nodes: list[Mapping[str, float]] = []
        """What each node that stays holds in all, by resource, as of about a second ago."""
        self.leaving: frozenset[str] = frozenset()
        """Ids of the nodes whose machines will be taken away soon, likewise."""
        self.grows = False
        """Whether its nodes come and go with what is asked for; once it is true it stays so."""
        self._autoscaler = Autoscaler(ray.get_runtime_context().gcs_address)
        self._wanted: Mapping[Shape, int] = {}
        self._look()
        self._silent_s = 0.0
        self._checked_s = time.monotonic()
        self._answered = threading.Event()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="ray-watch")
        self._watcher.start()

    @property
    def own(self) -> bool:
        """Whether we started it."""
        return self._folder is not None

    def total(self, resource: str) -> float:
        """What all live nodes together hold of a resource."""
        return sum(node.get(resource, 0.0) for node in self.nodes)

    def could_hold(self, demand: Mapping[str, float]) -> bool:
        """Whether some node is large enough, however busy it is."""
        return any(all(node.get(name, 0.0) >= num for name, num in demand.items()) for node in self.nodes)

    def sizes(self) -> tuple[Node, ...]:
        """What each live node holds in all."""
        nodes = (
            Node(
                cpus=node.get("CPU", 0.0),
                gpus=node.get("GPU", 0.0),
                memory_gib=node.get("memory", 0.0) / 2**30,
            )
            for node in self.nodes
        )
        return tuple(nodes)

    def ask_for(self, workers: Mapping[Shape, int]) -> None:
        """Have room for so many workers of each shape, on a cluster that grows; replaces the last wish."""
        self._wanted = workers

    @property
    def is_near(self) -> bool:
        """Whether it has answered just now, so that a call to its head will not wait."""
        return self._silent_s <= 2 * LOOK_S

    def silence(self) -> str:
        """Why the cluster counts as lost, or an empty text; to be called all the time.

        Only time in which this process was awake to listen counts.
        """
        now_s = time.monotonic()
        if self._answered.is_set():
            self._answered.clear()
            self._silent_s = 0.0
        else:
            self._silent_s += min(now_s - self._checked_s, LOOK_S)
        self._checked_s = now_s
        lost = self._silent_s > PATIENCE_S
        return f"{self._name} has not answered for {PATIENCE_S:g} s" if lost else ""

    def _watch(self) -> None:
        while not self._closing.wait(LOOK_S):
            with contextlib.suppress(Exception):  # whatever it is, it is no answer
                self._look()
                self._answered.set()
                self.grows = not self.own and self._autoscaler.speaks()
                if self.grows:
                    self._autoscaler.seek(self._wanted)

    def _look(self) -> None:
        self.leaving = leaving = frozenset(ray_internals.draining_nodes())
        alive = (node for node in ray.nodes() if node["Alive"])
        self.nodes = [node["Resources"] for node in alive if node["NodeID"] not in leaving]

    def close(self) -> None:
        """Disconnect, and stop the Ray that we started with all its processes and files."""
        self._closing.set()
        self._watcher.join(CONNECT_S)
        if self.grows:
            self._autoscaler.take_back()
        ray.shutdown()
        if self._folder is not None:
            self._folder.remove()


def start(
    num_cpus: int, num_gpus: int, environment: Mapping[str, str], memory_gib: float | None = None
) -> RayCluster:
    """Start Ray on this machine with so much to hand out to processes, which get ``environment``.

    Raises:
        UserError: when it does not start.
    """
    folder = TemporaryFolder("ray")
    try:
        (folder.path / WORKERS_FOLDER).mkdir()
        with (
            _environment(
                **environment,
                **folder.mark,
                **temporary_files(folder.path / WORKERS_FOLDER),
                RAY_USAGE_STATS_ENABLED="0",
                **import_environment(own_import_path()),
            ),
            ray_internals.loopback_only(),
            _taken_port() as port,
        ):
            ray.init(
                "local",  # whatever cluster the environment names
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                include_dashboard=False,
                dashboard_host=LOOPBACK,
                dashboard_port=port,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                object_store_memory=OBJECT_STORE_MIB * 2**20,
                job_config=ray_internals.OurPath(),
                **ray_internals.local_options(LOOPBACK, folder.path / RAY_FOLDER, memory_gib),
            )
        return RayCluster("the Ray of this machine", folder)
    except Exception as error:
        ray.shutdown()
        folder.remove()
        raise UserError(f"Ray does not start here ({first_line(error)}); try --pool local") from error


def join(address: str) -> RayCluster:
    """Connect to a cluster; ``auto`` stands for the one that the environment names.

    Raises:
        UserError: when none answers at ``address``.
    """
    if address.startswith("ray://"):
        raise UserError(
            f"--address {address}: is a Ray Client's; give HOST:PORT of the head, from a node of it"
        )
    try:
        head = ray_internals.resolve_address(address)
        host, _, port = head.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        ray.init(address=head, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({first_line(error)}); start one with "
            "`ray start --head`, give the --address of another, or stay on this machine with --pool local"
        ) from error
    cluster = RayCluster(f"the Ray cluster at {ray.get_runtime_context().gcs_address}")
    until_s = time.monotonic() + SPEAK_S
    while not (cluster.grows or cluster.total("CPU")) and time.monotonic() < until_s:
        time.sleep(LOOK_S / 10)
    return cluster


def first_line(error: Exception) -> str:
    """The first line of a Ray error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


@contextlib.contextmanager
def _taken_port() -> Iterator[int]:
    """A port that nobody can listen on. Ray starts its dashboard's process, 116 MiB and most of a second of
    work, even when told not to; that the port is taken keeps it from doing so. It also says so, as an error.
    """
    ray_internals.silence_services()
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables for the processes started inside; Ray's take theirs from ours."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
