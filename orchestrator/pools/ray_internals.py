"""What emsweep uses of Ray that Ray does not promise to keep: all of it is here.

A test holds every name against the version below.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ray._private import ray_constants, state
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray.core.generated import autoscaler_pb2
from ray.experimental.internal_kv import _internal_kv_get, internal_kv_get_gcs_client
from ray.job_config import JobConfig

CHECKED_VERSION = "2.60.0"
"""The version of Ray whose source the names here were read in."""


def resolve_address(address: str) -> str:
    """``host:port`` of a running cluster's head; ``auto`` stands for the one that the environment names.

    Raises:
        ConnectionError: when ``auto`` finds none.
    """
    return canonicalize_bootstrap_address_or_die(address)


def local_options(address: str, folder: Path, memory_gib: float | None = None) -> dict[str, Any]:
    """Options of ``ray.init``: where a Ray of ours listens, the folder for its files, and the memory that its
    workers share, counted unless given.
    """
    options: dict[str, Any] = {"_node_ip_address": address, "_temp_dir": str(folder)}
    return options if memory_gib is None else {**options, "_memory": int(memory_gib * 2**30)}


class OurPath(JobConfig):
    """A job whose workers search for modules where we say: Ray would put the current folder first."""

    def _runtime_env_has_working_dir(self) -> bool:
        return True


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Keep Ray from putting the machine's address in the place of 127.0.0.1, as it does where clusters are
    possible: its processes listen on all addresses unless the node's own is a loopback one.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def silence_services() -> None:
    """Keep Ray from saying that its dashboard did not start."""
    logging.getLogger("ray._private.services").setLevel(logging.CRITICAL)


def is_placed(actor: Any) -> bool:
    """Whether Ray has found room for an actor, and its process has told where it listens."""
    return state.actors(actor._actor_id.hex())["Address"]["Port"] != 0


def draining_nodes() -> set[str]:
    """Ids of the nodes that leave soon, such as those on machines that are about to be preempted."""
    return set(state.state.get_draining_nodes())


RAY = (sys.executable, "-m", "ray.scripts.scripts")
"""The command ``ray`` of this environment, whatever is on the path."""

RAYLET = "raylet"
"""The process that is a node; its command line names the node's id."""

NODE_ID = "--node_id="
"""Before the id."""

WORKER_TITLE = "ray::RayWorker"
"""How the processes of our workers call themselves."""


def drain_command(address: str, node_id: str, *, if_idle: bool, within_s: int) -> Sequence[str]:
    """A command after which a node takes nothing new, and ends once nothing runs on it. It fails where the
    head refuses, as it does for a busy node that leaves only ``if_idle``.
    """
    reason = "IDLE_TERMINATION" if if_idle else "PREEMPTION"
    words = [f"--address={address}", f"--node-id={node_id}", f"--reason=DRAIN_NODE_REASON_{reason}"]
    words += ["--reason-message=its machine is needed elsewhere"]
    words += [] if if_idle else [f"--deadline-remaining-seconds={within_s}"]
    return [*RAY, "drain-node", *words]


class AutoscalerState(NamedTuple):
    """What an autoscaler of the second version has said last."""

    seen: int
    """Version of the cluster's state that it has seen last; 0 where none has spoken."""
    present: int
    """Version of the state as it is now: it grows each time that anybody looks."""
    refuses: bool
    """Whether the cluster cannot become large enough for what is requested: then it gives nothing of it."""


def autoscaler_state() -> AutoscalerState:
    """What the second autoscaler of the cluster that this process is connected to says."""
    status = autoscaler_pb2.GetClusterStatusReply()  # type: ignore[attr-defined]
    status.ParseFromString(internal_kv_get_gcs_client().get_cluster_status())
    told = status.autoscaling_state
    return AutoscalerState(
        seen=told.last_seen_cluster_resource_state_version,
        present=status.cluster_resource_state.cluster_resource_state_version,
        refuses=bool(told.infeasible_cluster_resource_constraints),
    )


def has_first_autoscaler() -> bool:
    """Whether the cluster has an autoscaler of the first version. A head that was started by hand has one
    too, which manages no node: it names each node's type after the node.
    """
    told = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}")
    types = (told.get("autoscaler_report") or {}).get("node_type_mapping") or {}
    return any(kind != f"node_{node}" for node, kind in types.items())
