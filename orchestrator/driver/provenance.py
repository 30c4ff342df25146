"""What is written down about where a sweep came from: ``sweep.yaml``."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from orchestrator.pools.devices import visible_gpus
from orchestrator.store.layout import FORMAT_VERSION
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.toy_settings import toy_settings
from sweeps.spec.identity import plain

PACKAGES = ("emsweep", "torch", "deepspeed", "transformers", "ray", "numpy", "pyarrow")
"""Packages whose version is written down with a sweep."""


MAX_VALUES = 64
"""Values of an axis that are written out; a list of a million would take a minute to read again."""


def provenance(
    manifest: Manifest,
    *,
    pool: str,
    address: str | None,
    about: str,
    sweep_id: str = "",
    metrics: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of ``sweep.yaml``: what was asked, and what it was asked of.

    Args:
        metrics: what the trainers' classes say of their metrics; what the sweep file says is in the manifest.
    """
    toys = [str(setting) for setting in toy_settings(manifest)]
    return {
        "format": FORMAT_VERSION,
        **({"id": sweep_id} if sweep_id else {}),
        "sweep": manifest.sweep,
        "about": about,
        "overrides": list(manifest.overrides),
        "runs": len(manifest),
        "axes": {axis.key: _shown(axis.values) for axis in manifest.axes},
        **({"metrics": dict(metrics)} if metrics else {}),
        **({"toy_settings": toys} if toys else {}),
        "pool": pool,
        "address": address,
        "options": plain(manifest.options),
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


def _shown(values: Sequence[Any]) -> list[Any] | str:
    """An axis for people; the manifest has every value."""
    if len(values) <= MAX_VALUES:
        return list(values)
    return f"{len(values):,} values from {values[0]} to {values[-1]}"


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
