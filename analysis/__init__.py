"""What it means: run tables in pandas, statistics that tell luck from effect, figures and reports.

Start with ``from analysis import open_sweep; sweep = open_sweep("outputs/quickstart")``. The rooms, each of
which imports only those below it:

dashboard · report · sweep    what is opened: pages, one document, the object of a notebook
findings                      questions answered
tables                        cells, comparisons, what matters
output                        how tables and figures are written
data · stats                  a directory as arrays and frames; statistics of arrays

Glossary
--------
Metric     a numeric column of ``runs()``, such as ``accuracy_sampled``.
Gain       a metric minus the base model's, paired: same items, same evaluation noise.
Group      the cells that share the values of the axes a table is made by.
Mean       over seeds, by the one estimator of :mod:`analysis.stats.seed_means`.
IQM        interquartile mean: the mean of the middle half.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.data.listing import sweeps
    from analysis.findings import find
    from analysis.sweep import Sweep, open_sweep
    from analysis.tables.adjusted import adjusted_means
    from analysis.tables.best_cells import best_cells
    from analysis.tables.compare import compare
    from analysis.tables.importance import importance
    from analysis.tables.need import what_to_add
    from analysis.tables.pooled import pooled_cells
    from analysis.tables.profile import profile
    from analysis.tables.survivors import survivor_bounds

__all__ = [
    "Sweep",
    "open_sweep",
    "sweeps",
    "best_cells",
    "compare",
    "find",
    "importance",
    "adjusted_means",
    "pooled_cells",
    "profile",
    "survivor_bounds",
    "what_to_add",
]

_HOMES = {
    "Sweep": "analysis.sweep",
    "open_sweep": "analysis.sweep",
    "sweeps": "analysis.data.listing",
    "adjusted_means": "analysis.tables.adjusted",
    "pooled_cells": "analysis.tables.pooled",
    "profile": "analysis.tables.profile",
    "survivor_bounds": "analysis.tables.survivors",
    "what_to_add": "analysis.tables.need",
    "best_cells": "analysis.tables.best_cells",
    "compare": "analysis.tables.compare",
    "find": "analysis.findings",
    "importance": "analysis.tables.importance",
}
"""Modules of the names above; they load the data libraries and are imported when first asked for."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
