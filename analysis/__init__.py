"""What it means: run tables in pandas, statistics that tell luck from effect, figures and reports.

Start with ``from analysis import open_sweep; sweep = open_sweep("outputs/quickstart")``.

Glossary
--------
Metric     a numeric column of ``runs()``, such as ``accuracy_sampled``.
Gain       a metric minus the base model's, paired: same items, same evaluation noise.
Group      the cells that share the values of the axes a table is made by.
IQM        interquartile mean: the mean of the middle half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.data.sweep import Sweep, open_sweep

__all__ = ["Sweep", "open_sweep"]


def __getattr__(name: str) -> Any:
    """Import the data libraries when they are first needed."""
    if name in __all__:
        from analysis.data import sweep

        return getattr(sweep, name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
