"""Which functions and scripts two manifests do not agree on. Pure: digests are compared, no file is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from sweeps.manifest.manifest import Manifest
from sweeps.spec import TrainerSpec

DIGEST_KEY = "trainer.digest"
"""The key by which runs of two versions of a file differ."""


def changed_code(earlier: Manifest, manifest: Manifest) -> list[str]:
    """Names of the files that both manifests name, with another content."""
    before = {code_key(t): t.digest for t in hashed_trainers(earlier)}
    changed = (t for t in hashed_trainers(manifest) if before.get(code_key(t), t.digest) != t.digest)
    return list(dict.fromkeys(code_name(trainer) for trainer in changed))


def told_changes(names: list[str], *, left: int, new: int) -> str:
    """What a change of code means for the runs of a directory."""
    verb = "has" if len(names) == 1 else "have"
    stay = f"{left:,} run{'s' * (left != 1)} of the earlier file stay{'s' * (left == 1)} on disk"
    return f"{', '.join(names)} {verb} changed since the last launch: {stay}, {new:,} to run"


def hashed_trainers(manifest: Manifest) -> Iterator[TrainerSpec]:
    """The distinct trainers whose code is a file that was hashed, in the order of the runs."""
    _, firsts = np.unique(manifest.group_codes["trainer"], return_index=True)
    seen = set()
    for index in sorted(firsts.tolist()):
        trainer = manifest.group("trainer", index)
        known = (code_key(trainer), trainer.folder, trainer.digest)
        if trainer.digest and known not in seen:
            seen.add(known)
            yield trainer


def code_key(trainer: TrainerSpec) -> str:
    """What names the code, as a user wrote it."""
    if trainer.command:
        return f"trainer.command=[{', '.join(trainer.command)}]"
    return f"trainer.target={trainer.target!r}"


def code_name(trainer: TrainerSpec) -> str:
    """The file's name."""
    if trainer.command:
        named = (w for w in trainer.command if "." in w and not w.startswith("-") and "{" not in w)
        return PurePosixPath(next(named, trainer.command[0])).name
    return trainer.target.partition(":")[0].rpartition(".")[2] + ".py"
