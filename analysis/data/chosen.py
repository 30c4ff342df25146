"""What readers of any table must know of sweeps whose runs were chosen by their results."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.data.race import told_race
from analysis.data.search import told_search
from analysis.data.source import Source
from sweeps.spec.prune_rules import prune_of


def told_chosen(sources: Sequence[Source]) -> list[str]:
    """Sentences about races, searches and early stopping among the sweeps; none for grids that ran whole."""
    return [*told_race(sources), *told_search(sources), *_told_pruned(sources)]


def _told_pruned(sources: Sequence[Source]) -> list[str]:
    specs = [spec for source in sources if (spec := prune_of(source.header.get("options") or {}))]
    if not specs:
        return []
    return [
        f"Runs that did badly early were stopped (prune={specs[0].kind}) and have no value at the end: a "
        "mean is over the runs that were let go on, and is the better for it."
    ]
