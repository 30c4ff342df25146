"""Code that runs name: the file of a function, the script of a command. Found and hashed, never imported.

What a run computes is decided by that file, so its SHA-256 is part of the run's identity; where the file lies
is not. A file is looked for where the sweep file is that names it, then as Python looks for modules, then in
the current folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sweeps.manifest.data_files import file_digest
from sweeps.spec import SpecError, TrainerSpec

FUNCTION = "train:train"
"""What a function's name looks like, for messages."""


def resolve_trainer(config: dict[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Find and hash the code that a trainer's configuration names.

    Args:
        config: the group ``trainer``.
        folder: of the sweep file, where there is one.

    Raises:
        SpecError: for code that is not there.
    """
    for key in ("digest", "folder"):
        if config.get(key):
            raise SpecError(
                f"trainer.{key}={config[key]!r}: is filled in when runs are asked for; leave it out"
            )
    target = str(config.get("target") or "")
    if not target:
        raise SpecError(
            f"trainer.target: is empty; name the function, such as {FUNCTION} for train() in train.py"
        )
    if ":" in target:
        return config | _function(target, folder)
    return config


def _function(target: str, folder: Path | None) -> dict[str, Any]:
    module, _, name = target.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise SpecError(
            f"trainer.target={target!r}: names no function; write module:function, such as {FUNCTION}"
        )
    places = search_path(folder)
    found = module_file(module, places)
    if found is None:
        where = f"{places[0]} nor on the import path" if folder else "this folder nor on the import path"
        raise SpecError(
            f"trainer.target={target!r}: there is no {module.replace('.', '/')}.py, neither in {where}; put "
            "it beside the sweep file, or launch from the folder that holds it"
        )
    place, file = found
    return {"folder": str(place), "digest": file_digest(file)}


def search_path(folder: Path | None) -> list[Path]:
    """Folders in which a function's module is looked for, in order."""
    given = [folder] if folder else []
    return list(dict.fromkeys(p.absolute() for p in [*given, *(Path(p) for p in sys.path), Path.cwd()]))


def module_file(module: str, places: Iterable[Path]) -> tuple[Path, Path] | None:
    """The folder and the file of a module, by the names of files alone."""
    for place in places:
        stem = place.joinpath(*module.split("."))
        for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if file.is_file():
                return place, file
    return None


def code_file(trainer: TrainerSpec) -> Path | None:
    """The file that a resolved trainer's digest is of, as it lies now; ``None`` where it is gone."""
    module = trainer.target.partition(":")[0]
    found = module_file(module, [Path(trainer.folder)])
    return found[1] if found else None


def is_function(trainer: TrainerSpec) -> bool:
    """Whether a trainer's target names a function."""
    return ":" in trainer.target
