"""What readers of any table must know of sweeps whose runs were chosen by their results."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.data.race import told_race
from analysis.data.search import told_search
from analysis.data.source import Source


def told_chosen(sources: Sequence[Source]) -> list[str]:
    """Sentences about races and searches among the sweeps; none for grids that were run whole."""
    return [*told_race(sources), *told_search(sources)]
