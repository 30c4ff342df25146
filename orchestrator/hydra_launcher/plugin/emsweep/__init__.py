"""emsweep in Python: ``from emsweep import open_sweep, report, grid``.

open_sweep    a sweep directory as tables, comparisons and figures (:class:`analysis.sweep.Sweep`)
sweeps        the sweeps of a folder, a row each
report        tells what a run measures at a step, wherever its code is, and hears a :class:`Decision`;
              outside a sweep it does nothing
grid          a sweep from axes in Python: its runs as a table, its plan, its launch
integrations  ``report`` for Hugging Face Trainer and TRL, Lightning and Accelerate

Importing it loads nothing; each name brings what it needs when it is first asked for. A user's own folder
called ``sweeps``, ``trainers``, ``orchestrator`` or ``analysis`` is in nobody's way for ``report``; for the
others it is named in a warning, or in the error if it was imported first (:mod:`sweeps.origins`).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.data.listing import sweeps
    from analysis.sweep import open_sweep
    from emsweep.grids import grid
    from trainers.reporting import Decision, report

    __version__: str

__all__ = ["Decision", "__version__", "grid", "open_sweep", "report", "sweeps"]

_HOMES = {
    "open_sweep": "analysis.sweep",
    "sweeps": "analysis.data.listing",
    "grid": "emsweep.grids",
}
"""Modules of the names that need all of our packages."""


def origins() -> ModuleType:
    """:mod:`sweeps.origins`, loaded by its path: an import might find a user's ``sweeps``."""
    name = "emsweep.origins"
    if name not in sys.modules:
        folders = Path(__file__).resolve().parents
        file = next(f for f in (folder / "sweeps" / "origins.py" for folder in folders) if f.is_file())
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def __getattr__(name: str) -> Any:
    if name in ("Decision", "report"):
        found = getattr(origins().import_aside("trainers.reporting"), name)
    elif name in _HOMES:
        for text in origins().claim():
            warnings.warn(text, stacklevel=2)
        found = getattr(importlib.import_module(_HOMES[name]), name)
    elif name == "__version__":
        from importlib.metadata import version

        found = version("emsweep")
    else:
        raise AttributeError(f"module 'emsweep' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
