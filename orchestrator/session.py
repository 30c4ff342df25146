"""From a manifest and a directory to a finished driver: what ``launch``, ``resume`` and ``rerun`` share."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from orchestrator.driver import Driver, DriverOptions, Summary
from orchestrator.errors import UserError
from orchestrator.events import Capacity
from orchestrator.pools.base import Pool
from orchestrator.pools.devices import visible_gpus
from orchestrator.progress import Progress
from orchestrator.retry import RetryPolicy
from orchestrator.settings import Settings
from orchestrator.store import compact
from orchestrator.store.book import PENDING, Reading, next_epoch, read_book
from orchestrator.store.journal import Journal
from orchestrator.store.layout import FORMAT_VERSION, Layout, write_atomically
from orchestrator.store.lock import DriverLock
from orchestrator.workload import shape_of
from sweeps.manifest import Manifest
from sweeps.spec import nearest

POOLS = ("ray", "local", "inline")
"""Names of the pools."""

PACKAGES = ("emsweep", "torch", "deepspeed", "transformers", "ray", "numpy", "pyarrow")
"""Packages whose version is written down with a sweep."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where and how to run, from the ``cluster`` options and the command line."""

    pool: str = "ray"
    """One of :data:`POOLS`."""
    address: str | None = None
    """Address of a running Ray cluster; ``None`` starts one here."""
    num_workers: int | None = None
    """Processes at once; ``None`` takes the cores, or as many as the GPUs carry."""
    threads: int = 1
    """Compute threads per process."""
    settings: Settings = field(default_factory=Settings)
    """What the scheduler is told."""
    grace_s: float = 10.0
    """Time running work gets when the sweep is stopped."""

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UserError(
                f"pool {self.pool!r}: choose one of {', '.join(POOLS)}{nearest(self.pool, POOLS)}"
            )


def cluster_of(options: Mapping[str, Any], *, pool: str | None = None, address: str | None = None) -> Cluster:
    """Read the ``cluster`` options of a manifest; ``pool`` and ``address`` from the command line win."""
    asked = options.get("cluster") or {}
    retries = asked.get("retries") or {}
    policy = RetryPolicy()
    policy = replace(
        policy,
        infrastructure=retries.get("infrastructure", policy.infrastructure),
        memory=retries.get("oom", policy.memory),
        error=retries.get("error", policy.error),
        timeout=retries.get("timeout", policy.timeout),
    )
    known = {"batch_s": "unit_s"} | {
        k: k
        for k in (
            "watchdog_s",
            "lease_s",
            "canary_hold_s",
            "breaker_runs",
            "memory_watermark_gib",
            "max_gpus",
        )
    }
    tuned = {to: asked[key] for key, to in known.items() if asked.get(key) is not None}
    return Cluster(
        pool=pool or asked.get("pool") or "ray",
        address=address or asked.get("address"),
        num_workers=asked.get("num_workers"),
        threads=asked.get("threads_per_worker") or 1,
        settings=replace(Settings(), policy=policy, **tuned),
        grace_s=asked.get("grace_s") or 10.0,
    )


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


def require_capacity(manifest: Manifest, capacity: Capacity) -> None:
    """Refuse a manifest with a run that could never start.

    Raises:
        UserError: when a run asks for more GPUs or processes than there are.
    """
    for index in _first_of_each_resource(manifest):
        shape = shape_of(manifest.group("resources", index))
        gpus = shape.world_size * shape.gpus
        if gpus > capacity.gpus + 1e-9:
            raise UserError(
                f"resources: a run takes {shape.world_size} x {shape.gpus:g} GPUs, the cluster has "
                f"{capacity.gpus:g}; lower resources.world_size or resources.gpus_per_worker, or give a larger "
                "cluster with --address"
            )
        if shape.world_size > capacity.slots:
            raise UserError(
                f"resources.world_size={shape.world_size}: the cluster has room for {capacity.slots} processes; "
                "lower it or raise cluster.num_workers"
            )


def _first_of_each_resource(manifest: Manifest) -> list[int]:
    first: dict[int, int] = {}
    for index, code in enumerate(manifest.group_codes["resources"].tolist()):
        first.setdefault(code, index)
    return list(first.values())


def pool_factory(manifest: Manifest, cluster: Cluster) -> Callable[[], Pool]:
    """Check what can be checked before anything starts, and return what makes the pool.

    Raises:
        UserError: when the runs do not fit this machine.
    """
    if cluster.pool == "inline":
        from orchestrator.pools.inline import InlinePool

        require_capacity(manifest, Capacity(slots=1))
        return InlinePool
    if cluster.pool == "local":
        from orchestrator.pools.local import LocalPool

        here = local_capacity(manifest, cluster)
        require_capacity(manifest, here)
        return lambda: LocalPool(here.slots, threads=cluster.threads)
    if cluster.address is None:
        here = local_capacity(manifest, cluster)
        require_capacity(manifest, here)
        return lambda: _ray_pool(num_workers=here.slots, threads=cluster.threads)
    return lambda: _ray_pool(
        num_workers=cluster.num_workers, address=cluster.address, threads=cluster.threads
    )


