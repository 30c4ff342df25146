"""Whose ``sweeps``, ``trainers``, ``orchestrator`` and ``analysis`` Python finds: a user's folder or module
may be called so too, and of two of one name a process imports one.

Standard library only. The package ``emsweep`` loads this file by its path, before it is known whose
``sweeps`` an import would find.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

MARKS = {
    "sweeps": "spec/run_spec.py",
    "trainers": "protocol.py",
    "orchestrator": "store/layout.py",
    "analysis": "sweep.py",
}
"""Our packages, and a file in each that tells it from another of the name."""

OF_WORKERS = ("sweeps", "trainers", "orchestrator")
"""Those that a worker needs: of ``analysis`` it may import the user's."""

ROOT = Path(__file__).resolve().parents[1]
"""Folder that holds our packages."""

FIX = "rename it, or start where it is not on Python's path"


_ASIDE: dict[str, ModuleType] = {}
"""Modules of ours that are not among Python's, because a user's package has the name of theirs."""


class CollisionError(ImportError):
    """A user's module has the name of one of our packages, and was imported before it."""


def collisions(names: Sequence[str] = tuple(MARKS)) -> dict[str, str]:
    """Those of our names that something else has earlier on Python's path, and where that is."""
    return {name: place for name in names if (place := _place_of_other(name))}


def claim(names: Sequence[str] = tuple(MARKS)) -> list[str]:
    """Make sure that our packages are imported by these names, and say what is passed over for them.

    Raises:
        CollisionError: when another module of such a name is imported already.
    """
    for name in names:
        module = sys.modules.get(name)
        if module is not None and not _is_ours(name, module):
            raise CollisionError(
                f"{_place_of(module)}: has the name of one of emsweep's packages, {name}, and was imported "
                f"first; {FIX}"
            )
    found = collisions(names)
    if found and not any(isinstance(finder, _OursFirst) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OursFirst(names))
    return [passed_over(name, place) for name, place in found.items()]


def passed_over(name: str, place: str) -> str:
    """What to say of a user's module that ours stands before."""
    return f"{place}: is passed over, for emsweep has a package {name} of its own; {FIX}"


def explained(error: ImportError) -> str:
    """What an import error in a user's code may be about: that ours was imported for theirs; or nothing."""
    name = (error.name or "").partition(".")[0]
    if name not in MARKS:
        return ""
    places = (place for home in map(_resolved, sys.path) if (place := _other_in(home, name)))
    return next((passed_over(name, str(place)) for place in places), "")


def import_aside(name: str) -> ModuleType:
    """One of our modules, without taking its package's name from the user's that is imported or found by it.

    Only for modules that import at their top alone: what they import later would be the user's.
    """
    package = name.partition(".")[0]
    module = sys.modules.get(package)
    if name in _ASIDE:
        return _ASIDE[name]
    if (module is None or _is_ours(package, module)) and not collisions([package]):
        return importlib.import_module(name)
    theirs = {key: sys.modules.pop(key) for key in list(sys.modules) if _is_inside(key, package)}
    finder = _OursFirst([package])
    sys.meta_path.insert(0, finder)
    try:
        _ASIDE[name] = importlib.import_module(name)
        return _ASIDE[name]
    finally:
        sys.meta_path.remove(finder)
        for key in [key for key in sys.modules if _is_inside(key, package)]:
            del sys.modules[key]
        sys.modules.update(theirs)


def give_way(name: str) -> None:
    """Let a user's module of this name, wherever on Python's path it is, be found before ours, which this
    process does not need.
    """
    if name not in sys.modules:
        sys.meta_path.insert(0, _TheirsFirst(name))


class _TheirsFirst:
    """Finds a user's module before our package of its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        home = next((home for home in map(_resolved, sys.path) if _other_in(home, name)), None)
        return None if home is None else PathFinder.find_spec(name, [str(home)])


class _OursFirst:
    """Finds some of our packages before whatever else has their names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self._names:
            return None
        homes = (Path(p or ".") for p in sys.path)
        home = next((home for home in homes if (home / name / MARKS[name]).is_file()), ROOT)
        return PathFinder.find_spec(name, [str(home)])


def _place_of_other(name: str) -> str:
    """What has a name of ours on Python's path before ours; a folder without ``__init__.py`` counts too,
    though Python takes ours for it.
    """
    for home in map(_resolved, sys.path):
        if (home / name / MARKS[name]).is_file():
            return ""
        if place := _other_in(home, name):
            return str(place)
    return ""


def _other_in(home: Path, name: str) -> Path | None:
    """A package, module or folder of modules of this name in a folder, unless it is ours."""
    folder, module = home / name, home / f"{name}.py"
    if (folder / MARKS[name]).is_file():
        return None
    if (folder / "__init__.py").is_file():
        return folder
    if module.is_file():
        return module
    return folder if next(folder.glob("*.py"), None) is not None else None


def _resolved(entry: str) -> Path:
    return Path(entry or ".").resolve()


def _is_ours(name: str, module: ModuleType) -> bool:
    return any((Path(place) / MARKS[name]).is_file() for place in getattr(module, "__path__", ()))


def _place_of(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    if file is None:
        return str(next(iter(getattr(module, "__path__", ())), module.__name__))
    return str(Path(file).parent if Path(file).name == "__init__.py" else file)


def _is_inside(key: str, package: str) -> bool:
    return key == package or key.startswith(f"{package}.")
