"""Which axis matters: shares of the variance of runs by axis, by pair of axes, and by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.data.sweep import SweepData
from analysis.output.table import ReportColumn, ReportTable, percent
from analysis.stats.anova import Decomposition, decompose
from analysis.tables.seed_values import gather
from sweeps.grid.axes import short_names
from sweeps.spec.errors import UserError

SEED_ROW, HIGHER_ROW, NOISE_ROW = "seed (all cells alike)", "higher interactions", "noise within cells"
"""Names of the lines that are no axis."""


def importance(sweep: SweepData, *, metric: str | None = None, max_order: int = 2) -> ReportTable:
    """Return the decomposition of a metric's variance, largest share first, seed and noise last.

    Columns of the frame: ``effect, order, share`` (ω²), ``freedom, p``.

    Raises:
        UserError: for an unknown metric, or when no axis has two values with results.
    """
    metric = sweep.metric(metric)
    gathered = gather(sweep, sweep.cell_keys, metric)
    keep = ~np.isnan(gathered.values).all(axis=1)
    groups, values_CS = gathered.groups[keep], gathered.values[keep]
    axes = [key for key in sweep.cell_keys if groups[key].nunique(dropna=False) > 1]
    if not axes:
        raise UserError("importance needs an axis with two values that have results")
    levels_CA = np.stack([pd.factorize(groups[key], use_na_sentinel=False)[0] for key in axes], axis=1)
    decomposition = decompose(values_CS, levels_CA, max_order)
    short = short_names(axes)
    rows = [
        {
            "effect": " × ".join(short[axes[a]] for a in effect.axes),
            "order": len(effect.axes),
            "share": effect.share,
            "freedom": effect.freedom,
            "p": effect.p,
        }
        for effect in sorted(decomposition.effects, key=lambda e: -e.share)
    ]
    rows += [
        {"effect": name, "order": 0, "share": share, "freedom": np.nan, "p": np.nan}
        for name, share in _rest(decomposition)
    ]
    layout = (
        ReportColumn(header="effect", source="effect"),
        ReportColumn(header="share of variance (ω²), %", source="share", kind="points"),
        ReportColumn(header="df", source="freedom", kind="count"),
        ReportColumn(header="p", source="p", kind="p"),
    )
    missing = int(groups["missing"].sum() + groups["diverged"].sum())
    return ReportTable(
        title=f"What moves {metric}",
        frame=pd.DataFrame(rows),
        layout=layout,
        notes=(*_notes(decomposition, missing, values_CS.shape[1]), *sweep.warnings),
    )


def in_words(table: ReportTable) -> str:
    """One sentence about the result of :func:`importance`: the largest effects, the seed and the noise."""
    shares = table.frame.set_index("effect")["share"]
    largest = table.frame[table.frame["order"] > 0].head(2)
    named = " and ".join(f"{row.effect} {percent(row.share)} %" for row in largest.itertuples())
    text = (
        f"Of the variance between runs, {named}; the seed, in all cells alike, {percent(shares[SEED_ROW])} %"
    )
    noise = shares[NOISE_ROW]
    return f"{text}; noise within cells {percent(noise)} %." if noise == noise else f"{text}."


def _rest(decomposition: Decomposition) -> list[tuple[str, float]]:
    rest = [(SEED_ROW, decomposition.seed_share), (NOISE_ROW, decomposition.noise_share)]
    return rest if not decomposition.higher_share else [(HIGHER_ROW, decomposition.higher_share), *rest]


def _notes(decomposition: Decomposition, missing: int, seeds: int) -> tuple[str, ...]:
    method = (
        "Exact functional ANOVA of the full factorial"
        if decomposition.balanced
        else "Incomplete grid: type-II least squares, each effect after all others that do not contain it"
    )
    if not decomposition.balanced and decomposition.max_order < 2:
        method += " (main effects only: the interactions are too many to fit)"
    notes = [
        f"{method}; {decomposition.num_runs:,} runs, {seeds} seeds crossed with all cells. ω² is corrected "
        "for noise, so that an axis without effect has 0 on average; a small negative share means none.",
    ]
    if np.isnan(decomposition.noise_share):
        notes.append("One seed: noise cannot be told from effects; shares are upper bounds.")
    if missing:
        notes.append(f"Rule: {missing:,} diverged or missing runs have no value and are left out.")
    return tuple(notes)
