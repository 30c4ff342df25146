"""Imports a function from the very file that was hashed when its runs were asked for.

Another file of the same name would pass off its results as those of the first, so the file is named by its
folder, and its bytes are compared before it runs. Folders of users come last on the import path: what lies
beside the file can be imported, and replaces nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeps.manifest.code_files import code_files
from sweeps.manifest.data_files import file_digest
from sweeps.spec import SpecError, TrainerSpec, nearest


def import_function(trainer: TrainerSpec) -> Callable[..., Any]:
    """Import the function that ``module:function`` names.

    Raises:
        SpecError: when it is not there, or its file is not the one that was hashed; besides, whatever the
            module raises.
    """
    module_name, _, name = trainer.target.partition(":")
    module = _imported(module_name, trainer)
    try:
        return getattr(module, name)
    except AttributeError:
        raise SpecError(
            f"trainer.target={trainer.target!r}: {module.__file__} has no "
            f"{name!r}{nearest(name, vars(module))}"
        ) from None


def _imported(name: str, trainer: TrainerSpec) -> ModuleType:
    file = next(iter(code_files(trainer)), None)
    if file is not None:
        _require_hashed(trainer, file)  # before any of it runs
        if trainer.folder not in sys.path:
            sys.path.append(trainer.folder)
        if name not in sys.modules and "." not in name:
            return _load(name, file)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise SpecError(
            f"trainer.target={trainer.target!r}: there is no module {name!r} in {trainer.folder}"
        ) from None
    origin = Path(module.__file__) if module.__file__ else None
    if origin is None or (file is not None and not origin.samefile(file)):
        raise SpecError(
            f"trainer.target={trainer.target!r}: another module {name!r} is in use ({origin}); rename {file}"
        )
    _require_hashed(trainer, origin)
    return module


def _load(name: str, file: Path) -> ModuleType:
    """Import a file as a module of this name, whatever lies earlier on the import path."""
    module_spec = importlib.util.spec_from_file_location(name, file)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _require_hashed(trainer: TrainerSpec, file: Path) -> None:
    if file_digest(file) != trainer.digest:
        raise SpecError(
            f"trainer.target={trainer.target!r}: {file} has changed since its runs were asked for; launch "
            "the sweep again, which adds runs of the file as it is now, or put it back"
        )
