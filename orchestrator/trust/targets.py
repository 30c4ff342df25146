"""Whether the trainers that a sweep names are there; nothing is imported to tell."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

import numpy as np

from orchestrator.worker.process_env import outside, own_import_path
from sweeps.manifest.manifest import Manifest
from sweeps.spec import nearest
from sweeps.spec.errors import UserError


def require_targets(manifest: Manifest, root: Path | None = None) -> None:
    """Refuse a sweep with a trainer that the workers would not find.

    Args:
        root: the sweep directory, in which no code is looked for.

    Raises:
        UserError: naming the target and what mends it.
    """
    _, firsts = np.unique(manifest.group_codes["trainer"], return_index=True)
    for index in sorted(firsts.tolist()):
        _require_present(manifest.group("trainer", index).target, root)


def _require_present(target: str, root: Path | None) -> None:
    module, _, name = target.rpartition(".")
    if not module:
        raise UserError(f"trainer.target={target!r}: is no path; give module.Class")
    module_spec = _locate(module, root)
    if module_spec is None:
        raise UserError(
            f"trainer.target={target!r}: there is no module {module!r}; install it, put it on PYTHONPATH, or "
            "launch from the folder that holds it"
        )
    if module_spec.origin is None or not module_spec.origin.endswith(".py"):
        return
    names = _top_level_names(Path(module_spec.origin))
    if names is not None and name not in names:
        raise UserError(f"trainer.target={target!r}: {module} has no {name!r}{nearest(name, names)}")


def _locate(module: str, root: Path | None) -> ModuleSpec | None:
    """Where a module lies, as the workers will look for it."""
    places: Sequence[str] | None = [*outside(sys.path, root), *own_import_path(root)]
    module_spec: ModuleSpec | None = None
    for part in module.split("."):
        module_spec = PathFinder.find_spec(part, places)  # the last name alone: no parent is imported
        if module_spec is None:
            return None
        places = list(module_spec.submodule_search_locations or ())
    return module_spec


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
