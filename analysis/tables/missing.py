"""What tables say of runs without a value: how many, why, and which rows they make incomparable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.sweep import SweepData
from analysis.tables.seed_values import SeedValues
from sweeps.spec.errors import UserError
from sweeps.spec.text import counted

MAX_NAMED = 6
"""Rows that a note names."""


def require_runs(sweep: SweepData) -> None:
    """Raise unless any run is left to speak of.

    Raises:
        UserError: naming the filters and what there is.
    """
    if not len(sweep.columns()):
        counts = type(sweep).open(*sweep.directories).counts()
        there = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(counts.items())) or "no runs"
        raise UserError(f"no run matches {' '.join(sweep.filters) or 'an empty manifest'}; there are {there}")


def what_is_missing(frame: pd.DataFrame) -> str:
    """How many of the runs have a value, and why the others have none."""
    total, none = int(frame["expected"].sum()), int((frame["expected"] - frame["valued"]).sum())
    if not none:
        return f"All {counted(total, 'run')} have one."
    return (
        f"Of {counted(total, 'run')} {none:,} have none ({why_missing(frame)}): they are counted, not "
        "imputed, and a row's mean is that of its other runs."
    )


def why_missing(frame: pd.DataFrame) -> str:
    """``4 diverged, 1 failed``: what came of the runs without a value."""
    none = int((frame["expected"] - frame["valued"]).sum())
    failed = min(none, int(frame["failed"].sum()))
    diverged = min(none - failed, int(frame["diverged"].sum()))
    skipped = min(none - failed - diverged, int(frame["skipped"].sum()))
    stopped = min(none - failed - diverged - skipped, int(frame["stopped"].sum()))
    left = none - failed - diverged - skipped - stopped
    parts = (
        *((diverged, "diverged"), (failed, "failed"), (skipped, "not needed by the race")),
        (stopped, "stopped early"),
        (left, "not finished or without a value"),
    )
    return ", ".join(f"{n:,} {word}" for n, word in parts if n)


def fewer_cells(gathered: SeedValues, by: Sequence[str]) -> list[str]:
    """Rows that average fewer cells than they have, because no run of some has a value."""
    columns = gathered.columns
    cells = columns.group(columns.cell_keys)
    valued = np.bincount(cells.number, weights=~np.isnan(columns.metric(gathered.metric))) > 0
    group_of_cell = columns.group(by).number[cells.members()]
    num_valued = np.bincount(group_of_cell, weights=valued, minlength=len(gathered.groups)).astype(int)
    num_cells = gathered.groups["num_cells"].to_numpy()
    short = np.flatnonzero((num_valued < num_cells) & (num_valued > 0))
    if not len(short):
        return []
    labels = [cell_label(gathered.groups[by].iloc[row].to_dict()) or "all" for row in short[:MAX_NAMED]]
    named = [
        f"{text} ({num_valued[row]} of {num_cells[row]})"
        for text, row in zip(labels, short[:MAX_NAMED], strict=True)
    ]
    more = f" and {len(short) - MAX_NAMED:,} more" if len(short) > MAX_NAMED else ""
    return [
        f"Rows of fewer cells than asked for, whose means are not comparable with the others': "
        f"{', '.join(named)}{more}."
    ]


def without_base(gathered: SeedValues, gain: str | None) -> list[str]:
    """What is said where fewer runs have a gain than a value."""
    if gain is None:
        return []
    columns = gathered.columns
    has_value = ~np.isnan(columns.metric(gathered.metric))
    lacking = int((has_value & np.isnan(columns.metric(gain))).sum())
    if not lacking:
        return []
    runs = f"{counted(lacking, 'run')} of {int(has_value.sum()):,}"
    return [f"{runs} have no base to gain over: gains leave them out."]
