"""What a sweep would use that must be allowed first. Nothing is imported, unpickled or followed to tell."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from orchestrator.store.layout import Layout
from orchestrator.trust.shipped_scripts import is_shipped
from orchestrator.trust.trusted import Need
from sweeps.manifest.code_files import is_function, names_module, script_of
from sweeps.manifest.manifest import Manifest
from sweeps.spec import TrainerSpec

OWN_PACKAGES = ("trainers",)
"""Packages whose trainers any file may name."""

HYDRA_JOB = "orchestrator.hydra_launcher.trainer.HydraJob"
"""The trainer that unpickles :data:`PICKLE`."""

PICKLE = Path("hydra") / "application.pickle"
"""The one pickle of a sweep directory."""

FOLDERS = (".", "spool", "control", "parts", "logs", "logs/workers", "checkpoints", "hydra", "work")
"""Folders of a sweep directory whose entries are written to by name."""

ENVIRONMENT_ADDRESS = "auto"
"""The address that stands for the cluster that this user's environment names."""


def code_of(manifest: Manifest) -> Iterator[Need]:
    """Trainers outside our own, and models that bring code."""
    for index in _firsts(manifest, "trainer"):
        trainer = manifest.group("trainer", index)
        if trainer.command:
            if not is_shipped(trainer):
                yield Need("command", command_text(trainer))
        elif is_function(trainer) or not is_within(trainer.target, OWN_PACKAGES):
            yield Need("target", trainer.target)
    for index in _firsts(manifest, "model"):
        model = manifest.group("model", index)
        if model.trust_remote_code:
            yield Need("remote_code", model.hub_id or model.path or model.name)


def command_text(trainer: TrainerSpec) -> str:
    """A command as a shell would take it, its script by its whole path."""
    words = list(trainer.command)
    script = script_of(words, Path(trainer.folder))
    if script and not names_module(words):
        words[script[0]] = str(script[1])
    return shlex.join(words)


def allows_command(text: str, allowed: Iterable[str]) -> bool:
    """Whether words of this user allow a command: they name its program, or the script that is its first
    word, or its second after a program without options.
    """
    program, second = [*shlex.split(text), "", ""][:2]
    script = program if "/" in program else second if second.startswith("/") else ""
    return any(
        word and (word == program or (script and f"/{Path(script)}".endswith(f"/{Path(word)}")))
        for word in allowed
    )


def places_of(address: str | None, node_spools: str) -> Iterator[Need]:
    """Settings that send work or files elsewhere: what answers at a Ray address decides what we unpickle."""
    if address not in (None, "", ENVIRONMENT_ADDRESS):
        yield Need("address", str(address))
    if node_spools:
        yield Need("node_spools", node_spools)


def files_of(layout: Layout, manifest: Manifest) -> Iterator[Need]:
    """The pickle that a Hydra application's jobs load, and links that lead out of the directory."""
    targets = {manifest.group("trainer", i).target for i in _firsts(manifest, "trainer")}
    pickle = layout.root / PICKLE
    if HYDRA_JOB in targets and pickle.is_file():
        yield Need("pickle", hashlib.sha256(pickle.read_bytes()).hexdigest())
    yield from links_of(layout.root)


def links_of(root: Path) -> Iterator[Need]:
    """Links by which something written into the directory would land elsewhere."""
    inside = root.resolve()
    for folder in FOLDERS:
        try:
            entries = list(os.scandir(root / folder))
        except OSError:
            continue
        for entry in entries:
            if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(inside):
                yield Need("link", f"{Path(entry.path).relative_to(root)} -> {Path(entry.path).resolve()}")


def is_within(target: str, packages: tuple[str, ...]) -> bool:
    """Whether a class or a function lies in one of these packages or modules."""
    target = target.replace(":", ".")
    return any(target == package or target.startswith(f"{package}.") for package in packages)


def _firsts(manifest: Manifest, group: str) -> list[int]:
    """One run of each distinct configuration of a group."""
    _, firsts = np.unique(manifest.group_codes[group], return_index=True)
    return sorted(firsts.tolist())
