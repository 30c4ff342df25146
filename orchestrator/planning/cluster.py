"""Where a sweep runs: the ``cluster`` options, whether the runs fit, and the pool that follows from them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orchestrator.pools.base import Pool
from orchestrator.pools.devices import visible_gpus
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.events import Capacity, Shape
from orchestrator.scheduling.retry import RetryPolicy
from orchestrator.scheduling.workload import shape_of
from orchestrator.submit.options import checked_options
from sweeps.manifest.manifest import Manifest
from sweeps.spec import nearest
from sweeps.spec.environment import filled_in
from sweeps.spec.errors import UserError

if TYPE_CHECKING:
    from orchestrator.pools.lasting import LastingPool

POOLS = ("ray", "local", "inline")
"""Names of the pools."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where and how to run, from the ``cluster`` options and the command line."""

    pool: str = "ray"
    """One of :data:`POOLS`."""
    address: str | None = None
    """Address of a running Ray cluster; ``None`` starts one here."""
    grows_to: int = 0
    """Processes that there will be room for once all nodes have joined, for which runs wait; 0 if none joins.
    """
    num_workers: int | None = None
    """Processes at once; ``None`` takes the cores, or as many as the GPUs carry."""
    threads: int = 1
    """Compute threads per process."""
    settings: SchedulerConfig = field(default_factory=SchedulerConfig)
    grace_s: float = 10.0
    """Time running work gets when the sweep is stopped."""
    node_spools: str = ""
    """Folder on each node for the spools of its workers; empty keeps them in the sweep directory."""

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UserError(
                f"pool {self.pool!r}: choose one of {', '.join(POOLS)}{nearest(self.pool, POOLS)}"
            )


_AT_LEAST = {
    "num_workers": 1,
    "grows_to": 1,
    "threads_per_worker": 1,
    "batch_s": 0,
    "watchdog_s": 0,
    "lease_s": 2,
    "grace_s": 0,
    "canary_hold_s": 0,
    "breaker_runs": 1,
    "memory_watermark_gib": 0,
    "give_back_s": 0,
    "max_gpus": 0,
}
"""Smallest value of each number among the ``cluster`` options; a lease must outlast a few heartbeats, which
come every second.
"""

_WHOLE = ("num_workers", "grows_to", "threads_per_worker", "breaker_runs")

_TUNABLE = {
    "batch_s": "unit_s",
    "watchdog_s": "watchdog_s",
    "lease_s": "lease_s",
    "canary_hold_s": "canary_hold_s",
    "breaker_runs": "breaker_runs",
    "memory_watermark_gib": "memory_watermark_gib",
    "give_back_s": "give_back_s",
    "max_gpus": "max_gpus",
}
"""Keys of the ``cluster`` options and the fields of :class:`SchedulerConfig` they set."""


def cluster_of(options: Mapping[str, Any], *, pool: str | None = None, address: str | None = None) -> Cluster:
    """Read the ``cluster`` options of a manifest; ``pool`` and ``address`` from the command line win.

    Raises:
        UserError: for an unknown pool, or a number that is none or too small.
    """
    asked = filled_in(options.get("cluster") or {}, os.environ)
    retries = asked.get("retries") or {}
    for key, least in _AT_LEAST.items():
        _check(f"cluster.{key}", asked.get(key), least, whole=key in _WHOLE)
    for key, budget in retries.items():
        _check(f"cluster.retries.{key}", budget, 0, whole=True)
    policy = RetryPolicy()
    policy = replace(
        policy,
        infrastructure=retries.get("infrastructure", policy.infrastructure),
        oom=retries.get("oom", policy.oom),
        error=retries.get("error", policy.error),
        timeout=retries.get("timeout", policy.timeout),
    )
    tuned = {to: asked[key] for key, to in _TUNABLE.items() if asked.get(key) is not None}
    return Cluster(
        pool=pool or asked.get("pool") or "ray",
        address=address or asked.get("address"),
        grows_to=asked.get("grows_to") or 0,
        num_workers=asked.get("num_workers"),
        threads=asked.get("threads_per_worker") or 1,
        settings=replace(SchedulerConfig(), policy=policy, **tuned),
        grace_s=10.0 if asked.get("grace_s") is None else asked["grace_s"],
        node_spools=asked.get("node_spools") or "",
    )


def _check(name: str, value: Any, least: float, *, whole: bool) -> None:
    if value is None:
        return
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < math.inf:
        number = "a whole number" if whole else "a number"
        raise UserError(f"{name}={value}: must be {number} of at least {least}, or null for the default")


def local_capacity(manifest: Manifest, cluster: Cluster) -> Capacity:
    """What this machine offers: its GPUs, and a slot a core unless told otherwise, enough for the largest
    gang.
    """
    shapes = {shape_of(manifest.group("resources", i)) for i in _first_of_each_resource(manifest)}
    gpus = visible_gpus()
    slots = cluster.num_workers or len(os.sched_getaffinity(0))
    per_worker = max((s.gpus for s in shapes), default=0.0)
    if per_worker > 0 and not cluster.num_workers:
        slots = max(1, int(len(gpus) / per_worker))
    return Capacity(slots=max(slots, *(s.world_size for s in shapes)), gpus=float(len(gpus)))


