"""Whether the code that a sweep names may be run, and whether it is there; nothing is imported to tell.

A configuration file can come from anywhere, and ``trainer.target`` makes a worker import what it names. So a
file may only name our own trainers. Others need a word of whoever launches: the target itself on the command
line, ``--allow-target PACKAGE``, or the variable ``EMSWEEP_ALLOW_TARGETS`` with packages parted by commas.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

import numpy as np

from orchestrator.worker.process_env import own_import_path
from sweeps.manifest.manifest import Manifest
from sweeps.spec import nearest
from sweeps.spec.errors import UserError

OWN_PACKAGES = ("trainers",)
"""Packages whose trainers any configuration may name."""

VARIABLE = "EMSWEEP_ALLOW_TARGETS"
"""Further packages, parted by commas."""


def check_targets(
    manifest: Manifest, allowed: Sequence[str] = (), environment: Mapping[str, str] = os.environ
) -> None:
    """Refuse a sweep whose trainers are not allowed or not there.

    Args:
        manifest: the runs, with the words of the command line that asked for them.
        allowed: packages that the caller trusts.
        environment: where :data:`VARIABLE` is looked up.

    Raises:
        UserError: naming the target and what mends it.
    """
    said = {word.lstrip("+").partition("=")[2] for word in manifest.overrides if _names_target(word)}
    named = {part for values in said for part in values.split(",")}
    further = [part.strip() for part in environment.get(VARIABLE, "").split(",")]
    packages = [p for p in (*OWN_PACKAGES, *allowed, *further) if p]
    _, firsts = np.unique(manifest.group_codes["trainer"], return_index=True)
    for index in sorted(firsts.tolist()):
        target = manifest.group("trainer", index).target
        if target not in named and not any(target == p or target.startswith(f"{p}.") for p in packages):
            raise UserError(
                f"trainer.target={target!r}: a configuration file names code outside "
                f"{', '.join(OWN_PACKAGES)}; if you trust it, add --allow-target {target.split('.')[0]}"
            )
        _require_present(target)


def _names_target(word: str) -> bool:
    return word.lstrip("+").startswith(("trainer.target=", "trainer._target_="))


def _require_present(target: str) -> None:
    module, _, name = target.rpartition(".")
    if not module:
        raise UserError(f"trainer.target={target!r}: is no path; give module.Class")
    found = _locate(module)
    if found is None:
        raise UserError(
            f"trainer.target={target!r}: there is no module {module!r}; install it, put it on PYTHONPATH, or "
            "launch from the folder that holds it"
        )
    if found.origin is None or not found.origin.endswith(".py"):
        return
    names = _top_level_names(Path(found.origin))
    if names is not None and name not in names:
        raise UserError(f"trainer.target={target!r}: {module} has no {name!r}{nearest(name, names)}")


def _locate(module: str) -> ModuleSpec | None:
    """Where a module lies, as the workers will look for it."""
    places: Sequence[str] | None = [*sys.path, *own_import_path()]
    found: ModuleSpec | None = None
    for part in module.split("."):
        found = PathFinder.find_spec(part, places)  # the last name alone: no parent is imported
        if found is None:
            return None
        places = list(found.submodule_search_locations or ())
    return found


def _top_level_names(file: Path) -> set[str] | None:
    """Names that a module's text binds, or ``None`` when its text does not tell."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None  # the worker's own error says more
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom() if any(alias.name == "*" for alias in node.names):
                return None
            case ast.FunctionDef(name="__getattr__"):
                return None
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names
