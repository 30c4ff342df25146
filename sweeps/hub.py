"""The local cache of the model hub: what of a hub model is already here. Reads, never downloads."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

INDEX = "model.safetensors.index.json"
"""File that lists the shards of a large model's weights."""

NETWORK_TIMEOUT_S = 3.0
"""Longest wait for the hub's answer; a working network answers in a tenth of that."""


def cache_folder() -> Path:
    """Return the folder in which the hub's own client keeps models."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = (
        os.environ.get("HF_HOME")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    )
    return Path(home) / "hub"


def snapshot(hub_id: str, revision: str) -> Path | None:
    """Return the cached folder of a hub model at a revision (branch, tag or commit), or ``None``."""
    folder = cache_folder() / f"models--{hub_id.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    place = folder / "snapshots" / commit
    return place if place.is_dir() else None


def missing_files(hub_id: str, revision: str) -> tuple[str, ...]:
    """Return which files of a hub model are not in the cache; empty when it can be used without a network."""
    place = snapshot(hub_id, revision)
    if place is None:
        return ("config.json", "tokenizer.json", "model.safetensors")
    missing = [name for name in ("config.json", "tokenizer.json") if not (place / name).exists()]
    if (place / INDEX).exists():
        return (*missing, *missing_shards(place))
    return (*missing, *(() if any(place.glob("*.safetensors")) else ("model.safetensors",)))


def missing_shards(folder: Path) -> tuple[str, ...]:
    """Return the weight files that a model folder's index names and the folder lacks."""
    index = folder / INDEX
    if not index.exists():
        return ()
    shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    return tuple(s for s in shards if not (folder / s).exists())


def commit_of(hub_id: str, revision: str) -> str | None:
    """Return the commit that ``revision`` stands for in the cache, or ``None`` when it is not there."""
    place = snapshot(hub_id, revision)
    return place.name if place else None


def has_network() -> bool:
    """Say whether the hub answers, within :data:`NETWORK_TIMEOUT_S`; false when told to stay offline."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT_S):
            return True
    except OSError:  # urllib's errors, timeouts and refused connections are all of this kind
        return False