def expected_capacity(asked: Mapping[str, Any]) -> Capacity:
    """What a plan reckons with: the nodes of the job that a launch would submit, else this machine.

    Args:
        asked: the ``cluster`` options. Where ``num_workers`` or ``max_gpus`` are set, they hold instead.

    Raises:
        UserError: for a number that is none, or a value that its job does not take.
    """
    cluster = cluster_of({"cluster": asked})
    if asked.get("submit"):
        job = checked_options(asked, os.environ).job
        slots, gpus = (job["nodes"] * job[f"{what}_per_node"] for what in ("cpus", "gpus"))
    else:
        slots, gpus = len(os.sched_getaffinity(0)), len(visible_gpus())
    return Capacity(slots=cluster.num_workers or slots, gpus=float(cluster.settings.max_gpus or gpus))


def require_capacity(
    manifest: Manifest, capacity: Capacity, max_gpus: float = 0.0, max_workers: int | None = None
) -> None:
    """Refuse a manifest with a run that could never start. What a cluster that grows could become nobody
    knows before it is asked.

    Args:
        manifest: the runs.
        capacity: what there is.
        max_gpus: the cap on GPUs in use, 0 for none.
        max_workers: the cap on processes in use.

    Raises:
        UserError: when a run asks for more GPUs or processes than there are, or its ranks for parts of GPUs.
    """
    for index in _first_of_each_resource(manifest):
        shape = shape_of(manifest.group("resources", index))
        gpus = shape.world_size * shape.gpus
        if shape.gpus % 1 and shape.world_size > 1:
            raise UserError(
                f"resources.gpus_per_worker={shape.gpus:g} with world_size={shape.world_size}: must be "
                "whole, since the ranks of a gang cannot share a GPU"
            )
        if 0 < max_gpus < gpus - 1e-9:
            raise UserError(
                f"cluster.max_gpus={max_gpus:g}: a run takes {gpus:g} GPUs and could never start; raise it"
            )
        if gpus > capacity.gpus + 1e-9 and not capacity.grows:
            raise UserError(
                f"resources: a run takes {shape.world_size} x {shape.gpus:g} GPUs, the cluster has "
                f"{capacity.gpus:g}; lower resources.world_size or resources.gpus_per_worker, or give a "
                "larger cluster with --address"
            )
        slots = capacity.slots if not capacity.grows else max_workers or shape.world_size
        if shape.world_size > slots:
            raise UserError(
                f"resources.world_size={shape.world_size}: the cluster has room for {slots} "
                "processes; lower it or raise cluster.num_workers"
            )
        if not capacity.grows and (room := capacity.room(shape)) < shape.world_size:
            raise UserError(
                f"resources: a run takes {shape.world_size} x {shape.cpus:g} cores, {shape.gpus:g} GPUs and "
                f"{shape.memory_gib:g} GiB, each on one node, and the nodes have room for {room:g} of these; "
                "lower resources.cpus_per_worker, gpus_per_worker or memory_gib, or give larger nodes"
            )


def _first_of_each_resource(manifest: Manifest) -> list[int]:
    first: dict[int, int] = {}
    for index, code in enumerate(manifest.group_codes["resources"].tolist()):
        first.setdefault(code, index)
    return list(first.values())


def _largest_shape(manifest: Manifest) -> Shape:
    shapes = [shape_of(manifest.group("resources", i)) for i in _first_of_each_resource(manifest)]
    return Shape(cpus=max(s.cpus for s in shapes), memory_gib=max(s.memory_gib for s in shapes))


def lasting_pool(manifest: Manifest, cluster: Cluster) -> LastingPool:
    """A local pool for several drivers, one after the other.

    Raises:
        UserError: when the runs do not fit this machine.
    """
    from orchestrator.pools.lasting import LastingPool

    here = local_capacity(manifest, cluster)
    require_capacity(manifest, here, cluster.settings.max_gpus)
    return LastingPool(here.slots, threads=cluster.threads)


def pool_factory(manifest: Manifest, cluster: Cluster) -> Callable[[], Pool]:
    """Check what can be checked before anything starts, and return what makes the pool.

    Raises:
        UserError: when the runs do not fit this machine.
    """
    max_gpus = cluster.settings.max_gpus
    if cluster.pool == "inline":
        from orchestrator.pools.inline import InlinePool

        require_capacity(manifest, Capacity(slots=1))
        return InlinePool
    if cluster.pool == "local":
        from orchestrator.pools.local import LocalPool

        here = local_capacity(manifest, cluster)
        require_capacity(manifest, here, max_gpus)
        return lambda: LocalPool(here.slots, threads=cluster.threads)
    if cluster.address is None:
        here = local_capacity(manifest, cluster)
        require_capacity(manifest, here, max_gpus)
        return lambda: _ray_pool(
            num_workers=here.slots, threads=cluster.threads, largest=_largest_shape(manifest)
        )
    return lambda: _ray_pool(
        num_workers=cluster.num_workers, address=cluster.address, threads=cluster.threads
    )


def _ray_pool(address: str | None = None, **arguments: Any) -> Pool:
    from orchestrator.pools import ray_environment

    ray_environment.prepare(own=address is None)
    from orchestrator.pools.ray_pool import RayPool

    return RayPool(address=address, **arguments)
