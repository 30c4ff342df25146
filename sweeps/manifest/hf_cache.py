"""The model hub: what of a model is already in the local cache, and which commit a revision stands for.
Nothing is downloaded: :mod:`trainers.model.download` does that.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Literal

from sweeps.spec import SpecError

INDEX = "model.safetensors.index.json"
"""File that lists the shards of a large model's weights."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that is a commit already."""

NAME = re.compile(r"\w[\w.+@-]*(/[\w.+@-]+)*")
"""Names of models and revisions; they name folders of the cache."""

CACHED_AS = {"model": "models", "data": "datasets"}
"""How the folders of the cache begin, by the group of a run."""

REFUSALS = (401, 403, 404)
"""Answers of the hub for a model that is gated, private or not there."""

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


def snapshot(hub_id: str, revision: str, group: Literal["model", "data"] = "model") -> Path | None:
    """Return the cached folder of a hub model, or of a data set, at a revision (branch, tag or commit), or
    ``None``.
    """
    for key, name in ((f"{group}.hub_id", hub_id), (f"{group}.revision", revision)):
        if not NAME.fullmatch(name) or ".." in name:
            raise SpecError(f"{key}={name!r}: is no name on the hub, such as owner/model, main or a commit")
    folder = cache_folder() / f"{CACHED_AS[group]}--{hub_id.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    place = folder / "snapshots" / commit
    return place if place.is_dir() else None


def missing_files(hub_id: str, revision: str) -> tuple[str, ...]:
    """Return which files of a hub model are not in the cache; empty when it can be used without a network."""
    folder = snapshot(hub_id, revision)
    if folder is None:
        return ("config.json", "tokenizer.json", "model.safetensors")
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).exists()]
    if (folder / INDEX).exists():
        return (*missing, *missing_shards(folder))
    return (*missing, *(() if any(folder.glob("*.safetensors")) else ("model.safetensors",)))


def missing_shards(folder: Path) -> tuple[str, ...]:
    """Return the weight files that a model folder's index names and the folder lacks."""
    index = folder / INDEX
    if not index.exists():
        return ()
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(
            f"{index}: is no index of weights ({error}); save or download the model again"
        ) from error
    return tuple(s for s in shards if not (folder / s).exists())


def commit_of(hub_id: str, revision: str) -> str | None:
    """Return the commit that ``revision`` stands for in the cache, or ``None`` when it is not there."""
    folder = snapshot(hub_id, revision)
    return folder.name if folder else None


def resolve_commit(hub_id: str, revision: str) -> str | None:
    """Return the commit that ``revision`` stands for: in the cache, else on the hub; ``None`` without either.

    Raises:
        SpecError: if the hub answers that it has no such model or revision, or that it is closed to us.
    """
    known = commit_of(hub_id, revision) or (revision if COMMIT.fullmatch(revision) else None)
    if known or not has_network():
        return known
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers

    address = f"{constants.ENDPOINT}/api/models/{hub_id}/revision/{urllib.parse.quote(revision, safe='')}"
    try:
        request = urllib.request.Request(address, headers=build_hf_headers())
        with urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT_S) as answer:
            commit: str | None = json.load(answer).get("sha")
            return commit
    except urllib.error.HTTPError as error:
        if error.code not in REFUSALS:
            return None
        raise SpecError(
            f"hub model {hub_id} at {revision}: the hub answers {error.code} {error.reason}; check "
            f"model.path and model.revision, and log in with `hf auth login` if the model is gated"
        ) from None
    except (OSError, ValueError):  # no connection, or an answer that is not the hub's
        return None


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