def _ray_pool(address: str | None = None, **arguments: Any) -> Pool:
    from orchestrator.pools import ray_environment

    ray_environment.prepare(own=address is None)
    from orchestrator.pools.ray_pool import RayPool

    return RayPool(address=address, **arguments)


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What a launch found in its directory."""

    new: int
    """Runs of the manifest that the directory did not know."""
    left: int
    """Runs the directory knew that the manifest no longer holds; their results stay in the spools."""


class Session:
    """A sweep directory held by this process."""

    def __init__(self, layout: Layout) -> None:
        """Take the directory.

        Raises:
            UserError: when it cannot be written to or another driver holds it.
        """
        layout.require_writable()
        self.layout = layout
        self._lock = DriverLock(layout.lock)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def freeze(self, manifest: Manifest, *, pool: str, address: str | None) -> Reconciled:
        """Write down what was asked, replacing an earlier manifest."""
        layout = self.layout
        known: Collection[str] = ()
        if layout.manifest.exists():
            earlier = Manifest.read(layout.manifest)
            if earlier.digest == manifest.digest:
                return Reconciled(new=0, left=0)
            known = set(earlier.run_ids)
        manifest.write(layout.manifest)
        document = _document(manifest, pool=pool, address=address)
        write_atomically(layout.config, yaml.safe_dump(document, sort_keys=False).encode(), durable=True)
        new = sum(run_id not in known for run_id in manifest.run_ids)
        return Reconciled(new=new, left=len(known) - (len(manifest) - new))

    def run(
        self,
        manifest: Manifest,
        cluster: Cluster,
        *,
        quiet: bool = False,
        only: Collection[int] | None = None,
        reopen: Collection[int] = (),
        until: float | None = None,
    ) -> Summary:
        """Run what is left, or of it only the runs ``only``; ``reopen`` gives runs that failed fresh budgets."""
        layout, started_s = self.layout, time.monotonic()
        reading = read_book(layout, manifest.run_ids)
        book = reading.book
        for index in reopen:
            book.reopen(index)
        for text in _findings(reading):
            print_unless(quiet, text)
        if not any(code == PENDING and (only is None or i in only) for i, code in enumerate(book.outcome)):
            return self._nothing_to_do(manifest, reading, time.monotonic() - started_s)
        pool = pool_factory(manifest, cluster)()
        try:
            if cluster.address is not None:
                require_capacity(manifest, pool.capacity())
            driver = Driver(
                layout=layout,
                manifest=manifest,
                reading=reading,
                epoch=next_epoch(layout),
                pool=pool,
                settings=cluster.settings,
                options=DriverOptions(grace_s=cluster.grace_s, until=until),
                progress=Progress(total=len(manifest), quiet=quiet),
                reopened=reopen,
                only=only,
            )
            return driver.run()
        finally:
            pool.close()

    def settle(self, manifest: Manifest, indices: Collection[int], outcome: str) -> None:
        """Record the end of runs without running anything."""
        epoch = next_epoch(self.layout)
        journal = Journal(self.layout, epoch, manifest.run_ids)
        journal.epoch(epoch, socket.gethostname(), os.getpid(), manifest.digest)
        journal.settle(sorted(indices), outcome)
        journal.end(outcome)

    def _nothing_to_do(self, manifest: Manifest, reading: Reading, wall_s: float) -> Summary:
        if not compact.is_current(self.layout, manifest.digest) or reading.adopted:
            rebuild_tables(self.layout, manifest, reading)
        counts = reading.book.counts()
        return Summary(
            expected=len(manifest),
            committed=counts["done"] + counts["diverged"],
            diverged=counts["diverged"],
            failed=counts["failed"] + counts["quarantined"],
            cancelled=counts["cancelled"],
            new=0,
            wall_s=wall_s,
            busy_s=0.0,
            interrupted=False,
            reason="",
        )


def rebuild_tables(layout: Layout, manifest: Manifest, reading: Reading) -> None:
    """Write the Parquet tables from the spools alone."""
    compact.rebuild(layout, manifest, reading.book)


def open_manifest(folder: Path) -> tuple[Layout, Manifest]:
    """Open an existing sweep directory.

    Raises:
        UserError: when it is not one, or was made by a newer version.
    """
    layout = Layout(folder)
    layout.require_sweep()
    document = yaml.safe_load(layout.config.read_text())
    version = document.get("format", 0) if isinstance(document, dict) else 0
    if version > FORMAT_VERSION:
        raise UserError(
            f"directory {str(folder)!r}: format {version}, this version knows up to {FORMAT_VERSION}; upgrade emsweep"
        )
    return layout, Manifest.read(layout.manifest)


def stored_pool(layout: Layout) -> tuple[str | None, str | None]:
    """Pool and address that the sweep was launched with."""
    document = yaml.safe_load(layout.config.read_text())
    return document.get("pool"), document.get("address")


def print_unless(quiet: bool, text: str) -> None:
    """Tell people something on standard error."""
    if not quiet:
        import sys

        print(text, file=sys.stderr)


def _findings(reading: Reading) -> list[str]:
    """What reading the directory brought to light, for people."""
    health, found = reading.health, []
    if reading.adopted:
        found.append(f"{len(reading.adopted)} results of the last driver's workers were found and kept")
    if health.num_torn:
        found.append(f"{health.num_torn} spools end in a torn line, which was skipped")
    if health.num_corrupt:
        name, offset = health.corrupt_at[0]
        found.append(f"{health.num_corrupt} corrupt lines were skipped, the first in {name} at byte {offset}")
    if reading.lost:
        found.append(f"{len(reading.lost)} committed results can no longer be read and are computed again")
    return found


def _document(manifest: Manifest, *, pool: str, address: str | None) -> dict[str, Any]:
    """The content of ``sweep.yaml``."""
    return {
        "format": FORMAT_VERSION,
        "sweep": manifest.sweep,
        "overrides": list(manifest.overrides),
        "runs": len(manifest),
        "axes": {axis.key: list(axis.values) for axis in manifest.axes},
        "pool": pool,
        "address": address,
        "options": _plain(manifest.options),
        "manifest": manifest.digest,
        "frozen_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "git_commit": _git_commit(),
        "host": {
            "name": socket.gethostname(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "gpus": len(visible_gpus()),
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the working directory, or ``None`` outside a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
